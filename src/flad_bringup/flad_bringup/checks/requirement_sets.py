# SPDX-License-Identifier: Apache-2.0
"""Every requirement set must resolve for every Python and machine it is meant for."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from flad_bringup.checks.result import CheckResult, run_program
from flad_bringup.workspace import Workspace

_PC = "x86_64-manylinux_2_31"  # Ubuntu 20.04 and later, as carla's wheel
_JETSON = "aarch64-manylinux_2_31"
# What the registry's client says when it cannot get through at all.
_OFFLINE_WORDS = ("error sending request", "dns error", "failed to lookup address", "Connection")


@dataclass(frozen=True, kw_only=True)
class Target:
    """One set on one kind of machine."""

    name: str
    python: str
    platform: str


TARGETS = (
    Target(name="vehicle", python="3.10", platform=_JETSON),
    *(
        Target(name=n, python=p, platform=_PC)
        for n in ("vehicle", "sim", "carla", "dev", "ros")
        for p in ("3.10", "3.11")
    ),
)


def check_requirement_sets(workspace: Workspace) -> CheckResult:
    """Resolve each target without installing anything."""
    complaints = []
    for target in TARGETS:
        result = run_program(
            [
                *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header"),
                *("--python-version", target.python, "--python-platform", target.platform),
                f"requirements/{target.name}.txt",
            ],
            folder=workspace.root,
        )
        if result.verdict == "passed":
            continue
        if any(word in result.text for word in _OFFLINE_WORDS):
            return CheckResult(
                verdict="skipped", text="the package registry cannot be reached from here"
            )
        complaints.append(
            f"requirements/{target.name}.txt does not resolve for Python {target.python} "
            f"on {target.platform}:\n{result.text}"
        )
    return CheckResult.from_complaints(complaints)
