# SPDX-License-Identifier: Apache-2.0
"""Pages of the documentation that are made from code, and whether they still say what it says."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from flad_bringup.checks.result import CheckResult
from flad_bringup.cli import COMMANDS
from flad_bringup.workspace import Workspace
from flad_common.config import knobs
from flad_common.error_codes import errors_page

_NOTE = "<!-- Made by `./flad check --fix` from {source}; do not edit. -->"
_HELP_COLUMNS = "100"
_HELP_DEADLINE_S = 60.0


def check_generated(workspace: Workspace, *, fix: bool) -> CheckResult:
    """Compare every page with its source; with ``fix``, write what is stale."""
    complaints = []
    for name, make in PAGES.items():
        path = workspace.root / name
        fresh = make(workspace)
        if path.is_file() and path.read_text(encoding="utf-8") == fresh:
            continue
        if fix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(fresh, encoding="utf-8")
        else:
            complaints.append(f"{name} is not what the code says; run ./flad check --fix")
    return CheckResult.from_complaints(complaints)


def cli_page(workspace: Workspace) -> str:
    """The help of every sub-command."""
    parts = [
        "# The command line",
        "",
        _NOTE.format(source="the parsers"),
        "",
        "```text",
        _help(workspace),
        "```",
    ]
    for command in COMMANDS:
        parts += ["", f"## ./flad {command}", "", "```text", _help(workspace, command), "```"]
    return "\n".join(parts) + "\n"


def config_page(workspace: Workspace) -> str:
    """Every config dataclass with its knobs: YAML keys and ROS parameters."""
    parts = [
        "# Configuration",
        "",
        _NOTE.format(source="the config dataclasses"),
        "",
        "Each knob is declared once, on a dataclass beside the class that it configures. Its name "
        "is the key in",
        "YAML and the name of the ROS parameter; the unit `1` marks a number without dimension.",
    ]
    for cls in sorted(config_classes(workspace.root), key=lambda c: (c.__module__, c.__name__)):
        summary = (cls.__doc__ or "").strip().splitlines()[0]
        parts += ["", f"## {cls.__module__}.{cls.__name__}", "", summary, ""]
        parts += ["| knob | type | default | unit | meaning |", "|---|---|---|---|---|"]
        for knob in knobs(cls):
            default = "(needed)" if knob.default is dataclasses.MISSING else f"`{knob.default!r}`"
            cells = (f"`{knob.name}`", f"`{knob.type_name}`", default, knob.unit or "-", knob.doc)
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(parts) + "\n"


def config_classes(root: Path) -> Iterator[type]:
    """Every dataclass of ours whose fields are declared as knobs."""
    for path in sorted(root.glob("src/*/*/**/*.py")):
        if not re.search(r"= knob\(|= section\(", path.read_text(encoding="utf-8")):
            continue
        relative = path.relative_to(root / "src").with_suffix("")
        module = importlib.import_module(".".join(relative.parts[1:]))
        for value in vars(module).values():
            if (
                isinstance(value, type)
                and value.__module__ == module.__name__
                and dataclasses.is_dataclass(value)
                and any("unit" in f.metadata for f in dataclasses.fields(value))
            ):
                yield value


PAGES: Mapping[str, Callable[[Workspace], str]] = {
    "docs/cli.md": cli_page,
    "docs/errors.md": lambda workspace: errors_page(),
    "docs/config.md": config_page,
}


def _help(workspace: Workspace, *command: str) -> str:
    """Help as a fixed terminal shows it, without this machine's paths."""
    said = subprocess.run(
        [sys.executable, "-m", "flad_bringup", *command, "--help"],
        env=os.environ | {"COLUMNS": _HELP_COLUMNS, "NO_COLOR": "1"},
        cwd=workspace.root,
        capture_output=True,
        text=True,
        timeout=_HELP_DEADLINE_S,
        check=False,
    )
    if said.returncode != 0:
        return f"(./flad {' '.join(command)} --help fails: {said.stderr.strip().splitlines()[-1]})"
    text = said.stdout.replace(str(workspace.root), ".").replace(str(Path.home()), "~")
    return "\n".join(line.rstrip() for line in text.strip().splitlines())
