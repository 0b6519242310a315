# SPDX-License-Identifier: Apache-2.0
"""Check the code without running it, in the order of CI.

format, lint (ruff), types (mypy, strict on core modules), humble (only what Humble's rclpy has),
imports (who may import whom), docs (generated pages are fresh), requirements (every set resolves).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from flad_bringup.commands.figures import add_json_argument, write_json

if TYPE_CHECKING:
    from flad_bringup.checks.result import CheckResult
    from flad_bringup.workspace import Workspace

SUMMARY = "check the code as CI does: format, lint, types, Humble's API, imports, docs"
NEEDS = ("vehicle", "sim", "carla", "train", "edge", "dev")
NAMES = ("format", "lint", "types", "humble", "imports", "docs", "requirements")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--fix", action="store_true", help="mend what a program can mend")
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=list(NAMES), help="run only these checks"
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run every check, say each verdict; the status is 1 if one failed."""
    workspace: Workspace = args.workspace
    checks = _checks(workspace, fix=args.fix)
    figures = {}
    for name in args.only:
        started = time.monotonic()
        result = checks[name]()
        seconds = time.monotonic() - started
        print(f"{result.verdict:7}  {name}  ({seconds:.1f} s)", flush=True)
        if result.text:
            print("    " + result.text.replace("\n", "\n    "), flush=True)
        figures[name] = {"verdict": result.verdict, "seconds": round(seconds, 1)}
    write_json(args.json, {"checks": figures})
    return int(any(figure["verdict"] == "failed" for figure in figures.values()))


def _checks(workspace: Workspace, *, fix: bool) -> dict[str, Callable[[], CheckResult]]:
    # Imported now: they need what set-up installs.
    from flad_bringup.checks.generated import check_generated
    from flad_bringup.checks.humble_api import check_humble_api
    from flad_bringup.checks.imports import import_complaints, unused_requirements
    from flad_bringup.checks.requirement_sets import check_requirement_sets
    from flad_bringup.checks.result import CheckResult, run_program

    def tool(*arguments: str) -> CheckResult:
        return run_program([sys.executable, "-m", *arguments], folder=workspace.root)

    sources = [str(path) for path in workspace.source_folders()]
    return {
        "format": lambda: tool("ruff", "format", *([] if fix else ["--check"]), "."),
        "lint": lambda: tool("ruff", "check", *(["--fix"] if fix else []), "."),
        "types": lambda: tool("mypy", *sources),
        "humble": lambda: check_humble_api(workspace),
        "imports": lambda: CheckResult.from_complaints(
            import_complaints(workspace.root) + unused_requirements(workspace.root)
        ),
        "docs": lambda: check_generated(workspace, fix=fix),
        "requirements": lambda: check_requirement_sets(workspace),
    }
