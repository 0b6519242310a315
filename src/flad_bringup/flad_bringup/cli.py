# SPDX-License-Identifier: Apache-2.0
"""The command line: picks a sub-command, sets up what it needs, reports failures in words.

Each sub-command is a module of :mod:`flad_bringup.commands` with ``SUMMARY`` (one line), ``NEEDS``
(requirement sets), ``add_arguments(parser)`` and ``run(args) -> int``. Modules import nothing but
the standard library at their top, so that ``./flad --help`` works before anything is installed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from flad_bringup.environment import child_environment
from flad_bringup.setup.checkout import SetupConfig, set_up
from flad_bringup.workspace import Workspace, find_workspace
from flad_common.error_codes import FladError

COMMANDS = (
    "setup",
    "demo",
    "test",
    "check",
    "sim",
    "launch",
    "say",
    "evaluate",
    "compare",
    "record",
    "data",
    "train",
    "federate",
    "keys",
    "bench",
    "profile",
    "plan",
    "traces",
    "release",
    "doctor",
)
_EPILOG = "./flad COMMAND --help tells more about one of them."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    # What a sub-command hands on to another parser is not for this one to judge.
    args, rest = parser.parse_known_args(argv)
    module: ModuleType = args.module
    if rest and not (_hands_over(module) or getattr(module, "ACCEPTS_MORE", False)):
        parser.error(f"unknown arguments: {' '.join(rest)}; see ./flad {args.command} --help")
    args.rest = rest
    try:
        workspace = find_workspace()
        _set_up_for(module, workspace, argv)
        os.environ.update(child_environment(workspace))
        args.workspace = workspace
        return int(module.run(args))
    except (FladError, TimeoutError) as error:
        print(f"flad: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "flad: interrupted; everything that was started here has been stopped", file=sys.stderr
        )
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="./flad",
        description="FLAD: vehicles that drive and learn together, from a laptop to a fleet.",
        epilog=_EPILOG,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"flad_bringup.commands.{name}")
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=not _hands_over(module),
            allow_abbrev=False,
        )
        module.add_arguments(command)
        command.set_defaults(module=module)
    return parser


def _hands_over(module: ModuleType) -> bool:
    """Whether the sub-command's arguments, ``--help`` included, belong to another package."""
    return bool(getattr(module, "HANDS_OVER", False))


def _set_up_for(module: ModuleType, workspace: Workspace, argv: list[str]) -> None:
    needed = set(module.NEEDS)
    if not needed:
        return
    done = set_up(workspace, SetupConfig(sets=tuple(sorted(needed)), add=True))
    if not all(step.skipped for step in done):
        # This process started before the libraries were there; begin again with them.
        sys.stderr.flush()
        os.execv(str(workspace.root / "flad"), ["flad", *argv])
