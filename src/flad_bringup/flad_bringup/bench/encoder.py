# SPDX-License-Identifier: Apache-2.0
"""How good the shipped encoder is on what it never saw: the held-out town, the held-out weathers.

Figures of the held-out town carry the project's bars; towns that were trained on are shown in the
held-out weathers only. Naive answers on the same frames stand beside ours: a light that is always
green (or green whenever the car moves), and a car that keeps its velocity. Without ``--data`` the
held-out town's routes are recorded and packed first, in random weathers.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from flad_bringup.bench.rows import Row
from flad_perception.config import load_encoder_config
from flad_perception.data.dataset import PackedDataset
from flad_perception.data.loader import Loader, LoaderConfig
from flad_perception.data.pack import pack
from flad_perception.losses import LossConfig
from flad_perception.training.config import load_train_config
from flad_perception.training.evaluate import evaluate
from flad_perception.training.frames import split_frames
from flad_perception.weights import load_encoder, shipped_weights

SUMMARY = "the shipped encoder on the held-out town and weathers, beside naive answers"
MINUTES = 15.0

LEAST_LIGHT_ACCURACY = 0.9
MOST_WAYPOINT_L1_M = 0.5
LEAST_VEHICLE_AP = 0.6

# The evaluation's routes cross the town's signalled junctions, the others its many without.
_ROUTES = ("routes/oldtown.xml", "routes/data_oldtown.xml")
_IMAGE_SIZE = "320x240"
_RECORDING_DEADLINE_S = 3600.0
_BATCH_SIZE = 32
_HORIZONS_S = ("0.5", "1.0", "1.5", "2.0", "2.5")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("--config", default="small", help="encoder (default: %(default)s)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="other than those that ship")
    parser.add_argument("--data", type=Path, metavar="DIR", help="packed; else it is recorded here")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="folder for what is recorded")


def measure(args: argparse.Namespace) -> list[Row]:
    """Evaluate."""
    config = load_encoder_config(args.config)
    model, config, _ = load_encoder(args.weights or shipped_weights(config.name))
    with TemporaryDirectory() as scratch:
        data: Path = args.data or _recorded(args, args.keep or Path(scratch))
        dataset = PackedDataset(data, config)
        held_out = split_frames(dataset, load_train_config(args.config), allow_no_training=True)
        rows: list[Row] = []
        for indices, kind in ((held_out.other_towns, ""), (held_out.other_weathers, "_weathers")):
            loader = Loader(dataset, indices, LoaderConfig(batch_size=_BATCH_SIZE))
            with closing(loader.epoch(0)) as batches:
                bar = tqdm(batches, total=loader.num_steps(0), unit="batch", disable=None)
                found = evaluate(model, config, bar, LossConfig())
            for town, figures in found.towns.items():
                if len(found.towns) > 2 or town != "all":  # "all" of one town says nothing new
                    rows += town_rows(f"{town.lower()}{kind}", figures, promised=not kind)
    return rows


def town_rows(town: str, figures: Mapping[str, float], *, promised: bool) -> list[Row]:
    """Rows of one town; bars only where something is promised."""

    def bar(value: float) -> float | None:
        return value if promised else None

    light = "light_balanced_accuracy"
    rows = [
        Row(
            name=f"encoder_{town}_{light}",
            value=figures[light],
            unit="",
            baseline="always green",
            baseline_value=figures[f"{light}_always_green"],
            bar=bar(LEAST_LIGHT_ACCURACY),
        ),
        Row(
            name=f"encoder_{town}_light_moving_is_green",
            value=figures[f"{light}_moving_is_green"],
            unit="",
        ),
        Row(name=f"encoder_{town}_light_red_recall", value=figures["light_red_recall"], unit=""),
        Row(
            name=f"encoder_{town}_light_green_recall", value=figures["light_green_recall"], unit=""
        ),
        Row(name=f"encoder_{town}_light_frames", value=figures["light_frames"], unit="frames"),
    ]
    for horizon_s in _HORIZONS_S:
        key = f"waypoint_l1_m_at_{horizon_s}s"
        rows.append(
            Row(
                name=f"encoder_{town}_{key}",
                value=figures[key],
                unit="m",
                baseline="constant velocity",
                baseline_value=figures[f"{key}_constant_velocity"],
                bar=bar(MOST_WAYPOINT_L1_M) if horizon_s == "1.0" else None,
                better="lower",
            )
        )
    rows += [
        Row(
            name=f"encoder_{town}_vehicle_ap_2m",
            value=figures["vehicle_ap_2m"],
            unit="",
            bar=bar(LEAST_VEHICLE_AP),
        ),
        Row(name=f"encoder_{town}_vehicle_ap_2m_all", value=figures["vehicle_ap_2m_all"], unit=""),
        Row(name=f"encoder_{town}_frames", value=figures["frames"], unit="frames"),
    ]
    return [row for row in rows if not math.isnan(row.value)]  # a figure without frames is none


def _recorded(args: argparse.Namespace, folder: Path) -> Path:
    """The held-out town's routes, driven by the expert and packed."""
    recorded = [folder / "recorded" / Path(routes).stem for routes in _ROUTES]
    for routes, out in zip(_ROUTES, recorded, strict=True):
        command = [sys.executable, "-m", "flad_bringup", "record", "--out", str(out)]
        command += ["--routes", str(args.workspace.config / routes), "--image-size", _IMAGE_SIZE]
        command += ["--kicks", "on", "--lights", "favoured", "--seed", str(args.seed)]
        subprocess.run(command, timeout=_RECORDING_DEADLINE_S, check=True)
    pack(recorded, folder / "packed", load_encoder_config(args.config))
    return folder / "packed"
