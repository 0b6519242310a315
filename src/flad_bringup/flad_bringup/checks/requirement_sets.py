# SPDX-License-Identifier: Apache-2.0
"""Every requirement set must resolve for every Python and machine it is meant for."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from flad_bringup.checks.result import CheckResult, run_program
from flad_bringup.setup.actions import CONSTRAINTS
from flad_bringup.workspace import Workspace

_PC = "x86_64-manylinux_2_31"  # Ubuntu 20.04 and later, as carla's wheel
_JETSON = "aarch64-manylinux_2_31"
# What the registry's client says when it cannot get through at all.
_OFFLINE_WORDS = ("error sending request", "dns error", "failed to lookup address", "Connection")


@dataclass(frozen=True, kw_only=True)
class Target:
    """Sets that are installed together on one kind of machine."""

    names: tuple[str, ...]
    python: str
    platform: str
    installed_ros: bool = False

    def __str__(self) -> str:
        beside = " beside an installed ROS" if self.installed_ros else ""
        return f"{' + '.join(self.names)} for Python {self.python} on {self.platform}{beside}"


_EVERYTHING = ("vehicle", "sim", "carla", "train", "edge", "dev")
TARGETS = (
    Target(names=("vehicle",), python="3.10", platform=_JETSON, installed_ros=True),
    Target(names=("train",), python="3.10", platform=_JETSON, installed_ros=True),
    Target(names=("edge",), python="3.10", platform=_JETSON, installed_ros=True),
    Target(names=_EVERYTHING, python="3.10", platform=_PC, installed_ros=True),
    Target(names=(*_EVERYTHING, "ros"), python="3.10", platform=_PC),
    Target(names=(*_EVERYTHING, "ros"), python="3.11", platform=_PC),
    Target(names=("cloud",), python="3.11", platform=_PC),
)


def check_requirement_sets(workspace: Workspace) -> CheckResult:
    """Resolve each target without installing anything."""
    complaints = []
    for target in TARGETS:
        result = run_program(
            [
                *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header"),
                *("--python-version", target.python, "--python-platform", target.platform),
                *(f"requirements/{name}.txt" for name in target.names),
                *(["--constraint", str(CONSTRAINTS)] if target.installed_ros else []),
            ],
            folder=workspace.root,
        )
        if result.verdict == "passed":
            continue
        if any(word in result.text for word in _OFFLINE_WORDS):
            return CheckResult(
                verdict="skipped", text="the package registry cannot be reached from here"
            )
        complaints.append(f"{target} does not resolve:\n{result.text}")
    return CheckResult.from_complaints(complaints)
