# SPDX-License-Identifier: Apache-2.0
"""The command line of the evaluation: arguments, progress, exit status."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from flad_carla.bag.recorder import BagConfig, BagRecorder
from flad_carla.evaluation.checkpoint import CheckpointError
from flad_carla.evaluation.driver_options import (
    add_encoder_arguments,
    add_language_arguments,
    add_monitor_argument,
    encoder_option,
    is_monitored,
    language_option,
)
from flad_carla.evaluation.driver_tally import driver_summary
from flad_carla.evaluation.harness import DRIVERS, Evaluation, EvaluationConfig
from flad_carla.evaluation.progress_bar import ProgressBar
from flad_carla.evaluation.protocol import PROTOCOLS
from flad_carla.evaluation.routes import RouteFileError
from flad_carla.evaluation.statistics import NOT_SET_UP, SIMULATION_CRASHED, Json
from flad_carla.evaluation.venue import VenueConfig
from flad_carla.report.collect import RunCollector
from flad_carla.report.page import write_report
from flad_carla.run_log import Observer
from flad_common.error_codes import FladError

OK = 0
SOME_NOT_RUN = 1  # a route could not be run: a missing town, a route without a way, a crash
BAD_INPUT = 2
NO_SIMULATOR = 3
INTERRUPTED = 130

_ENCODER_RIG = "encoder"  # what an encoder sees by, where no rig is given


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "--routes",
        type=Path,
        required=True,
        metavar="FILE.xml",
        help="leaderboard 1.0 or 2.0 routes",
    )
    add("--only", default="", metavar="IDS", help="only these route ids, separated by commas")
    add(
        "--driver",
        choices=list(DRIVERS),
        default="expert",
        help="who publishes /vehicle_0/plan: the expert here, a constant speed straight ahead (a "
        "floor for scores), another process, or a language model: the AD-LLM on an edge that is "
        "started here, the same shown nothing but words, or the small ADM on the vehicle "
        "(default: %(default)s)",
    )
    add_language_arguments(parser)
    add(
        "--protocol",
        choices=list(PROTOCOLS),
        default="lb1.0",
        help="scoring (default: %(default)s)",
    )
    add("--repetitions", type=int, default=1, metavar="N", help="each with the next seed")
    add("--seed", type=int, default=0, metavar="N", help="of the first repetition")
    add("--host", help="a running CARLA or flad_sim; without it one is started here")
    add("--port", type=int, help="its port (default: 2000; a free one where we start it)")
    add("--town-dir", type=Path, metavar="DIR", help="take route towns from DIR/<Town>.xodr")
    add("--traffic", type=int, default=30, metavar="N", help="vehicles (default: %(default)s)")
    add("--walkers", type=int, default=20, metavar="N", help="pedestrians (default: %(default)s)")
    add("--rig", metavar="NAME", help="sensors: a file, or a name in config/rigs (default: none)")
    add("--scenarios", choices=["on", "off"], default="on", help="those of the route file")
    add_encoder_arguments(parser)
    add_monitor_argument(parser)
    add("--mode", choices=["lockstep", "realtime"], default="lockstep", help="how time passes")
    add("--json", type=Path, metavar="OUT.json", help="results file (leaderboard's layout)")
    add("--report", type=Path, metavar="OUT.html", help="one page with map, curves and replay")
    add("--bag", type=Path, metavar="DIR", help="a rosbag2 folder per route, for rviz and Foxglove")
    add("--bag-raw", action="store_true", help="raw pictures in the bag beside the JPEGs")
    add("--resume", action="store_true", help="go on with what --json already has")
    add("--domain", type=int, metavar="N", help="ROS domain (default: one of our own)")
    add("--logs", type=Path, metavar="DIR", help="where our processes write their logs")


def run(args: argparse.Namespace) -> int:
    """Evaluate; returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    observers: list[Observer] = []
    collector = bag = None
    if args.report is not None:
        collector = RunCollector(args.report.with_suffix("").with_name(args.report.stem + "_data"))
        observers.append(collector)
    if args.bag is not None:
        bag = BagRecorder(args.bag, BagConfig(raw_images=args.bag_raw))
        observers.append(bag)
    bar = ProgressBar(sys.stderr)
    try:
        evaluation = Evaluation(_config(args), observers=observers, progress=bar)
        result = evaluation.run()
    except (RouteFileError, CheckpointError, ValueError, TypeError, OSError) as error:
        return _fail(error, BAD_INPUT)
    except (FladError, TimeoutError) as error:
        return _fail(error, NO_SIMULATOR)
    except KeyboardInterrupt:
        hint = f"; go on with --resume --json {args.json}" if args.json else ""
        print(f"interrupted{hint}", file=sys.stderr)
        return INTERRUPTED
    finally:
        bar.close()
    records = evaluation.checkpoint.records
    _print_summary(result, records, args)
    if collector is not None:
        try:
            page = write_report(collector.folder, args.report, num_requested=len(records))
            print(f"report: {page}")
        except (OSError, ValueError) as error:
            return _fail(error, BAD_INPUT)
    for problem in [*(collector.failures if collector else []), *(bag.failures if bag else [])]:
        print(f"warning: {problem}", file=sys.stderr)
    not_run = [r for r in records if r["status"].endswith((NOT_SET_UP, SIMULATION_CRASHED))]
    return SOME_NOT_RUN if not_run else OK


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="evaluate", description="Drive routes in closed loop and score them."
    )
    add_arguments(parser)
    return run(parser.parse_args(argv))


def _config(args: argparse.Namespace) -> EvaluationConfig:
    if args.resume and args.json is None:
        raise ValueError("--resume needs --json FILE: it goes on with that file")
    encoder = encoder_option(args)
    language = language_option(args, encoder)
    rig = args.rig or (None if encoder is None else _ENCODER_RIG)
    return EvaluationConfig(
        routes=args.routes,
        only=tuple(filter(None, args.only.split(","))),
        driver=args.driver,
        protocol=args.protocol,
        repetitions=args.repetitions,
        seed=args.seed,
        rig=None if rig is None else find_rig(rig),
        scenarios=args.scenarios == "on",
        json=args.json,
        resume=args.resume,
        venue=VenueConfig(
            host=args.host,
            port=args.port,
            town_dir=args.town_dir,
            traffic=args.traffic,
            walkers=args.walkers,
            mode=args.mode,
            domain_id=args.domain,
            logs=args.logs,
            encoder=encoder,
            language=language,
            is_monitored=is_monitored(args),
        ),
    )


def find_rig(name: str) -> Path:
    """A rig by its file, or by its name in ``config/rigs`` of the source tree or of here."""
    if Path(name).is_file():
        return Path(name)
    folders = [Path("config/rigs"), Path(__file__).resolve().parents[4] / "config" / "rigs"]
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = sorted({p.stem for folder in folders for p in folder.glob("*.yaml")})
    raise ValueError(f"there is no rig {name!r}; known are {', '.join(known) or 'none'}, or a file")


def _print_summary(result: Json, records: Sequence[Json], args: argparse.Namespace) -> None:
    scores = result["scores_mean" if "scores_mean" in result else "scores"]
    print(f"{'route':<28} {'RC':>6} {'IS':>6} {'DS':>6}  {'game s':>7} {'wall s':>7}  status")
    for record in records:
        s, meta = record["scores"], record["meta"]
        print(
            f"{record['route_id'].removeprefix('RouteScenario_'):<28} {s['score_route']:6.1f} "
            f"{s['score_penalty']:6.3f} {s['score_composed']:6.1f}  {meta['duration_game']:7.1f} "
            f"{meta['duration_system']:7.1f}  {record['status']}"
        )
        for kind, messages in record["infractions"].items():
            for message in messages:
                print(f"    {kind}: {message}")
        if "detail" in meta:
            print(f"    {meta['detail']}")
    print(
        f"{args.protocol}: driving score {scores['score_composed']:.2f}, route completion "
        f"{scores['score_route']:.2f}, infraction score {scores['score_penalty']:.3f} "
        f"over {len(records)} runs"
    )
    if told := driver_summary(records):
        print(told)
    if args.json is not None:
        print(f"results: {args.json}")


def _fail(error: BaseException, status: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return status
