# SPDX-License-Identifier: Apache-2.0
"""The set-up steps of this project, in order: packages, wheels, paths, messages, towns."""

from __future__ import annotations

import json
import os
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from flad_bringup.environment import child_environment, installed_ros
from flad_bringup.setup import wheels
from flad_bringup.setup.steps import Step, StepDone, digest, only_one, run_steps
from flad_bringup.setup.tool import run_tool
from flad_bringup.workspace import Workspace
from flad_common.error_codes import BUILD_FAILED, PACKAGES_FAILED, TOWNS_FAILED

REQUIREMENT_SETS = ("vehicle", "sim", "carla", "dev")
"""What ``--sets`` chooses from; ``ros`` comes by itself where no ROS is installed."""

_LOCK_DEADLINE_S = 1800.0
_STAMPS = "flad-setup.json"
_CHOSEN = "flad-sets.json"


@dataclass(frozen=True, kw_only=True)
class SetupConfig:
    """What to set up."""

    sets: tuple[str, ...] = REQUIREMENT_SETS
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
            key=digest(files, *base),
            is_present=workspace.site_packages.is_dir,
            run=lambda: _install(workspace, files, environment),
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
            run=lambda: _build(workspace, messages, environment, ros),
        ),
    ]
    if "sim" in config.sets:
        sumo = [workspace.root / "requirements/sim.txt"]
        steps.append(
            Step(
                name="towns",
                title="building the towns",
                key=digest([*_town_sources(workspace), *sumo], *base),
                is_present=workspace.towns.is_dir,
                run=lambda: _build_towns(workspace, environment),
            )
        )
    return steps


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


def _town_sources(workspace: Workspace) -> list[Path]:
    folder = workspace.root / "src/flad_sim/flad_sim/towns"
    return [p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts]


def _install(workspace: Workspace, files: list[Path], environment: Mapping[str, str]) -> None:
    command = [str(workspace.python), "-m", "pip", "install", "--progress-bar=off"]
    command += ["--disable-pip-version-check"]
    for file in files:
        command += ["-r", str(file)]
    run_tool(
        command,
        log_file=workspace.build / "log/packages.log",
        failure=PACKAGES_FAILED,
        environment=environment,
        folder=workspace.root,
    )
    if not installed_ros(environment):
        run_tool(
            [str(workspace.python), "-m", "flad_bringup.setup.wheels"],
            log_file=workspace.build / "log/wheels.log",
            failure=PACKAGES_FAILED,
            environment=environment,
            folder=workspace.root,
        )


def _build(
    workspace: Workspace, messages: list[Path], environment: Mapping[str, str], ros: str | None
) -> None:
    colcon = shutil.which("colcon") if ros else str(workspace.venv / "bin/colcon")
    command = [
        *([colcon or "colcon"] if ros else [str(workspace.python), colcon or ""]),
        *("--log-base", str(workspace.build / "log/colcon")),
        "build",
        *("--build-base", str(workspace.build / "colcon")),
        *("--install-base", str(workspace.install)),
        "--merge-install",
    ]
    build_environment = dict(environment)
    if ros:  # everything, so that ros2 launch finds it; the sources stay live
        sources = sorted({p.parent for p in workspace.root.glob("src/*/package.xml")})
        command += ["--symlink-install", "--base-paths", *map(str, [*messages, *sources])]
        command += ["--cmake-args", "-DBUILD_TESTING=OFF"]
    else:
        prefix = str(workspace.venv)
        build_environment |= {
            "AMENT_PREFIX_PATH": prefix,
            "CMAKE_PREFIX_PATH": prefix,
            "VIRTUAL_ENV": prefix,
            "PATH": f"{prefix}/bin{os.pathsep}{environment.get('PATH', '')}",
        }
        command += ["--base-paths", *map(str, messages)]
        command += ["--cmake-args", f"-DPython3_EXECUTABLE={workspace.python}"]
        command += ["-DBUILD_TESTING=OFF", "--no-warn-unused-cli"]
    run_tool(
        command,
        log_file=workspace.build / "log/messages.log",
        failure=BUILD_FAILED,
        environment=build_environment,
        folder=workspace.root,
    )
    if not ros:
        wheels.link_libraries(workspace)


def _build_towns(workspace: Workspace, environment: Mapping[str, str]) -> None:
    program = "import sys, pathlib, flad_sim.towns as t; t.build_towns(pathlib.Path(sys.argv[1]))"
    run_tool(
        [str(workspace.python), "-c", program, str(workspace.towns)],
        log_file=workspace.build / "log/towns.log",
        failure=TOWNS_FAILED,
        environment=child_environment(workspace, environment),
        folder=workspace.root,
    )
