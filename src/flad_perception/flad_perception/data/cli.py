# SPDX-License-Identifier: Apache-2.0
"""The command line of data sets: ``./flad data pack``, ``verify`` and ``split``."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from flad_perception.config import load_encoder_config
from flad_perception.data import shards
from flad_perception.data.dataset import PackedDataset, PackedRun, weather_ids
from flad_perception.data.pack import PackReport, pack
from flad_perception.data.split import (
    PAPER_LEVEL,
    SplitConfig,
    histogram,
    split,
    write_split,
)

OK = 0
NOTHING_PACKED = 1  # or a checksum differs
BAD_INPUT = 2
INTERRUPTED = 130

_SHOWN = 10  # refusals on the terminal; index.json and --json have all


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    args = build_parser().parse_args(argv)
    try:
        status, figures = args.job(args)
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with what is missing", file=sys.stderr)
        return INTERRUPTED
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        shards.write_json(args.json, figures)
    return int(status)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all three."""
    parser = argparse.ArgumentParser(prog="./flad data", description=__doc__)
    jobs = parser.add_subparsers(metavar="JOB", required=True)
    one = jobs.add_parser("pack", help="decode recordings once, into memory-mapped arrays")
    one.description = (
        "Packs recordings of ./flad record, or LMDrive's download, for one encoder "
        "configuration. The same command goes on after an interruption, and adds new runs."
    )
    one.add_argument("data", nargs="+", type=Path, metavar="DATA", help="data sets or single runs")
    one.add_argument("--out", type=Path, required=True, metavar="DIR", help="may exist")
    one.add_argument("--config", default="small", help="encoder: a name or a file (default: small)")
    one.add_argument("--jobs", type=int, default=0, metavar="N", help="processes; 0: one a core")
    one.add_argument("--partial", action="store_true", help="take runs that broke off, too")
    one.set_defaults(job=_pack)
    one = jobs.add_parser("verify", help="compare every packed file with its checksum")
    one.add_argument("data", type=Path, metavar="PACKED")
    one.set_defaults(job=_verify)
    one = jobs.add_parser("split", help="divide a packed data set over vehicles")
    one.description = (
        "Non-IID level L: mixtures of (town, weather) from a Dirichlet of concentration 1/L^2; "
        f"0 is IID, {PAPER_LEVEL:g} what is meant by the paper's level 2."
    )
    one.add_argument("data", type=Path, metavar="PACKED")
    one.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    one.add_argument("--vehicles", type=int, default=50, metavar="N", help="(default: 50)")
    one.add_argument("--level", type=float, default=PAPER_LEVEL, metavar="L", help="(default: 2)")
    one.add_argument("--seed", type=int, default=0, metavar="N")
    one.add_argument("--unit", choices=["run", "clip"], default="clip", help="what is dealt out")
    one.add_argument("--clip-s", type=float, default=10.0, metavar="S", help="of a clip (10)")
    one.add_argument("--exclude-towns", default="", metavar="A,B", help="held out")
    one.add_argument("--exclude-weathers", default="", metavar="I,J", help="held out")
    one.set_defaults(job=_split)
    for job in jobs.choices.values():
        job.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser


def _pack(args: argparse.Namespace) -> tuple[int, Any]:
    config = load_encoder_config(args.config)
    with tqdm(unit=" frames", file=sys.stderr, disable=None) as bar:

        def begin(num_runs: int, num_frames: int) -> None:
            bar.set_description(f"{num_runs} runs")
            bar.reset(total=num_frames)

        report = pack(
            args.data,
            args.out,
            config,
            jobs=args.jobs,
            with_partial=args.partial,
            on_start=begin,
            on_frames=bar.update,
        )
    _print_report(report, args.out)
    figures = {
        "out": str(args.out),
        "config": config.name,
        "runs": len(report.shards),
        "runs_packed_now": report.num_new,
        "frames": report.num_frames,
        "frames_packed_now": report.new_frames,
        "seconds": report.seconds,
        "trimmed": report.trimmed,
        "dropped_points": report.dropped_points,
        "refused": [asdict(refusal) for refusal in report.refused],
    }
    return (OK if report.shards else NOTHING_PACKED), figures


def _print_report(report: PackReport, out: Path) -> None:
    rate = report.new_frames / max(report.seconds, 1e-9)
    print(
        f"{out}: {len(report.shards)} runs, {report.num_frames} frames; packed now: "
        f"{report.num_new} runs, {report.new_frames} frames in {report.seconds:.1f} s "
        f"({rate:.0f} frames/s)"
    )
    for reason, count in sorted(report.trimmed.items()):
        print(f"left out: {count} frames, {reason}")
    if report.dropped_points:
        print(f"left out: {report.dropped_points} LiDAR points that are not finite")
    if report.refused:
        print(f"refused: {len(report.refused)} files or runs; all stand in {shards.INDEX} and its")
        print("runs' shard.json")
        for refusal in report.refused[:_SHOWN]:
            print(f"  {refusal.path}: {refusal.reason}")
        if len(report.refused) > _SHOWN:
            kinds = Counter(Path(r.path).parent.name for r in report.refused[_SHOWN:])
            print(f"  and {len(report.refused) - _SHOWN} more: {dict(kinds)}")


def _verify(args: argparse.Namespace) -> tuple[int, Any]:
    bad = list(shards.verify(args.data))
    num_runs = len(shards.read_index(args.data)["runs"])
    for refusal in bad:
        print(f"{refusal.path}: {refusal.reason}")
    print(f"{args.data}: {num_runs} runs, {len(bad)} bad files")
    if bad:
        print("delete the folders of these runs and run ./flad data pack again")
    return (NOTHING_PACKED if bad else OK), {
        "runs": num_runs,
        "bad": [asdict(refusal) for refusal in bad],
    }


def _split(args: argparse.Namespace) -> tuple[int, Any]:
    dataset = PackedDataset(args.data)
    towns = set(filter(None, args.exclude_towns.split(",")))
    there = sorted({run.town for run in dataset.runs})
    if unknown := sorted(towns - set(there)):
        raise ValueError(f"--exclude-towns {','.join(unknown)}: {args.data} has {there}")
    weathers = weather_ids(args.exclude_weathers, "--exclude-weathers")
    runs: list[PackedRun] = [
        run for run in dataset.runs if run.town not in towns and run.weather_id not in weathers
    ]
    config = SplitConfig(
        num_vehicles=args.vehicles,
        level=args.level,
        seed=args.seed,
        unit=args.unit,
        clip_frames=round(10 * args.clip_s),
    )
    result = split(runs, config)
    write_split(args.out, result)
    print(histogram(result))
    print(f"{result.frames_left_out} frames between clips of different vehicles are left out")
    return OK, {
        "vehicles": config.num_vehicles,
        "level": config.level,
        "unevenness": result.unevenness,
        "frames_left_out": result.frames_left_out,
        "counts": {f"{town}/w{w}": row for (town, w), row in result.counts.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
