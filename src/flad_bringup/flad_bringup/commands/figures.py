# SPDX-License-Identifier: Apache-2.0
"""``--json FILE``, the same for every sub-command."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Declare ``--json FILE``."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")


def write_json(path: Path | None, figures: Any) -> None:
    """Write ``figures`` where the user wants them; a reader never sees half a file."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    beside.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    beside.replace(path)
