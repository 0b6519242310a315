# SPDX-License-Identifier: Apache-2.0
"""The environment of what talks to the cloud: Flower, in ``build/cloud``, beside ours.

It is a process and an environment of its own because flwr needs Python 3.11 and bounds packages
that ROS and PyTorch also use (docs/decisions).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from flad_bringup.setup.steps import Step, StepDone, digest, only_one, run_steps
from flad_bringup.setup.tool import run_tool
from flad_bringup.workspace import Workspace
from flad_common.error_codes import PACKAGES_FAILED, TOOL_MISSING, FladError

_OLDEST = (3, 11)
_CANDIDATES = ("python3.11", "python3.12", "python3.13")
_LOCK_DEADLINE_S = 1800.0


def cloud_python(workspace: Workspace) -> Path:
    """The interpreter of the cloud's environment, whether it is there or not."""
    return workspace.build / "cloud/bin/python"


def set_up_cloud(
    workspace: Workspace,
    *,
    force: bool = False,
    environment: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> list[StepDone]:
    """Make the environment, or bring it up to date.

    Raises:
        FladError: if there is no Python of 3.11 or later, or pip fails.
    """
    environment = os.environ if environment is None else environment
    requirements = workspace.root / "requirements/cloud.txt"
    python = cloud_python(workspace)
    stamps = workspace.build / "cloud-setup.json"
    step = Step(
        name="cloud",
        title=f"installing {requirements.stem} requirements into {python.parents[1]}",
        key=digest([requirements], sys.version, str(workspace.root)),
        is_present=python.is_file,
        run=lambda: _install(workspace, requirements, environment),
    )
    with only_one(workspace.build / "cloud-setup.lock", deadline_s=_LOCK_DEADLINE_S, tell=tell):
        if force:
            stamps.unlink(missing_ok=True)
        return run_steps([step], stamps, tell=tell)


def _install(workspace: Workspace, requirements: Path, environment: Mapping[str, str]) -> None:
    python = cloud_python(workspace)
    outside = {k: v for k, v in environment.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    pip = [str(python), "-m", "pip", "install", "--progress-bar=off"]
    pip += ["--disable-pip-version-check", "-r", str(requirements)]
    venv = [_find_python(), "-m", "venv", "--clear", str(python.parents[1])]
    for name, command in (("venv", venv), ("packages", pip)):
        run_tool(
            command,
            log_file=workspace.build / f"log/cloud_{name}.log",
            failure=PACKAGES_FAILED,
            environment=outside,
            folder=workspace.root,
        )


def _find_python() -> str:
    """A Python that Flower runs on.

    Raises:
        FladError: if there is none.
    """
    if sys.version_info[:2] >= _OLDEST:
        return sys.executable
    for name in _CANDIDATES:
        if found := shutil.which(name):
            return found
    raise FladError(
        TOOL_MISSING,
        f"Flower needs Python {'.'.join(map(str, _OLDEST))} or later, this is "
        f"{sys.version.split()[0]}, and none of {', '.join(_CANDIDATES)} is installed",
    )
