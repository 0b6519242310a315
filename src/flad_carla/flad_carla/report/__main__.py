# SPDX-License-Identifier: Apache-2.0
"""Redraw a report from the files of its runs: ``python -m flad_carla.report RUN_DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from flad_carla.report.page import write_report
from flad_carla.report.run_file import RunFileError


def main(argv: Sequence[str] | None = None) -> int:
    """Parse ``argv``, draw, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m flad_carla.report", description=__doc__)
    parser.add_argument("run_dir", type=Path, help="folder with the run files (*_rep*.npz)")
    parser.add_argument("--out", type=Path, help="HTML file (default: RUN_DIR/report.html)")
    parser.add_argument(
        "--num-requested", type=int, help="runs that were asked for; missing ones count as zero"
    )
    args = parser.parse_args(argv)
    try:
        out = write_report(
            args.run_dir, args.out or args.run_dir / "report.html", num_requested=args.num_requested
        )
    except (RunFileError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{out} ({out.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
