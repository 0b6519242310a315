# SPDX-License-Identifier: Apache-2.0
"""The command line of the recorder: ``./flad record``."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from flad_carla.evaluation.cli import find_rig
from flad_carla.evaluation.driver_options import (
    add_encoder_arguments,
    add_language_arguments,
    add_monitor_argument,
    encoder_option,
    is_monitored,
    language_option,
)
from flad_carla.evaluation.harness import Evaluation, EvaluationConfig
from flad_carla.evaluation.language_driver import LANGUAGE_DRIVERS
from flad_carla.evaluation.progress_bar import ProgressBar
from flad_carla.evaluation.routes import read_routes
from flad_carla.evaluation.venue import VenueConfig
from flad_carla.recorder.dataset import DatasetRecorder, RecorderConfig
from flad_carla.recorder.favoured_lights import FavouredLights
from flad_carla.recorder.kicks import HARD, LATE, KickConfig, KickFilter
from flad_carla.recorder.rescue import Rescue
from flad_carla.recorder.runs import COMPLETE, recorded_runs, salvage
from flad_carla.recorder.session import (
    RecordingStoppedError,
    StopWhenFull,
    choose_weather,
    missing_routes,
    parse_size,
    recording_rig,
    write_rig,
    write_routes,
)
from flad_carla.rig import Rig, load_rig
from flad_common.error_codes import FladError
from flad_common.folder_lock import folder_lock

OK = 0
INCOMPLETE = 1  # a run crashed or the disk ran full; the same command goes on
BAD_INPUT = 2
NO_SIMULATOR = 3
INTERRUPTED = 130

_KICKS = {"on": KickConfig(), "hard": HARD, "late": LATE}

_EPILOG = """
The data set has LMDrive's folders and fields: see docs or flad_carla/recorder/fields.py. Complete
runs are never driven twice: the same command goes on after a crash, an interruption or a full disk
(a run that was cut off is driven again from its start; until then its whole frames stay readable).
Check a data set with: python -m flad_carla.recorder verify DIR
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("--routes", type=Path, required=True, metavar="FILE.xml", help="leaderboard routes")
    add("--only", default="", metavar="IDS", help="only these route ids, separated by commas")
    add("--out", type=Path, required=True, metavar="DIR", help="the data set; may exist")
    add(
        "--driver",
        choices=["expert", "external", *LANGUAGE_DRIVERS],
        default="expert",
        help="who drives: the expert, whoever publishes /vehicle_0/plan, or a language model "
        "(DAgger; default: %(default)s)",
    )
    add_language_arguments(parser)
    add_encoder_arguments(parser)
    add_monitor_argument(parser)
    add(
        "--label",
        choices=["expert"],
        default="expert",
        help="whose answer is recorded, whoever drives (default: %(default)s)",
    )
    add("--repetitions", type=int, default=1, metavar="N", help="each with the next seed")
    add("--seed", type=int, default=0, metavar="N", help="of traffic, weather and kicks")
    add(
        "--weather",
        default="random",
        metavar="W",
        help="random (by seed and route), route (the file's), or one of LMDrive's ids 0..20",
    )
    add(
        "--image-size",
        default="800x600",
        metavar="WxH",
        help="of each camera (default: %(default)s, LMDrive's; 400x300 records four times faster)",
    )
    add("--rig", default="lmdrive", help="sensors: a file, or a name (default: %(default)s)")
    add(
        "--kicks",
        choices=["on", "hard", "late", "off"],
        default="on",
        help="push the car off its way now and then, often and harder, or gently and brake late "
        "(default: %(default)s)",
    )
    add(
        "--rescue",
        choices=["on", "off"],
        default="on",
        help="the expert takes the wheel for a while where a language model has left the lane or "
        "stands for no reason",
    )
    add(
        "--lights",
        choices=["town", "favoured"],
        default="town",
        help="the towns' own times, or short reds and many greens (default: %(default)s)",
    )
    add("--jpeg-quality", type=int, default=RecorderConfig.jpeg_quality, metavar="Q")
    add(
        "--min-frames",
        type=int,
        default=RecorderConfig.min_frames,
        metavar="N",
        help="shorter runs are not listed in the index (default: %(default)s)",
    )
    add("--host", help="a running CARLA or flad_sim; without it one is started here")
    add("--port", type=int, help="its port (default: 2000; a free one where we start it)")
    add("--town-dir", type=Path, metavar="DIR", help="take route towns from DIR/<Town>.xodr")
    add("--traffic", type=int, default=30, metavar="N", help="vehicles (default: %(default)s)")
    add("--walkers", type=int, default=20, metavar="N", help="pedestrians (default: %(default)s)")
    add("--scenarios", choices=["on", "off"], default="on", help="those of the route file")
    add("--domain", type=int, metavar="N", help="ROS domain (default: one of our own)")
    add("--logs", type=Path, metavar="DIR", help="where our processes write their logs")


def run(args: argparse.Namespace) -> int:
    """Record; returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        status = _record(args)
    except (ValueError, TypeError, OSError) as error:
        return _fail(error, BAD_INPUT)
    except (FladError, TimeoutError) as error:
        return _fail(error, NO_SIMULATOR)
    except RecordingStoppedError as error:
        return _fail(error, INCOMPLETE)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with what is missing", file=sys.stderr)
        return INTERRUPTED
    _print_summary(args.out)
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="record", description="Record driving as a data set in LMDrive's layout."
    )
    add_arguments(parser)
    return run(parser.parse_args(argv))


def _record(args: argparse.Namespace) -> int:
    if args.repetitions < 1:
        raise ValueError(f"repetitions must be at least 1, got {args.repetitions}")
    config = RecorderConfig(
        jpeg_quality=args.jpeg_quality, min_frames=args.min_frames, lights=args.lights
    )
    rig = recording_rig(load_rig(find_rig(args.rig)), parse_size(args.image_size))
    with folder_lock(args.out):
        return _record_missing(args, config, rig)


def _record_missing(args: argparse.Namespace, config: RecorderConfig, rig: Rig) -> int:
    only = tuple(filter(None, args.only.split(",")))
    for folder in salvage(args.out, config.min_frames):
        print(f"{folder} was cut off; its route is recorded again", file=sys.stderr)
    status = OK
    for repetition in range(args.repetitions):
        seed = args.seed + repetition
        missing = missing_routes(args.routes, only, args.out, seed, args.driver)
        if not missing:
            print(f"seed {seed}: complete already", file=sys.stderr)
            continue
        if num_done := len(read_routes(args.routes, only)) - len(missing):
            print(f"seed {seed}: {num_done} routes are complete already", file=sys.stderr)
        weather_ids = {route: choose_weather(args.weather, route, seed) for route in missing}
        with tempfile.TemporaryDirectory(prefix="flad_record_") as scratch:
            routes, rig_file = Path(scratch) / args.routes.name, Path(scratch) / "rig.yaml"
            write_routes(args.routes, routes, weather_ids)
            write_rig(rig, rig_file)
            recorder = DatasetRecorder(args.out, config=config)
            _drive(args, routes, rig_file, missing, seed, recorder)
    wanted = args.seed + args.repetitions
    for seed in range(args.seed, wanted):
        if missing_routes(args.routes, only, args.out, seed, args.driver):
            status = INCOMPLETE
    return status


def _drive(
    args: argparse.Namespace,
    routes: Path,
    rig: Path,
    only: Sequence[str],
    seed: int,
    recorder: DatasetRecorder,
) -> None:
    encoder = encoder_option(args)
    evaluation_config = EvaluationConfig(
        routes=routes,
        only=tuple(only),
        driver=args.driver,
        seed=seed,
        rig=rig,
        scenarios=args.scenarios == "on",
        venue=VenueConfig(
            host=args.host,
            port=args.port,
            town_dir=args.town_dir,
            traffic=args.traffic,
            walkers=args.walkers,
            domain_id=args.domain,
            logs=args.logs,
            encoder=encoder,
            language=language_option(args, encoder),
            is_monitored=is_monitored(args),
        ),
    )
    bar = ProgressBar(sys.stderr)
    try:
        evaluation = Evaluation(
            evaluation_config,
            observers=[recorder, StopWhenFull(recorder)],
            control_filter=KickFilter(_KICKS[args.kicks]) if args.kicks in _KICKS else None,
            helper=Rescue() if args.rescue == "on" and args.driver in LANGUAGE_DRIVERS else None,
            light_timer=FavouredLights() if args.lights == "favoured" else None,
            progress=bar,
        )
        evaluation.run()
    finally:
        bar.close()
    for record in evaluation.checkpoint.records:
        if "detail" in record["meta"]:
            print(f"{record['route_id']}: {record['meta']['detail']}", file=sys.stderr)


def _print_summary(root: Path) -> None:
    total = 0
    for folder, document in recorded_runs(root):
        result = document["result"] or {}
        mark = "" if document["status"] == COMPLETE else f"  ({document['status']})"
        total += document["num_frames"]
        print(
            f"{folder.name:<44} {document['num_frames']:6d} frames  seed {document['seed']:<4d} "
            f"{result.get('status', '')}{mark}"
        )
    size = sum(path.stat().st_size for path in root.glob("routes_*/*/*"))
    print(f"{root}: {total} frames, {size / 1e6:.0f} MB")


def _fail(error: BaseException, status: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
