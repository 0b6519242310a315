# SPDX-License-Identifier: Apache-2.0
"""Where things lie in a checkout. Standard library only: it runs before anything is installed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """The folders of one checkout of this project."""

    root: Path

    @property
    def venv(self) -> Path:
        """The environment that ``./flad`` made."""
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.venv / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Where the environment's pure Python packages lie."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.venv / "lib" / version / "site-packages"

    @property
    def build(self) -> Path:
        """What set-up makes and can make again: towns, colcon's files, logs."""
        return self.root / "build"

    @property
    def install(self) -> Path:
        """The ROS packages that colcon built."""
        return self.root / "install"

    @property
    def towns(self) -> Path:
        """The towns that ship with the project, built from committed parameters."""
        return self.build / "towns"

    @property
    def runs(self) -> Path:
        """One folder per run: logs, results, report, bag."""
        return self.root / "runs"

    @property
    def config(self) -> Path:
        """Committed configuration: rigs, routes, rviz, Fast DDS."""
        return self.root / "config"

    def source_folders(self) -> list[Path]:
        """The folder of every Python package of ours, as the environment's ``.pth`` lists them."""
        return sorted(path.parent for path in self.root.glob("src/*/setup.py"))


def find_workspace(start: Path = Path(__file__)) -> Workspace:
    """The checkout that holds ``start``.

    Raises:
        ValueError: if no folder above it is a checkout.
    """
    for folder in start.resolve().parents:
        if (folder / "flad").is_file() and (folder / "requirements").is_dir():
            return Workspace(root=folder)
    raise ValueError(
        f"{start} is not inside a checkout of FLAD (a folder with `flad` and `requirements/`). "
        "The command line works on a checkout: run ./flad there. "
        "Installed packages are started with ros2 launch."
    )
