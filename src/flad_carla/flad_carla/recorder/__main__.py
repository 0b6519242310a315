# SPDX-License-Identifier: Apache-2.0
"""Tools for a recorded data set: ``python -m flad_carla.recorder verify DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from flad_carla.recorder.layout import INDEX
from flad_carla.recorder.verify import verify


def main(argv: Sequence[str] | None = None) -> int:
    """Parse ``argv``, do it, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m flad_carla.recorder", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("verify", help="check every file of a data set")
    check.add_argument("root", type=Path, help=f"the data set: the folder with {INDEX}")
    args = parser.parse_args(argv)
    checked: list[Path] = []
    with tqdm(unit=" runs", desc="checking", disable=None) as bar:

        def on_run(folder: Path) -> None:
            checked.append(folder)
            bar.update(1)

        found = verify(args.root, on_run)
    for finding in found:
        print(f"{finding.place} {finding.what}", file=sys.stderr)
    outcome = f"{len(found)} problems" if found else "no problem"
    print(f"{args.root}: {outcome}, {len(checked)} runs")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
