# SPDX-License-Identifier: Apache-2.0
"""A running world and the real client.

The client's process can abort when it ends while a free-running world streams to it, so the worlds
here are synchronous from the first call on; tests of the free-running world and of TrafficManager
run their client in a process of its own (``run_client``).
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from contract.carla_world import CarlaWorld, SimProcess

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimProcess]:
    """A world without traffic that every test of the session shares."""
    with SimProcess(tmp_path_factory.mktemp("sim"), "--town", "Grid", "--seed", "1") as process:
        yield process


@pytest.fixture
def start_sim(tmp_path: Path) -> Iterator[Callable[..., SimProcess]]:
    """Starts worlds of a test's own."""
    started: list[SimProcess] = []

    def start(*options: str) -> SimProcess:
        started.append(SimProcess(tmp_path / f"sim_{len(started)}", *options))
        return started[-1].__enter__()

    yield start
    for process in reversed(started):
        process.__exit__(None, None, None)


@pytest.fixture(scope="session")
def connection(sim: SimProcess) -> CarlaWorld:
    """The real client, its world in synchronous mode at 20 Hz."""
    return CarlaWorld(sim.port)


@pytest.fixture
def carla_world(connection: CarlaWorld) -> Iterator[CarlaWorld]:
    """The same, without what the test has spawned when it is over."""
    yield connection
    connection.clear()


@pytest.fixture
def run_client() -> Callable[..., str]:
    """Runs lines of Python with ``world`` and ``client`` in a process that ends by os._exit."""

    def run(port: int, script: str, timeout_s: float = 120.0, attempts: int = 1) -> str:
        head = f"""
            import os, sys, time, queue, carla
            client = carla.Client("127.0.0.1", {port})
            client.set_timeout(60.0)
            world = client.get_world()
        """
        tail = "sys.stdout.flush()\nos._exit(0)\n"
        text = textwrap.dedent(head) + textwrap.dedent(script) + tail
        for attempt in range(1, attempts + 1):
            try:
                done = subprocess.run(
                    [sys.executable, "-c", text],
                    capture_output=True,
                    text=True,
                    timeout=timeout_s,
                    check=False,
                )
                break
            except subprocess.TimeoutExpired:
                if attempt == attempts:
                    raise
        assert done.returncode == 0, f"client ended with {done.returncode}:\n{done.stderr}"
        return done.stdout

    return run
