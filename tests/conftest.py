# SPDX-License-Identifier: Apache-2.0
"""What several packages' tests share: isolation, free ports, a running world, named skips."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from flad_bringup.environment import test_variables, this_machine_only, variables
from flad_bringup.workspace import find_workspace
from flad_common.ports import free_ports as find_free_ports
from flad_common.supervision import Supervisor

WORKSPACE = find_workspace(Path(__file__))
_SIM_DEADLINE_S = 120.0
# DDS derives UDP ports from the domain; above 101 they collide with ephemeral ones on Linux.
_DOMAINS = range(1, 102)

_domain_lock: IO[str] | None = None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("carla_towns", "folder with CARLA's Town01 and Town02", default="")
    parser.addoption("--carla-server", metavar="HOST:PORT", help="a real CARLA 0.9.16 server")


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module, and so before rclpy: it reads these when it is imported."""
    os.environ.update(variables(WORKSPACE, os.environ))
    os.environ.update(this_machine_only(os.environ))
    os.environ.update(test_variables())
    os.environ["ROS_DOMAIN_ID"] = str(_claim_domain())


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The only place that skips a test: for what CI cannot have, named in allowed_skips.txt."""
    if item.get_closest_marker("needs_carla_towns") and carla_towns_folder(item.config) is None:
        pytest.skip("CARLA's towns are not here")
    if item.get_closest_marker("needs_carla_server") and not item.config.getoption(
        "--carla-server"
    ):
        pytest.skip("no --carla-server was given")
    if item.get_closest_marker("needs_ros_install") and "ROS_DISTRO" not in os.environ:
        pytest.skip("no ROS 2 is installed and sourced")
    if item.get_closest_marker("needs_network_namespaces") and not (
        os.geteuid() == 0 and shutil.which("ip") and Path("/dev/net/tun").exists()
    ):
        pytest.skip("network namespaces need root, iproute2 and /dev/net/tun")


def carla_towns_folder(config: pytest.Config) -> Path | None:
    """Where CARLA's own towns lie, if they are on this machine."""
    told = str(config.getini("carla_towns"))
    folder = Path(told) if told else WORKSPACE.root.parent / "shared/towns"
    return folder if (folder / "Town01.xodr").is_file() else None


def _claim_domain() -> int:
    """A ROS domain that no other test process on this machine uses, for as long as we live."""
    global _domain_lock
    for domain in _DOMAINS:
        lock = open(Path(tempfile.gettempdir()) / f"flad-test-domain-{domain}", "w")  # noqa: SIM115
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        _domain_lock = lock
        return domain
    raise pytest.UsageError(f"{len(_DOMAINS)} other test processes hold every ROS domain")


@pytest.fixture(scope="session")
def workspace():
    """The folders of this checkout."""
    return WORKSPACE


@pytest.fixture
def free_ports() -> Callable[..., range]:
    """``free_ports(count)``: ports in a row that are free now."""
    return find_free_ports


@pytest.fixture(scope="session")
def carla_towns(pytestconfig: pytest.Config) -> Path:
    """Folder of Town01 and Town02; mark the test ``needs_carla_towns``."""
    folder = carla_towns_folder(pytestconfig)
    assert folder is not None, "mark this test with needs_carla_towns"
    return folder


@dataclass(frozen=True)
class SimServer:
    """A running flad_sim."""

    host: str
    port: int
    log_file: Path
    pid: int


@pytest.fixture
def sim_server(tmp_path: Path) -> Iterator[Callable[..., SimServer]]:
    """``sim_server(*arguments)`` starts ``python -m flad_sim`` and returns when it answers.

    Example: ``server = sim_server("--town", "Grid", "--traffic", "5", "--seed", "3")``.
    """
    with Supervisor(tmp_path / "logs") as supervisor:

        def start(*arguments: object) -> SimServer:
            port = find_free_ports(3).start
            child = supervisor.start(
                f"flad_sim_{port}",
                [sys.executable, "-m", "flad_sim", "--port", str(port), *map(str, arguments)],
            )
            supervisor.wait_until(
                lambda: "listening on" in child.log_file.read_text(errors="replace"),
                what="flad_sim listening",
                deadline_s=_SIM_DEADLINE_S,
            )
            return SimServer(
                host="127.0.0.1", port=port, log_file=child.log_file, pid=child.process.pid
            )

        yield start
