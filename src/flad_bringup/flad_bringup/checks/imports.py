# SPDX-License-Identifier: Apache-2.0
"""Who may import whom, read from the source by its syntax tree; nothing is executed.

The rules are those of the architecture page: packages depend one way, ROS stays in ``*_node.py``
and ``ros/``, ``carla`` in flad_carla, SUMO and Embree in flad_sim, and whatever else is imported
is in a requirement set of that package. Benchmarks may import what they compare us with.
"""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

MAY_USE: Mapping[str, frozenset[str]] = {
    "flad_common": frozenset(),
    "flad_sim": frozenset(),
    "flad_planner": frozenset({"flad_common"}),
    "flad_perception": frozenset({"flad_common"}),
    "flad_pipeline": frozenset({"flad_common"}),
    "flad_carla": frozenset({"flad_common", "flad_perception", "flad_planner"}),
    "flad_edge": frozenset({"flad_common", "flad_perception", "flad_planner", "flad_pipeline"}),
    "flad_bringup": frozenset(
        {
            "flad_common",
            "flad_planner",
            "flad_perception",
            "flad_pipeline",
            "flad_carla",
            "flad_sim",
            "flad_edge",
        }
    ),
}
"""Our packages, and which of our packages each may import. ``flad_msgs`` counts as ROS."""

REQUIREMENTS: Mapping[str, tuple[str, ...]] = {
    "flad_common": ("vehicle",),
    "flad_sim": ("vehicle", "sim"),
    "flad_planner": ("vehicle",),
    "flad_perception": ("vehicle", "train"),
    "flad_pipeline": ("vehicle",),
    "flad_carla": ("vehicle", "carla"),
    "flad_edge": ("vehicle", "edge", "train"),
    "flad_bringup": ("vehicle",),
}
"""The requirement sets that must cover what a package imports."""

OWNERS: Mapping[str, str] = {
    "carla": "flad_carla",
    "libsumo": "flad_sim",
    "sumolib": "flad_sim",
    "traci": "flad_sim",
    "sumo": "flad_sim",
    "embreex": "flad_sim",
}
"""Packages of other people that exactly one of ours may import."""

THROUGH: Mapping[str, str] = {"torch.utils.tensorboard": "tensorboard"}
"""Modules of a package that need another distribution, which they import themselves."""

_ROS = re.compile(
    r"rclpy|rcl_interfaces|rosgraph_msgs|launch(_ros)?|ament_index_python|builtin_interfaces"
    r"|[a-z0-9_]+_(msgs|srvs)"
)
# Declarations that exist only for type checkers.
_NOT_INSTALLED = frozenset({"_typeshed", "__future__"})
_REQUIREMENT_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class Import:
    """One imported top-level name, and where."""

    package: str
    path: Path
    line: int
    name: str
    is_ros_module: bool
    is_benchmark: bool


def import_complaints(root: Path) -> list[str]:
    """Every import that breaks a rule, as ``file:line: what and why``."""
    distributions = _distributions()
    allowed = {p: _declared(root, sets) for p, sets in REQUIREMENTS.items()}
    complaints = []
    for found in find_imports(root):
        if reason := _objection(found, allowed, distributions):
            complaints.append(f"{found.path.relative_to(root)}:{found.line}: {reason}")
    return complaints


def unused_requirements(root: Path) -> list[str]:
    """Requirements that no package imports: somebody took something out and left its weight."""
    distributions = _distributions()
    imported = {
        _normal(distribution)
        for found in find_imports(root)
        for distribution in distributions.get(found.name, [])
    }
    return [
        f"requirements/{name}.txt: nothing in src imports {requirement}"
        for name in sorted({name for names in REQUIREMENTS.values() for name in names})
        for requirement in sorted(_declared(root, (name,)) - imported)
    ]


def find_imports(root: Path) -> Iterator[Import]:
    """Every import statement in ``src``, also those inside functions."""
    for path in sorted(root.glob("src/*/*/**/*.py")):
        package, folders = path.relative_to(root / "src").parts[0], path.parts
        is_ros_module = path.stem.endswith("_node") or "ros" in folders[:-1]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            for name in _imported(node):
                yield Import(
                    package=package,
                    path=path,
                    line=getattr(node, "lineno", 0),
                    name=name.split(".")[0] or ".",
                    is_ros_module=is_ros_module,
                    is_benchmark="bench" in folders,
                )


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [node.module or "." if node.level == 0 else "."]
    else:
        return []
    return names + [THROUGH[name] for name in names if name in THROUGH]


def _objection(
    found: Import,
    allowed: Mapping[str, frozenset[str]],
    distributions: Mapping[str, list[str]],
) -> str | None:
    name, package = found.name, found.package
    if name == ".":
        return "relative import; write the package's name"
    if package not in MAY_USE:
        return f"{package} is not in the table of packages in {Path(__file__).name}"
    if name == package or name in sys.stdlib_module_names or name in _NOT_INSTALLED:
        return None
    if name in MAY_USE:
        if name in MAY_USE[package]:
            return None
        may = ", ".join(sorted(MAY_USE[package])) or "none of ours"
        return f"{package} may not import {name}; it may import {may}"
    if _ROS.fullmatch(name):
        if package == "flad_sim":
            return f"flad_sim knows no ROS, but imports {name}"
        if found.is_ros_module:
            return None
        return f"{name} is ROS: only *_node.py and modules in a ros/ folder import it"
    if found.is_benchmark:  # compares us with others' own ways to do it
        return None
    if name in OWNERS and OWNERS[name] != package:
        return f"only {OWNERS[name]} imports {name}"
    names = {_normal(d) for d in distributions.get(name, [name])}
    if not names & allowed[package]:
        files = " or ".join(f"requirements/{s}.txt" for s in REQUIREMENTS[package])
        return f"{name} ({', '.join(sorted(names))}) is not in {files}"
    return None


def _distributions() -> dict[str, list[str]]:
    """Names that can be imported, and who installs them.

    Python 3.10's ``packages_distributions`` misses wheels without a ``top_level.txt``.
    """
    owners: dict[str, list[str]] = {}
    for distribution in importlib.metadata.distributions():
        listed = (distribution.read_text("top_level.txt") or "").split()
        folders = {f.parts[0] for f in distribution.files or [] if f.suffix in (".py", ".so")}
        for name in {*listed, *(folder.split(".")[0] for folder in folders)}:
            owners.setdefault(name, []).append(distribution.name)
    return owners


def _declared(root: Path, sets: tuple[str, ...]) -> frozenset[str]:
    """Names of the distributions that the requirement files ``sets`` list."""
    return frozenset(
        _normal(match[0])
        for name in sets
        for line in (root / f"requirements/{name}.txt").read_text(encoding="utf-8").splitlines()
        if (match := _REQUIREMENT_NAME.match(line))
    )


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
