# SPDX-License-Identifier: Apache-2.0
"""Train the encoder on three emulated vehicles, kill one on the way, and drive with the result.

Three vehicle processes and an edge train for two minutes over DDS on what a car recorded, one of
them is killed and the others go on; then a car drives a route through a town with traffic, in
closed loop over ROS 2, with the encoder that came out. --quick, and --encoder NAME, only drive.

The world, the bridge, the planner, the vision encoder and the edge are processes of this machine
that talk over DDS. A language model on the edge drives by the encoder's tokens: the vehicle is told
where to go in words, and on the long route it loses the edge for some seconds. With ``--driver
expert`` rules with the map drive, and the encoder only looks. The run's folder then holds
report.html, results.json and a bag for rviz and Foxglove.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flad_bringup.commands.figures import add_json_argument, write_json

if TYPE_CHECKING:
    from flad_bringup.federate.demo_training import Training

SUMMARY = "train on three vehicles, lose one, drive a town with the result, write a report"
NEEDS = ("vehicle", "sim", "carla", "train", "edge")

_ROUTES = "routes/demo.xml"
_QUICK_ROUTES = "routes/demo_quick.xml"
_ENCODER = "small"
_NO_ENCODER = "off"
_TRAFFIC = "30"  # vehicles
_ADLLM, _EXPERT = "adllm", "expert"
_ADLLM_MODEL = "tiny"
_EDGE_LOSS = "36:40"  # s of simulated time without an edge; the car is on its way then


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--quick", action="store_true", help="no training, a short route: under one minute"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of traffic and scenery")
    parser.add_argument(
        "--driver",
        choices=[_EXPERT, _ADLLM],
        help="rules with the map, or the language model on the edge (default: adllm; expert where "
        "--encoder names eyes that it cannot read)",
    )
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        help="drive with these eyes, and train nothing: a shipped model, a .safetensors file, or "
        f"off (default: {_ENCODER}, trained together unless --quick)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write; starts afresh (default: runs/demo)"
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Drive, then say how it went and where to look."""
    started = time.monotonic()
    folder: Path = (args.out or args.workspace.runs / "demo").absolute()
    results_file = folder / "results.json"
    if not _is_ours(folder, results_file):
        print(f"{folder} holds something else; give --out a folder that is new or empty")
        return 2
    encoder = args.encoder or _ENCODER
    if encoder != _NO_ENCODER and not (Path(encoder).is_file() or _is_shipped(encoder)):
        print(
            f"encoder {encoder!r} is no .safetensors file and no shipped model; "
            f"give --encoder {_ENCODER}, a file, or {_NO_ENCODER}"
        )
        return 2
    driver = args.driver or (_ADLLM if encoder == _ENCODER else _EXPERT)
    if encoder == _NO_ENCODER and driver == _ADLLM:
        print("--encoder off needs --driver expert: the language model drives by what is seen")
        return 2
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    driving = ["--driver", driver]
    if driver == _ADLLM:
        driving += ["--phrasings", "held_out"]
        driving += [] if args.quick else ["--edge-loss", _EDGE_LOSS]
    training: Training | None = None
    if not args.quick and args.encoder is None:
        training = _train(args, folder, driver)
        if training is None:
            return 1
        encoder, driving = str(training.encoder), [*driving, *training.driving]
    routes = args.workspace.config / (_QUICK_ROUTES if args.quick else _ROUTES)
    evaluation = importlib.import_module("flad_carla.evaluation.cli")  # only now is it installed
    status = int(
        evaluation.main(
            [
                *("--routes", str(routes)),
                *driving,
                *("--encoder", encoder),
                *("--traffic", _TRAFFIC),
                *("--seed", str(args.seed)),
                *("--rig", str(args.workspace.config / "rigs/demo.yaml")),
                *("--logs", str(folder / "logs")),
                *("--json", str(results_file)),
                *("--bag", str(folder / "bag")),
                *("--report", str(folder / "report.html")),
            ]
        )
    )
    if status != 0 or not results_file.is_file():
        return status or 1
    if training is not None:
        page = importlib.import_module("flad_carla.report.page")
        page.write_report(
            folder / "report_data", folder / "report.html", before=training.section, num_requested=1
        )
    scores = json.loads(results_file.read_text(encoding="utf-8"))
    seconds = time.monotonic() - started
    sight = _sight(folder)
    print(_summary(scores, sight, folder, seconds))
    figures = {"seconds": seconds, "folder": str(folder), "results": scores, "sight": sight}
    if training is not None:
        print("\n".join(training.words))
        figures["training"] = training.as_json()
    write_json(args.json, figures)
    return 0


def _train(args: argparse.Namespace, folder: Path, driver: str) -> Training | None:
    """The first part; None if it failed, which is said."""
    part: Any = importlib.import_module("flad_bringup.federate.demo_training")
    # Beside the runs, not in this one's folder: recorded once.
    recording = args.workspace.runs / "demo_recording"
    try:
        found: Training = part.train_together(
            args.workspace.config,
            recording,
            folder,
            start=_ENCODER,
            adllm=_ADLLM_MODEL if driver == _ADLLM else "",
        )
    except (RuntimeError, TimeoutError, ValueError, OSError) as error:
        print(f"flad: training together failed: {error}", file=sys.stderr)
        return None
    return found


def _is_ours(folder: Path, results_file: Path) -> bool:
    """Whether the folder may be emptied: it has nothing, or an earlier demo's run."""
    return not folder.exists() or results_file.is_file() or not any(folder.iterdir())


def _is_shipped(encoder: str) -> bool:
    """Whether its weights came with flad_perception, found without importing PyTorch."""
    spec = importlib.util.find_spec("flad_perception")
    folders = (spec.submodule_search_locations if spec else None) or []
    return any((Path(f) / "weights_data" / f"{encoder}.safetensors").is_file() for f in folders)


def _sight(folder: Path) -> dict[str, Any]:
    """Which model predicted in the run, and how that compares with the truth."""
    run_file = importlib.import_module("flad_carla.report.run_file")
    words = importlib.import_module("flad_carla.report.page_perception")
    perception = run_file.load_runs(folder / "report_data")[0].perception
    return {"encoder": words.encoder_words(perception), **words.figures(perception)}


def _summary(results: dict[str, Any], sight: dict[str, Any], folder: Path, seconds: float) -> str:
    scores = results["_checkpoint"]["global_record"]["scores"]
    seen = [sight["encoder"]]
    if sight["vehicles"]:
        seen.append(f"{sight['found']} of {sight['vehicles']} vehicles found")
    for name, (right, count) in (("red lights", sight["red"]), ("no red", sight["free"])):
        if count:
            seen.append(f"{name} told right in {right} of {count} moments")
    if sight["latency_ms"]:
        seen.append(f"latency {sight['latency_ms'][0]} ms, p95 {sight['latency_ms'][1]} ms")
    return "\n".join(
        [
            "",
            f"driving score {scores['score_composed']:.1f}, "
            f"route completion {scores['score_route']:.1f} %, "
            f"infraction score {scores['score_penalty']:.2f} ({seconds:.0f} s)",
            f"encoder  {', '.join(seen)}",
            f"report   {folder / 'report.html'}   open it in a browser",
            f"bag      {folder / 'bag'}   open it in Foxglove, or ros2 bag play beside rviz2",
        ]
    )
