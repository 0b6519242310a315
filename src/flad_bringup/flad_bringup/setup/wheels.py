# SPDX-License-Identifier: Apache-2.0
"""What the ROS wheels need before they build and run: see ``docs/decisions``.

The wheels' CMake files name the Python of the machine they were made on, and their own start-up
hook looks for libraries in ``.venv/lib`` only.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

from flad_bringup.workspace import Workspace, find_workspace

_FOREIGN_PYTHON = re.compile(r"/opt/python/cp3\d+-cp3\d+/include/python3\.\d+")
_FOREIGN_NUMPY = re.compile(
    r"/opt/python/cp3\d+-cp3\d+/lib/python3\.\d+/site-packages/numpy/_?core/include"
)


def patch_cmake(share: Path, *, python_include: str, numpy_include: str) -> int:
    """Point the wheels' CMake files at this Python and this numpy; returns how many changed."""
    changed = 0
    for path in share.rglob("*.cmake"):
        before = path.read_text(encoding="utf-8")
        after = _FOREIGN_NUMPY.sub(lambda _: numpy_include, before)
        after = _FOREIGN_PYTHON.sub(lambda _: python_include, after)
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed += 1
    return changed


def pth_file(workspace: Workspace) -> Path:
    """The file by which the environment's Python finds our sources and the built messages."""
    return workspace.site_packages / "flad.pth"


def write_pth(workspace: Workspace) -> None:
    """List our source folders and colcon's Python folder in the environment."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folders = [*workspace.source_folders(), workspace.install / f"lib/{version}/site-packages"]
    pth_file(workspace).write_text("".join(f"{folder}\n" for folder in folders))


def link_libraries(workspace: Workspace) -> None:
    """Link the built messages' libraries to where the wheels' start-up hook looks."""
    folder = workspace.venv / "lib"
    for link in folder.glob("*.so"):
        if link.is_symlink() and not link.exists():  # a message package that is gone
            link.unlink()
    for library in (workspace.install / "lib").glob("*.so"):
        link = folder / library.name
        if not link.exists():
            link.symlink_to(Path("../../install/lib") / library.name)


def main() -> int:
    """Patch this environment's wheels."""
    import numpy  # only now: set-up itself runs before numpy is there

    changed = patch_cmake(
        find_workspace().venv / "share",
        python_include=sysconfig.get_path("include"),
        numpy_include=numpy.get_include(),
    )
    print(f"{changed} CMake files changed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
