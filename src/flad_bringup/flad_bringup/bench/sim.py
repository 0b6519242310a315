# SPDX-License-Identifier: Apache-2.0
"""How fast the world runs: four cameras of 400x300, a 64-channel LiDAR, 60 actors by SUMO.

The rates are what the real client gets over the real protocol, ticking as fast as it can and
waiting for every sensor of every frame. The parts are taken from the same world stepped inside this
process. CARLA itself is not measured (it needs a GPU); the one baseline is embreex's own binding,
tracing the same cameras' rays at the same town.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from flad_bringup.bench.rows import Row
from flad_bringup.bench.sim_parts import part_rows
from flad_carla.rig import Rig, SensorSpec
from flad_carla.session import CarlaSession, SessionConfig
from flad_common.frames import CarlaPose
from flad_common.ports import free_ports
from flad_common.supervision import Supervisor

SUMMARY = "speed of the world with cameras, LiDAR and traffic, and of its parts"
MINUTES = 1.5

NUM_ACTORS = 60
DELTA_S = 0.05
_WARM_TICKS = 40
_START_DEADLINE_S = 300.0  # the first start compiles kernels and may build the town
_CAMERA = {"image_size_x": 400, "image_size_y": 300, "fov": 100.0}
_LIDAR = {
    "channels": 64,
    "range": 85.0,
    "rotation_frequency": 10.0,
    "points_per_second": 600_000,
    "upper_fov": 10.0,
    "lower_fov": -30.0,
}
RIG = Rig(
    description="four cameras around, one LiDAR on the roof",
    sensors=(
        *(
            SensorSpec(
                id=f"rgb_{name}",
                type="sensor.camera.rgb",
                pose=CarlaPose(x_m=-1.3 if name == "rear" else 1.3, z_m=2.3, yaw_deg=yaw_deg),
                attributes=_CAMERA,
            )
            for name, yaw_deg in (("front", 0.0), ("left", -60.0), ("right", 60.0), ("rear", 180.0))
        ),
        SensorSpec(
            id="lidar",
            type="sensor.lidar.ray_cast",
            pose=CarlaPose(x_m=1.3, z_m=2.5),
            attributes=_LIDAR,
        ),
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("--town", default="Grid", help="town (default: %(default)s)")
    parser.add_argument(
        "--ticks", type=int, default=300, help="frames with sensors (default: %(default)s)"
    )


def measure(args: argparse.Namespace) -> list[Row]:
    """Drive a served world from a client, then step its parts here."""
    with _served_world(args) as session:
        with_sensors = _ticks_per_second(session, RIG, args.ticks)
        without = _ticks_per_second(session, Rig(description="no sensors"), 6 * args.ticks)
    return [
        Row(
            name="sim_realtime_with_sensors",
            value=statistics.fmean(with_sensors) * DELTA_S,
            unit="s/s",
            bar=1.0,
        ),
        Row(
            name="sim_realtime_without_sensors",
            value=statistics.fmean(without) * DELTA_S,
            unit="s/s",
            bar=20.0,
        ),
        *part_rows(args.town, args.seed, NUM_ACTORS, RIG, DELTA_S),
    ]


@contextmanager
def _served_world(args: argparse.Namespace) -> Iterator[CarlaSession]:
    port = free_ports(2).start
    command = [sys.executable, "-m", "flad_sim", "--town", args.town, "--port", str(port)]
    command += ["--seed", str(args.seed), "--traffic", str(NUM_ACTORS)]
    with TemporaryDirectory() as folder, Supervisor(Path(folder)) as supervisor:
        child = supervisor.start("flad_sim", command)
        supervisor.wait_until(
            lambda: "listening on" in child.log_file.read_text(errors="replace"),
            what="flad_sim listening",
            deadline_s=_START_DEADLINE_S,
        )
        with CarlaSession(SessionConfig(port=port)) as session:
            session.go_synchronous()
            yield session


def _ticks_per_second(session: CarlaSession, rig: Rig, num_ticks: int) -> list[float]:
    """Rates of five equal stretches."""
    session.tick()
    _spawn_somewhere(session, rig)
    for _ in range(_WARM_TICKS):
        session.tick()
    rates = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(num_ticks // 5):
            session.tick()
        rates.append(num_ticks // 5 / (time.perf_counter() - began))
    session.destroy_egos()
    return rates


def _spawn_somewhere(session: CarlaSession, rig: Rig) -> None:
    """At the first spawn point that the traffic leaves free."""
    refused: Exception | None = None
    for place in session.map.get_spawn_points():
        try:
            session.spawn_ego("bench", place, rig)
        except Exception as error:  # any refusal means: try the next place
            refused = error
        else:
            return
    raise RuntimeError(f"no spawn point of the town is free; the last refusal: {refused}")
