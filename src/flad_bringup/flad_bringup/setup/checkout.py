# SPDX-License-Identifier: Apache-2.0
"""The set-up steps of this project, in order: packages, paths, messages, towns, kernels."""

from __future__ import annotations

import json
import os
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from flad_bringup.environment import installed_ros
from flad_bringup.setup import actions, wheels
from flad_bringup.setup.steps import Step, StepDone, digest, only_one, run_steps
from flad_bringup.workspace import Workspace

REQUIREMENT_SETS = ("vehicle", "sim", "carla", "train", "edge", "dev")
"""What ``--sets`` chooses from; ``ros`` comes by itself where no ROS is installed."""

_LOCK_DEADLINE_S = 1800.0
_STAMPS = "flad-setup.json"
_CHOSEN = "flad-sets.json"


@dataclass(frozen=True, kw_only=True)
class SetupConfig:
    """What to set up."""

    sets: tuple[str, ...] = REQUIREMENT_SETS
    add: bool = False
    """Keep the sets that are installed already, instead of setting up ``sets`` alone."""
    force: bool = False
    """Do every step again, even where nothing changed."""


def set_up(
    workspace: Workspace,
    config: SetupConfig,
    *,
    environment: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> list[StepDone]:
    """Bring the checkout up to date; nothing happens where nothing changed.

    Raises:
        FladError: naming the step that failed, its log, and what to do.
    """
    environment = os.environ if environment is None else environment
    with only_one(workspace.venv / "flad-setup.lock", deadline_s=_LOCK_DEADLINE_S, tell=tell):
        if config.force:
            (workspace.venv / _STAMPS).unlink(missing_ok=True)
        if config.add:  # read under the lock: another command may just have added a set
            wanted = set(config.sets) | set(chosen_sets(workspace))
            config = replace(config, sets=tuple(sorted(wanted)))
        steps = setup_steps(workspace, config, environment)
        done = run_steps(steps, workspace.venv / _STAMPS, tell=tell)
        (workspace.venv / _CHOSEN).write_text(json.dumps(sorted(config.sets)))
    return done


def chosen_sets(workspace: Workspace) -> tuple[str, ...]:
    """The sets that an earlier ``./flad setup`` installed; none before the first one."""
    try:
        return tuple(json.loads((workspace.venv / _CHOSEN).read_text()))
    except (FileNotFoundError, json.JSONDecodeError):
        return ()


def setup_steps(
    workspace: Workspace, config: SetupConfig, environment: Mapping[str, str]
) -> list[Step]:
    """The steps, with the digests of their inputs as they are now."""
    ros = installed_ros(environment)
    files = requirement_files(workspace, config.sets, ros)
    base = (sys.version, ros or "wheels", str(workspace.root))
    build_tools = [] if ros else [workspace.root / "requirements/ros.txt"]
    messages = message_folders(workspace, environment)
    message_files = [p for folder in messages for p in folder.rglob("*") if p.is_file()]
    if ros:
        message_files += workspace.root.glob("src/*/setup.py")
        message_files += workspace.root.glob("src/*/package.xml")
    steps = [
        Step(
            name="packages",
            title=f"installing {', '.join(f.stem for f in files)} requirements",
            key=digest([*files, workspace.root / actions.CONSTRAINTS], *base),
            is_present=workspace.site_packages.is_dir,
            run=lambda: actions.install(workspace, files, environment),
        ),
        Step(
            name="paths",
            title="making the packages importable",
            key=digest([], str(workspace.root), *map(str, workspace.source_folders())),
            is_present=lambda: wheels.pth_file(workspace).is_file(),
            run=lambda: wheels.write_pth(workspace),
        ),
        Step(
            name="messages",
            title=f"building {', '.join(f.name for f in messages)} with colcon",
            key=digest([*message_files, *build_tools], *base),
            is_present=(workspace.install / "setup.bash").is_file,
            run=lambda: actions.build(workspace, messages, environment, ros),
        ),
    ]
    if "sim" in config.sets:
        steps += _world_steps(workspace, environment, base)
    return steps


def _world_steps(
    workspace: Workspace, environment: Mapping[str, str], base: tuple[str, ...]
) -> list[Step]:
    """What flad_sim makes of its own sources: towns, and machine code."""
    packages = [workspace.root / "requirements/sim.txt"]
    kernels = _sources(workspace, "physics", "sensors", "scenery")
    return [
        Step(
            name="towns",
            title="building the towns",
            key=digest([*_sources(workspace, "towns"), *packages], *base),
            is_present=workspace.towns.is_dir,
            run=lambda: actions.build_towns(workspace, environment),
        ),
        Step(
            name="kernels",
            title="compiling the world's kernels",
            key=digest([*kernels, *packages], *base),
            is_present=(kernels[0].parent / "__pycache__").is_dir,
            run=lambda: actions.compile_kernels(workspace, environment),
        ),
    ]


def requirement_files(workspace: Workspace, sets: Collection[str], ros: str | None) -> list[Path]:
    """The requirement files of ``sets``, with the ROS wheels where no ROS is installed."""
    names = [name for name in REQUIREMENT_SETS if name in sets]
    return [workspace.root / f"requirements/{n}.txt" for n in [*names, *([] if ros else ["ros"])]]


def message_folders(workspace: Workspace, environment: Mapping[str, str]) -> list[Path]:
    """flad_msgs and the packages of the overlay that the installed ROS does not have."""
    prefixes = [p for p in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    there = {
        name
        for prefix in prefixes
        if Path(prefix).resolve() != workspace.install.resolve()
        for name in _listed(Path(prefix) / "share/ament_index/resource_index/packages")
    }
    overlay = sorted(path.parent for path in workspace.root.glob("overlay/*/package.xml"))
    return [workspace.root / "src/flad_msgs", *(p for p in overlay if package_name(p) not in there)]


def package_name(folder: Path) -> str:
    """The name that a package's ``package.xml`` gives it."""
    name = ElementTree.parse(folder / "package.xml").findtext("name")
    return (name or folder.name).strip()


def _listed(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def _sources(workspace: Workspace, *parts: str) -> list[Path]:
    """The source files of some parts of flad_sim."""
    folder = workspace.root / "src/flad_sim/flad_sim"
    files = (path for part in parts for path in sorted((folder / part).rglob("*")))
    return [p for p in files if p.is_file() and "__pycache__" not in p.parts]
