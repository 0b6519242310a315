# SPDX-License-Identifier: Apache-2.0
"""Whether data keep up with training: packed frames, files as recorded, and steps of the trainer.

The loader runs alone, as fast as it can, with augmentation; beside it PyTorch's DataLoader makes
the same frames from the recorded files; then the trainer's own steps are timed on batches that are
there already, and with the loader beside them. Files are in the page cache. Without ``--recorded``
two routes are recorded first.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from contextlib import closing
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from flad_bringup.bench.loader_plain import RecordedFrames, plain_frames_per_s
from flad_bringup.bench.rows import Row
from flad_perception.config import EncoderConfig, load_encoder_config
from flad_perception.data.dataset import Ints, PackedDataset
from flad_perception.data.lmdrive import find_runs
from flad_perception.data.loader import Loader, LoaderConfig
from flad_perception.data.pack import PackReport, pack
from flad_perception.model.encoder import build_encoder
from flad_perception.training.config import load_train_config
from flad_perception.training.stepper import Stepper

SUMMARY = "packed frames a second, beside a per-file loader and the training they feed"
MINUTES = 4.0

LEAST_OVER_TRAINING = 5.0

_ROUTES, _ONLY, _IMAGE_SIZE = "routes/data_grid.xml", "0,1", "320x240"
_RECORDING_DEADLINE_S = 1800.0
_WARM_STEPS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("--config", default="small", help="encoder (default: %(default)s)")
    parser.add_argument("--recorded", type=Path, metavar="DIR", help="a data set or a run")
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="of each measurement (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=30, help="of training (default: %(default)s)")


def measure(args: argparse.Namespace) -> list[Row]:
    """Record or take data, pack them, and time everything in this one run."""
    config = load_encoder_config(args.config)
    train = load_train_config(args.config)
    with TemporaryDirectory() as scratch:
        recorded = args.recorded or _record(args, Path(scratch) / "recorded")
        report = pack([recorded], Path(scratch) / "packed", config)
        dataset = PackedDataset(Path(scratch) / "packed", config)
        order = np.random.default_rng(args.seed).permutation(len(dataset)).astype(np.int64)
        settings = LoaderConfig(batch_size=train.batch_size, seed=args.seed, augment=train.augment)
        used_s = time.process_time()
        ours, num_frames = _loader_frames_per_s(Loader(dataset, order, settings), args.seconds)
        used_s = time.process_time() - used_s
        runs = [r for r in find_runs([recorded])[0] if r.status == "complete"]
        plain = plain_frames_per_s(
            RecordedFrames(runs, config, train.augment, args.seed), train.batch_size, args.seconds
        )
        training = _Training(dataset, order, config, args)
        return [
            *_loader_rows(ours, plain, 1e3 * used_s / num_frames, training),
            _pack_row(report),
        ]


class _Training:
    """Frames a second of training: on batches that are ready, and on the loader's."""

    def __init__(
        self, dataset: PackedDataset, order: Ints, config: EncoderConfig, args: argparse.Namespace
    ) -> None:
        train = load_train_config(args.config)
        stepper = Stepper(build_encoder(config, args.seed), train, torch.device("cpu"))
        endless = np.resize(order, (args.steps + _WARM_STEPS) * train.batch_size)
        settings = LoaderConfig(batch_size=train.batch_size, seed=args.seed, augment=train.augment)
        loader = Loader(dataset, endless, settings)
        with closing(loader.epoch(0)) as batches:
            ready = list(islice(batches, min(args.steps, 10)))
        for step in range(_WARM_STEPS):
            stepper.step(ready[step % len(ready)], 1e-3)
        began = time.perf_counter()
        for step in range(args.steps):
            stepper.step(ready[step % len(ready)], 1e-3)
        frames = args.steps * train.batch_size
        self.alone = frames / (time.perf_counter() - began)
        with closing(loader.epoch(1)) as batches:
            for batch in islice(batches, _WARM_STEPS):
                stepper.step(batch, 1e-3)
            waited_s, began = loader.waited_s, time.perf_counter()
            for batch in batches:
                stepper.step(batch, 1e-3)
            seconds = time.perf_counter() - began
        self.with_loader = frames / seconds
        self.waiting_share = (loader.waited_s - waited_s) / seconds


def _loader_rows(ours: float, plain: float, cpu_ms: float, training: _Training) -> list[Row]:
    files = "DataLoader over files, a worker a core"
    return [
        Row(
            name="loader_frames_per_s",
            value=ours,
            unit="frames/s",
            baseline=files,
            baseline_value=plain,
        ),
        Row(
            name="loader_over_training",
            value=ours / training.alone,
            unit="x",
            baseline=files,
            baseline_value=plain / training.alone,
            bar=LEAST_OVER_TRAINING,
        ),
        Row(name="loader_cpu_ms", value=cpu_ms, unit="ms/frame", better="lower"),
        Row(
            name="loader_training_frames_per_s",
            value=training.with_loader,
            unit="frames/s",
            baseline="steps on batches that are ready",
            baseline_value=training.alone,
        ),
        Row(
            name="loader_waiting_share",
            value=training.waiting_share,
            unit="of the time",
            better="lower",
        ),
    ]


def _pack_row(report: PackReport) -> Row:
    return Row(
        name="loader_pack_frames_per_s", value=report.new_frames / report.seconds, unit="frames/s"
    )


def _loader_frames_per_s(loader: Loader, seconds: float) -> tuple[float, int]:
    """Frames a second over ``seconds`` of epochs, and how many frames that were."""
    frames, epoch, began = 0, 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        with closing(loader.epoch(epoch)) as batches:
            for batch in batches:
                frames += len(batch)
                if time.perf_counter() - began >= seconds:
                    break
        epoch += 1
    return frames / (time.perf_counter() - began), frames


def _record(args: argparse.Namespace, folder: Path) -> Path:
    command = [sys.executable, "-m", "flad_bringup", "record", "--out", str(folder)]
    command += ["--routes", str(args.workspace.config / _ROUTES), "--only", _ONLY]
    command += ["--image-size", _IMAGE_SIZE, "--seed", str(args.seed), "--kicks", "on"]
    subprocess.run(command, timeout=_RECORDING_DEADLINE_S, check=True)
    return folder
