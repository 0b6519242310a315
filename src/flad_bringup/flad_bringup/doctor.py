# SPDX-License-Identifier: Apache-2.0
"""Looks at the machine and judges what it finds. Standard library only; changes nothing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flad_bringup.environment import installed_ros
from flad_bringup.workspace import Workspace
from flad_common.ports import is_free

State = Literal["good", "warning", "bad"]

_GIB = 1024**3
# .venv with every set takes 2.1 GiB, build and install 0.2, a recorded run some hundred MB.
_DISK_NEEDED_GIB = 5.0
# Four segments of config/fastdds.xml (64 MiB), as one evaluated vehicle opens.
_SHM_NEEDED_GIB = 0.25
_MEMORY_NEEDED_GIB = 4.0
_CORES_WANTED = 2
_FIRST_YEAR = 2024  # a clock before the project's first day breaks TLS, and so pip
_PORTS = (2000, 2001, 2002, 8000)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    state: State
    found: str
    advice: str = ""


def examine(workspace: Workspace) -> list[Finding]:
    """Everything that a newcomer's first problem could come from."""
    checks: tuple[Callable[[Workspace], Finding], ...] = (
        _python,
        _platform,
        _ros,
        _compiler,
        _cmake,
        _colcon,
        _cores,
        _memory,
        _disk,
        _shared_memory,
        _clock,
        _ports,
        _folder,
        _carla,
        _torch,
        _browser,
        _git,
    )
    return [check(workspace) for check in checks]


def _finding(
    subject: str, found: str, *, good: bool, advice: str, otherwise: State = "bad"
) -> Finding:
    state: State = "good" if good else otherwise
    return Finding(subject=subject, state=state, found=found, advice="" if good else advice)


def _python(workspace: Workspace) -> Finding:
    version = sys.version_info
    return _finding(
        "Python",
        f"{platform.python_version()} ({sys.executable})",
        good=(3, 10) <= version[:2] <= (3, 12),
        advice="install Python 3.11 with venv, delete .venv: ROS's wheels exist for 3.10 to 3.12",
    )


def _platform(workspace: Workspace) -> Finding:
    machine, system = platform.machine(), platform.system()
    return _finding(
        "platform",
        f"{system} {machine}",
        good=(system, machine) == ("Linux", "x86_64"),
        otherwise="warning" if system == "Linux" else "bad",
        advice="the ROS and carla wheels are for Linux x86-64; on a Jetson install ROS 2 from apt "
        "and run ./flad setup --sets vehicle",
    )


def _ros(workspace: Workspace) -> Finding:
    if name := installed_ros(os.environ):
        return _finding(
            "ROS 2",
            f"{name}, installed",
            good=name in ("humble", "jazzy"),
            otherwise="warning",
            advice="FLAD is written for Humble and checked on Jazzy",
        )
    there = sorted(p.name for p in Path("/opt/ros").glob("*") if (p / "setup.bash").is_file())
    return _finding(
        "ROS 2",
        f"/opt/ros/{there[0]} is installed but not sourced" if there else "the wheels from PyPI",
        good=not there,
        otherwise="warning",
        advice=f"to use it: source /opt/ros/{there[0] if there else ''}/setup.bash, delete .venv",
    )


def _compiler(workspace: Workspace) -> Finding:
    found = shutil.which("c++") or shutil.which("g++")
    return _finding(
        "C++ compiler",
        _version_line(found) if found else "none",
        good=found is not None,
        advice="sudo apt install g++ (the ROS messages are compiled once)",
    )


def _cmake(workspace: Workspace) -> Finding:
    found = shutil.which("cmake")
    return _finding(
        "cmake",
        _version_line(found) if found else "none",
        good=found is not None,
        advice="sudo apt install cmake make (the ROS messages are compiled once)",
    )


def _colcon(workspace: Workspace) -> Finding:
    if not installed_ros(os.environ):
        return Finding(subject="colcon", state="good", found="comes with the wheels")
    found = shutil.which("colcon")
    return _finding(
        "colcon",
        found or "none",
        good=found is not None,
        advice="sudo apt install python3-colcon-common-extensions",
    )


def _cores(workspace: Workspace) -> Finding:
    count = len(os.sched_getaffinity(0))
    return _finding(
        "cores",
        str(count),
        good=count >= _CORES_WANTED,
        otherwise="warning",
        advice=f"the budgets are for {_CORES_WANTED} cores; everything works, but slower",
    )


def _memory(workspace: Workspace) -> Finding:
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    return _finding(
        "memory",
        f"{gib:.1f} GiB",
        good=gib >= _MEMORY_NEEDED_GIB,
        otherwise="warning",
        advice=f"{_MEMORY_NEEDED_GIB:.0f} GiB are comfortable; use fewer cameras and vehicles",
    )


def _disk(workspace: Workspace) -> Finding:
    gib = shutil.disk_usage(workspace.root).free / _GIB
    return _finding(
        "disk",
        f"{gib:.1f} GiB free at {workspace.root}",
        good=gib >= _DISK_NEEDED_GIB,
        otherwise="warning" if workspace.install.is_dir() else "bad",
        advice=f"set-up and a few runs take about {_DISK_NEEDED_GIB:.0f} GiB",
    )


def _shared_memory(workspace: Workspace) -> Finding:
    folder = Path("/dev/shm")
    gib = shutil.disk_usage(folder).free / _GIB if folder.is_dir() else 0.0
    return _finding(
        "/dev/shm",
        f"{gib:.2f} GiB free",
        good=gib >= _SHM_NEEDED_GIB,
        otherwise="warning",
        advice="DDS sends pictures through shared memory; in a container: docker run --shm-size=1g",
    )


def _clock(workspace: Workspace) -> Finding:
    return _finding(
        "clock",
        time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        good=time.localtime().tm_year >= _FIRST_YEAR,
        advice="set the clock: downloads and DDS between machines need it (timedatectl)",
    )


def _ports(workspace: Workspace) -> Finding:
    taken = [port for port in _PORTS if not is_free(port)]
    return _finding(
        "ports",
        f"{', '.join(map(str, taken))} taken" if taken else f"{', '.join(map(str, _PORTS))} free",
        good=not taken,
        otherwise="warning",
        advice="give ./flad sim another --port; demo and evaluate choose free ones by themselves",
    )


def _folder(workspace: Workspace) -> Finding:
    return _finding(
        "folder",
        str(workspace.root),
        good=not any(c in str(workspace.root) for c in ";:'\""),
        otherwise="warning",
        advice="ROS's build tools do not all take such a path; move the checkout",
    )


def _carla(workspace: Workspace) -> Finding:
    there = importlib.util.find_spec("carla") is not None
    has_wheel = platform.machine() == "x86_64"
    return _finding(
        "carla client",
        "installed" if there else "not installed yet" if has_wheel else "no wheel for this machine",
        good=there or has_wheel,
        otherwise="warning",
        advice="run bridge, evaluation and recorder on an x86-64 host; vehicles do not need carla",
    )


def _torch(workspace: Workspace) -> Finding:
    there = importlib.util.find_spec("torch") is not None
    return Finding(
        subject="torch",
        state="good",
        found="installed" if there else "not needed yet: this version does not train",
    )


def _browser(workspace: Workspace) -> Finding:
    names = ("xdg-open", "chromium", "google-chrome", "firefox")
    found = next((path for path in map(shutil.which, names) if path), None)
    return _finding(
        "browser",
        found or "none",
        good=found is not None,
        otherwise="warning",
        advice="the report is one HTML file: copy it to a machine with a browser",
    )


def _git(workspace: Workspace) -> Finding:
    found = shutil.which("git")
    return _finding(
        "git",
        _version_line(found) if found else "none",
        good=found is not None,
        otherwise="warning",
        advice="sudo apt install git (benchmarks write the commit beside their figures)",
    )


def _version_line(program: str) -> str:
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{program}, which does not run: {error}"
    return next(_lines(said), program)


def _lines(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if line.strip())
