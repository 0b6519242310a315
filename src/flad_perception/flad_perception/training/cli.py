# SPDX-License-Identifier: Apache-2.0
"""The command line of training: ``./flad train encoder``."""

from __future__ import annotations

import argparse
import dataclasses
import platform
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch

from flad_common.config import to_yaml
from flad_common.error_codes import FladError
from flad_common.folder_lock import folder_lock
from flad_perception.config import EncoderConfig, load_encoder_config
from flad_perception.data.dataset import PackedDataset, weather_ids
from flad_perception.metrics import ALL_TOWNS
from flad_perception.model.encoder import VisionEncoder, build_encoder
from flad_perception.training.calibrate import calibrate_light
from flad_perception.training.config import TrainConfig, load_train_config
from flad_perception.training.curves import Panel, draw_curves, smoothed
from flad_perception.training.frames import Frames, split_frames
from flad_perception.training.model_card import CardFacts, model_card
from flad_perception.training.road import train_road
from flad_perception.training.run_log import RunLog, one_line
from flad_perception.training.trainer import Trainer
from flad_perception.weights import load_resnet, save_encoder, start_from

OK = 0
DIVERGED = 1
BAD_INPUT = 2
INTERRUPTED = 130

_EPILOG = """
OUT gets NAME.safetensors, MODEL_CARD.md, curves.png, metrics.json, config.yaml, checkpoint.pt and
tb/ (for tensorboard --logdir OUT/tb). An interrupted run goes on with the same command, and ends
with the same weights as one that was not interrupted (within a time budget: on the same schedule).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("--config", default="small", help="encoder: a name or a file (default: %(default)s)")
    add("--training", help="how to train: a name or a file (default: the encoder's name)")
    add("--data", type=Path, required=True, metavar="DIR", help="made by ./flad data pack")
    add("--out", type=Path, required=True, metavar="DIR", help="results; may hold a checkpoint")
    add("--epochs", type=int, metavar="N", help="passes over the sampled frames")
    add("--minutes", type=float, metavar="M", help="stretch the schedule to this much time")
    add("--road-minutes", type=float, metavar="M", help="before: of the road reader's own training")
    add("--seed", type=int, metavar="N", help="of everything random")
    add("--threads", type=int, metavar="N", help="of PyTorch on the CPU")
    add("--precision", choices=["fp32", "bf16", "fp16"], help="of the forward pass")
    add("--lr", type=float, help="highest learning rate")
    add("--batch-size", type=int, metavar="N", help="frames of one step")
    add("--holdout-towns", metavar="A,B", help="never trained on, looked at once (none: '')")
    add("--holdout-weathers", metavar="I,J", help="never trained on, validation (none: '')")
    add(
        "--backbone-weights",
        type=Path,
        metavar="FILE",
        help="torchvision's ResNet-50 to start from",
    )
    add("--start", type=Path, metavar="FILE", help="an encoder whose fitting tensors to start from")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    add("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace, command: str) -> int:
    """Train; returns the exit status."""
    try:
        with _stop_on_interrupt() as should_stop:
            return _train(args, command, should_stop)
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except FladError as error:
        print(f"error: {error}", file=sys.stderr)
        return DIVERGED


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="./flad train encoder",
        description="Train the vision encoder on packed recordings.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    return run(parser.parse_args(argv), f"{parser.prog} {shlex.join(argv)}")


def train_config(args: argparse.Namespace, encoder_name: str) -> TrainConfig:
    """The training file with the command line's changes."""
    config = load_train_config(args.training or encoder_name)
    changes: dict[str, Any] = {
        name: getattr(args, name)
        for name in ("epochs", "minutes", "seed", "threads", "precision", "lr", "batch_size")
        if getattr(args, name) is not None
    }
    if args.road_minutes is not None:
        changes["road"] = dataclasses.replace(config.road, minutes=args.road_minutes)
    if args.minutes is not None and args.epochs is None:
        changes["epochs"] = 0
    if args.holdout_towns is not None:
        changes["holdout_towns"] = tuple(filter(None, args.holdout_towns.split(",")))
    if args.holdout_weathers is not None:
        changes["holdout_weathers"] = tuple(
            weather_ids(args.holdout_weathers, "--holdout-weathers")
        )
    return dataclasses.replace(config, **changes)


def _train(args: argparse.Namespace, command: str, should_stop: Callable[[], bool]) -> int:
    config = load_encoder_config(args.config)
    train = train_config(args, config.name)
    if train.threads:
        torch.set_num_threads(train.threads)
    device = _device(args.device)
    dataset = PackedDataset(args.data, config, check_sums=True)
    if args.holdout_towns is not None:
        _check_towns(train.holdout_towns, dataset)
    frames = split_frames(dataset, train)
    log = RunLog(args.out, config, show_progress=not args.quiet)
    with folder_lock(args.out), closing(log):
        model = _new_model(config, train.seed, args.backbone_weights, args.start)
        checkpoint = args.out / "checkpoint.pt"
        if train.road.minutes and config.road_widths and not checkpoint.is_file():
            _train_road(model, train, frames, should_stop)
            if should_stop():
                return INTERRUPTED
        trainer = Trainer(
            model,
            config,
            train,
            frames,
            log,
            checkpoint,
            device,
            should_stop=should_stop,
        )
        _write_config(args.out, config, train)
        _print_plan(frames, train, trainer, device)
        reason = trainer.fit()
        if reason == "interrupted":
            print(f"interrupted at step {trainer.state.step}; the same command goes on")
            return INTERRUPTED
        return _finish(args.out, config, train, frames, trainer, log, command)


def _check_towns(asked: Sequence[str], dataset: PackedDataset) -> None:
    """A town that is misspelt would be trained on without a word."""
    there = sorted({run.town for run in dataset.runs})
    if unknown := [town for town in asked if town not in there]:
        raise ValueError(f"--holdout-towns {','.join(unknown)}: {dataset.path} has {there}")


def _new_model(
    config: EncoderConfig, seed: int, backbone_weights: Path | None, start: Path | None
) -> VisionEncoder:
    model = build_encoder(config, seed)
    if start is not None:
        left = start_from(model, start)
        print(f"starts from {start}; new: {', '.join(left) or 'nothing'}")
    if backbone_weights is not None:
        if config.backbone.kind != "resnet50":
            raise ValueError(f"--backbone-weights is for a resnet50, {config.name!r} has none")
        load_resnet(model, backbone_weights)
    return model


def _train_road(
    model: VisionEncoder, train: TrainConfig, frames: Frames, should_stop: Callable[[], bool]
) -> None:
    print(f"the road reader first, alone, for {train.road.minutes:g} minutes", flush=True)
    reached = train_road(
        model,
        frames.dataset,
        frames.training.index,
        train.road,
        seed=train.seed,
        should_stop=should_stop,
    )
    print(f"  {reached['frames']:.0f} frames, loss {reached['loss']:.4f}", flush=True)


def _finish(
    out: Path,
    config: EncoderConfig,
    train: TrainConfig,
    frames: Frames,
    trainer: Trainer,
    log: RunLog,
    command: str,
) -> int:
    """Weights, last figures, card."""
    model = trainer.best_model()
    state = trainer.state
    with closing(trainer.batches(frames.other_weathers)) as batches:
        gain = calibrate_light(model, batches)
    print(f"light: red has gained {gain:+.2f} for equal recalls on the held-out weathers")
    weights = out / f"{config.name}.safetensors"
    identity = save_encoder(weights, model, config, {"trained_by": command})
    figures = {
        "held-out weathers": trainer.evaluate(frames.other_weathers, model).towns,
        "held-out towns": trainer.evaluate(frames.other_towns, model).towns,
    }
    rate = state.num_frames / max(state.elapsed_s, 1e-9)
    reached = (
        f"{state.step} steps, {state.epoch} whole epochs, {state.num_frames} frames in "
        f"{state.elapsed_s / 60.0:.1f} minutes (validation included), {rate:.1f} frames/s, "
        f"{trainer.num_skipped} batches skipped"
    )
    summary = frames.summary(train.sampling.light_m)
    log.write_metrics({"final": figures, "reached": reached, "data": summary, "command": command})
    draw_curves(out / "curves.png", _panels(log))
    facts = CardFacts(
        name=config.name,
        model_hash=identity.hash,
        num_parameters=sum(p.numel() for p in model.parameters()),
        command=command,
        seed=train.seed,
        machine=f"{platform.machine()}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}",
        reached=reached,
        data=summary,
        figures=figures,
        curves_file="curves.png",
    )
    (out / "MODEL_CARD.md").write_text(model_card(facts), encoding="utf-8")
    print(reached)
    for what, towns in figures.items():
        print(f"{what}: {one_line(towns.get(ALL_TOWNS, {})) or 'no frames'}")
    print(f"weights: {weights}; card: {out / 'MODEL_CARD.md'}")
    return OK


def _panels(log: RunLog) -> list[Panel]:
    def validation(key: str) -> dict[str, list[tuple[float, float]]]:
        lines: dict[str, list[tuple[float, float]]] = {}
        for record in log.history:
            for town, figures in record["towns"].items():
                value = figures.get(key)
                if value is not None:
                    lines.setdefault(town, []).append((record["step"], value))
        return lines

    losses = {"training": smoothed([(float(s), v) for s, v in log.train_curve])}
    losses["validation"] = [(r["step"], r["losses"]["total"]) for r in log.history]
    return [
        Panel(title="loss", lines=losses),
        Panel(
            title="traffic light, balanced accuracy (validation)",
            lines=validation("light_balanced_accuracy"),
        ),
        Panel(
            title="waypoint L1 at 1 s [m] (validation)", lines=validation("waypoint_l1_m_at_1.0s")
        ),
        Panel(title="vehicle AP at 2 m (validation)", lines=validation("vehicle_ap_2m")),
    ]


def _write_config(out: Path, config: EncoderConfig, train: TrainConfig) -> None:
    text = f"# Encoder\n{to_yaml(config)}---\n# Training\n{to_yaml(train)}"
    (out / "config.yaml").write_text(text, encoding="utf-8")


def _print_plan(frames: Frames, train: TrainConfig, trainer: Trainer, device: torch.device) -> None:
    summary = frames.summary(train.sampling.light_m)
    print(f"training on {device} with {torch.get_num_threads()} threads")
    for name, value in summary.items():
        print(f"  {name.replace('_', ' ')}: {value}")
    for refusal in frames.dataset.refused[:10]:
        print(f"  refused while packing: {refusal.path}: {refusal.reason}")
    if not len(frames.validation):
        print("  no frames of the held-out weathers: nothing is validated during training")
    if trainer.state.step:
        print(f"  going on from step {trainer.state.step}")


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {name}: PyTorch sees no GPU here; use --device cpu")
    return device


@contextmanager
def _stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C (or a polite kill) ends the run after its step; the second ends it now."""
    asked = False

    def ask(number: int, _frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print("\nstopping after this step; once more to stop without a checkpoint", file=sys.stderr)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
