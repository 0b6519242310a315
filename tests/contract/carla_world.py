# SPDX-License-Identifier: Apache-2.0
"""What the contract tests hold in their hands: a server process, and a client in its world."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import carla

START_S = 120.0  # the first start compiles kernels and makes the towns
DELTA_S = 0.05


class SimProcess:
    """``python -m flad_sim`` on a free port, until the block is left."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / "log.txt"
        self._options = options
        self.port = 0

    def __enter__(self) -> SimProcess:
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flad_sim", "--port", "0", *self._options],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        deadline = time.monotonic() + START_S
        while self.port == 0:
            assert self.process.poll() is None, f"the server ended:\n{self.log}"
            assert time.monotonic() < deadline, f"the server did not listen:\n{self.log}"
            if found := re.search(r"listening on \S+:(\d+)", self.log):
                self.port = int(found.group(1))
            time.sleep(0.05)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    @property
    def log(self) -> str:
        """Everything it has said so far."""
        return self.log_path.read_text() if self.log_path.exists() else ""


class CarlaWorld:
    """The client and its world, synchronous at 20 Hz, with short words for what tests repeat."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.client = carla.Client("127.0.0.1", port)
        self.client.set_timeout(60.0)
        self.world = self.client.get_world()
        self.synchronize()
        self._spawned: list[Any] = []

    def synchronize(self) -> None:
        """Only ticks move the world from now on."""
        settings = self.world.get_settings()
        settings.synchronous_mode = True
        settings.fixed_delta_seconds = DELTA_S
        self.world.apply_settings(settings)
        self.map = self.world.get_map()
        self.library = self.world.get_blueprint_library()

    def clear(self) -> None:
        """Destroy what was spawned here, the last first."""
        for actor in reversed(self._spawned):
            if actor.is_alive:
                actor.destroy()
        self._spawned.clear()
        self.world.set_weather(carla.WeatherParameters.ClearNoon)
        self.world.tick()

    def spawn(
        self,
        blueprint: str,
        at: Any = None,
        *,
        on: Any = None,
        **attributes: object,
    ) -> Any:
        """Spawn at a pose (the 11th spawn point by default), or mount on another actor."""
        definition = self.library.find(blueprint)
        for name, value in attributes.items():
            definition.set_attribute(name, str(value))
        if at is None:
            at = carla.Transform() if on is not None else self.map.get_spawn_points()[10]
        actor = self.world.spawn_actor(definition, at, attach_to=on)
        self._spawned.append(actor)
        return actor

    def car(self, at: Any = None, **attributes: object) -> Any:
        """The default vehicle, standing on its wheels."""
        vehicle = self.spawn("vehicle.lincoln.mkz_2020", at, **attributes)
        self.tick(10)
        return vehicle

    def tick(self, count: int = 1) -> int:
        """Advance and return the number of the last frame."""
        frame = 0
        for _ in range(count):
            frame = self.world.tick()
        return frame

    def listen(self, sensor: Any) -> Callable[[], Any]:
        """A function that ticks and returns what ``sensor`` measured in that very frame."""
        inbox: queue.Queue[Any] = queue.Queue()
        sensor.listen(inbox.put)

        def measure() -> Any:
            frame = self.world.tick()
            while True:
                data = inbox.get(timeout=30.0)
                if data.frame == frame:
                    return data

        return measure


def transform(x: float, y: float, z: float = 0.0, yaw: float = 0.0, pitch: float = 0.0) -> Any:
    """A pose."""
    return carla.Transform(carla.Location(x, y, z), carla.Rotation(pitch=pitch, yaw=yaw))


def speed(actor: Any) -> float:
    """Speed over ground, m/s."""
    v = actor.get_velocity()
    return float((v.x**2 + v.y**2) ** 0.5)
