# SPDX-License-Identifier: Apache-2.0
"""The command lines ``./flad train adllm`` and, with a teacher, ``./flad train adm``."""

from __future__ import annotations

import argparse
import dataclasses
import platform
import random
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from flad_common.config import to_yaml
from flad_common.error_codes import FladError
from flad_common.folder_lock import folder_lock
from flad_edge.adllm.config import AdLlmConfig, load_adllm_config
from flad_edge.adllm.lora import AdapterConfig, add_adapters, merge_adapters
from flad_edge.adllm.model import AdLlm, build_adllm
from flad_edge.adllm.tokenizer import TextTokenizer, tokenizer_of_checkpoint, train_tokenizer
from flad_edge.adllm.weights import adllm_file, load_adllm, save_adllm
from flad_edge.training.card import CardFacts, model_card
from flad_edge.training.config import AdLlmTrainConfig, load_train_config
from flad_edge.training.corpus import (
    Corpus,
    load_corpus,
    read_uploads,
    usable_runs,
    wanted_features,
)
from flad_edge.training.examine import examine, some, summary_line
from flad_edge.training.feature_jobs import fill_cache, missing, num_frames
from flad_edge.training.features import open_encoder
from flad_edge.training.reading import HeadsTeacher
from flad_edge.training.run_log import RunLog
from flad_edge.training.trainer import StepResult, Trainer, begin_at_the_mean
from flad_perception.data.dataset import weather_ids
from flad_perception.weights import LoadedEncoder
from flad_planner.language.bank import Bank, load_bank

OK = 0
DIVERGED = 1
BAD_INPUT = 2
INTERRUPTED = 130

_EPILOG = """
OUT gets NAME.safetensors, MODEL_CARD.md, curves.png, metrics.json, config.yaml, history.json and
checkpoint.pt. Tokens are made from the recordings by the encoder and kept in FEATURES under its
hash. An interrupted run goes on with the same command.
"""


def add_arguments(parser: argparse.ArgumentParser, *, needs_teacher: bool) -> None:
    """Declare the options."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    default = "adm" if needs_teacher else "tiny"
    if needs_teacher:
        add("--teacher", required=True, metavar="FILE", help="the AD-LLM to learn from")
    add("--config", default=default, help="model: a name or a file (default: %(default)s)")
    add("--training", help="how to train: a name or a file (default: the model's name)")
    add("--data", type=Path, nargs="+", default=[], metavar="ROOT", help="recordings")
    add("--clips", type=Path, nargs="+", default=[], metavar="DIR", help="uploaded clips")
    add("--leave-out", nargs="+", default=[], metavar="TEXT", help="not runs with this in the name")
    add("--encoder", default="small", help="a name or a .safetensors file (default: %(default)s)")
    add("--features", type=Path, metavar="DIR", help="cache of tokens (default: OUT/features)")
    add("--out", type=Path, required=True, metavar="DIR", help="results; may hold a checkpoint")
    add("--start", metavar="FILE", help="begin with this model's weights")
    add("--checkpoint", type=Path, metavar="DIR", help="folder of a Llama to begin with")
    add("--minutes", type=float, metavar="M", help="of training; features and figures come on top")
    add("--epochs", type=int, metavar="N", help="passes over the clips")
    add("--seed", type=int, metavar="N", help="of everything random")
    add("--threads", type=int, metavar="N", help="of PyTorch")
    add("--lr", type=float, help="highest learning rate")
    add("--batch-frames", type=int, metavar="N", help="frames of one step")
    add("--phases", type=int, choices=[1, 2], help="2: use the frames between, too")
    add("--holdout-towns", metavar="A,B", help="never trained on, looked at once (none: '')")
    add("--holdout-weathers", metavar="I,J", help="never trained on, validation (none: '')")
    add("--features-only", action="store_true", help="fill the cache of tokens and end")
    add("--quiet", action="store_true", help="no progress bar")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``./flad train adllm``."""
    return run(argv, needs_teacher=False)


def run(argv: Sequence[str] | None, *, needs_teacher: bool) -> int:
    """Parse and train; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog=f"./flad train {'adm' if needs_teacher else 'adllm'}",
        description="Distil an AD-LLM into a smaller one."
        if needs_teacher
        else "Train the language model that drives on recordings.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser, needs_teacher=needs_teacher)
    args = parser.parse_args(argv)
    try:
        with _stop_on_interrupt() as should_stop:
            return _train(args, f"{parser.prog} {shlex.join(argv)}", should_stop)
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except FladError as error:
        print(f"error: {error}", file=sys.stderr)
        return DIVERGED


def train_config(args: argparse.Namespace, model_name: str) -> AdLlmTrainConfig:
    """The training file with the command line's changes."""
    config = load_train_config(args.training or model_name)
    names = ("epochs", "minutes", "seed", "threads", "lr", "batch_frames", "phases")
    changes: dict[str, Any] = {n: getattr(args, n) for n in names if getattr(args, n) is not None}
    if args.minutes is not None and args.epochs is None:
        changes["epochs"] = 0
    if args.epochs is not None and args.minutes is None:
        changes["minutes"] = 0.0
    if args.holdout_towns is not None:
        changes["holdout_towns"] = tuple(filter(None, args.holdout_towns.split(",")))
    if args.holdout_weathers is not None:
        ids = weather_ids(args.holdout_weathers, "--holdout-weathers")
        changes["holdout_weathers"] = tuple(ids)
    return dataclasses.replace(config, **changes)


def new_tokenizer(config: AdLlmConfig, bank: Bank, checkpoint: Path | None) -> TextTokenizer:
    """The checkpoint's, or one trained on the bank's training phrasings."""
    if checkpoint is not None:
        return tokenizer_of_checkpoint(checkpoint, config.text)
    return train_tokenizer(bank.corpus(random.Random(0)), config.text)


def _train(args: argparse.Namespace, command: str, should_stop: Callable[[], bool]) -> int:
    config = load_adllm_config(args.config)
    train = train_config(args, config.name)
    torch.set_num_threads(train.threads)
    bank = load_bank()
    encoder = open_encoder(args.encoder)
    _check_encoder(config, encoder)
    log = RunLog(args.out, show_progress=not args.quiet)
    with folder_lock(args.out):
        corpus = _corpus(args, train, encoder, bank, log)
        if args.features_only:
            return OK
        teacher = load_adllm(adllm_file(args.teacher)) if hasattr(args, "teacher") else None
        model = _model(args, config, train, bank, corpus)
        trainer = Trainer(
            model,
            train,
            corpus,
            bank,
            args.out / "checkpoint.pt",
            teacher=teacher.model if teacher else None,
            heads=HeadsTeacher(encoder.model) if train.reading > 0.0 else None,
            should_stop=should_stop,
        )
        log.resume(trainer.state.step)
        text = f"# Model\n{to_yaml(config)}---\n# Training\n{to_yaml(train)}"
        (args.out / "config.yaml").write_text(text, encoding="utf-8")
        _print_plan(corpus, train, model, trainer)
        reason = _fit(trainer, train, corpus, bank, log)
        log.write()
        if reason == "interrupted":
            print(f"interrupted at step {trainer.state.step}; the same command goes on")
            return INTERRUPTED
        taught_by = teacher.identity.hash if teacher else ""
        return _finish(args.out, train, trainer, corpus, bank, log, command, taught_by)


def _check_encoder(config: AdLlmConfig, encoder: LoadedEncoder) -> None:
    found = (encoder.config.num_tokens, encoder.config.embed_dim)
    if found != (config.num_tokens, config.token_dim):
        raise ValueError(
            f"encoder {encoder.config.name!r} gives {found[0]} tokens of {found[1]}, model "
            f"{config.name!r} reads {config.num_tokens} of {config.token_dim}"
        )


def _corpus(
    args: argparse.Namespace,
    train: AdLlmTrainConfig,
    encoder: LoadedEncoder,
    bank: Bank,
    log: RunLog,
) -> Corpus:
    if not args.data and not args.clips:
        raise ValueError("nothing to train on: give recordings (--data) or uploads (--clips)")
    runs, refused = usable_runs(args.data, args.leave_out) if args.data else ([], [])
    uploads, bad = read_uploads(args.clips)
    cache = args.features or args.out / "features"
    jobs = missing(wanted_features(runs, train), encoder, cache)
    began = time.perf_counter()
    with log.progress("features", num_frames(jobs)) as bar:
        fill_cache(jobs, args.encoder, cache, train.threads, on_frames=bar.update)
    made_s, began = time.perf_counter() - began, time.perf_counter()
    corpus = load_corpus(runs, encoder, cache, train, bank, uploads, [*refused, *bad])
    print(
        f"features: {num_frames(jobs)} new frames in {made_s:.0f} s; {len(runs)} runs told in "
        f"{time.perf_counter() - began:.0f} s"
    )
    return corpus


def _model(
    args: argparse.Namespace,
    config: AdLlmConfig,
    train: AdLlmTrainConfig,
    bank: Bank,
    corpus: Corpus,
) -> AdLlm:
    if args.start is not None:
        model = load_adllm(adllm_file(args.start)).model
        if model.config != config:
            raise ValueError(f"{args.start} is of another configuration than {config.name!r}")
    else:
        tokenizer = new_tokenizer(config, bank, args.checkpoint)
        model = build_adllm(config, tokenizer, seed=train.seed, checkpoint=args.checkpoint)
        begin_at_the_mean(model, corpus)
    if train.llm == "lora":
        add_adapters(model, AdapterConfig())
        for part in (model.frame_reader, model.waypoint_head, model.completed_head):
            part.requires_grad_(True)
    elif train.llm == "frozen":
        model.llm.requires_grad_(False)
    return model


def _fit(trainer: Trainer, train: AdLlmTrainConfig, corpus: Corpus, bank: Bank, log: RunLog) -> str:
    watched = some(corpus.other_weathers, train.validation_frames)
    due = [(n + 1) / (train.validations + 1) for n in range(train.validations)]

    def look() -> None:
        parts = examine(trainer.best_model(), watched, bank)
        log.validation(trainer.state.step, trainer.state.elapsed_s, parts, summary_line(parts))

    with log.progress("training", 1000, "permille") as bar:
        shown = {"loss": 0.0, "frames": 0, "began": time.perf_counter()}

        def on_step(result: StepResult) -> None:
            log.step(trainer.state.step, result)
            if result.losses:
                loss = result.losses["total"]
                shown["loss"] = 0.98 * shown["loss"] + 0.02 * loss if shown["loss"] else loss
            shown["frames"] += result.num_frames
            rate = shown["frames"] / max(1e-9, time.perf_counter() - shown["began"])
            bar.set_postfix_str(f"loss {shown['loss']:.3f}, {rate:.0f} frames/s", refresh=False)
            bar.update(min(1000, round(1000 * result.progress)) - bar.n)
            if watched and due and result.progress >= due[0]:
                while due and result.progress >= due[0]:
                    due.pop(0)
                trainer.pause(look)

        return trainer.fit(on_step)


def _finish(
    out: Path,
    train: AdLlmTrainConfig,
    trainer: Trainer,
    corpus: Corpus,
    bank: Bank,
    log: RunLog,
    command: str,
    teacher: str,
) -> int:
    """Weights, last figures, card."""
    model = trainer.best_model()
    if train.llm == "lora":
        merge_adapters(model)
    config, state = model.config, trainer.state
    weights = out / f"{config.name}.safetensors"
    header = {"trained_by": command, "flad_encoder_hash": corpus.encoder_hash}
    identity = save_adllm(weights, model, header)
    asked = {
        "held-out weathers": some(corpus.other_weathers, train.test_frames),
        "held-out towns": some(corpus.other_towns, train.test_frames),
    }
    total = 4 * sum(n.clip.num_frames for lessons in asked.values() for n in lessons)
    with log.progress("figures", total) as bar:
        found = {
            what: examine(model, lessons, bank, on_frames=bar.update)
            for what, lessons in asked.items()
        }
    rate = state.num_frames / max(state.elapsed_s, 1e-9)
    reached = (
        f"{state.step} steps, {state.epoch} whole epochs, {state.num_frames} frames in "
        f"{state.elapsed_s / 60.0:.1f} minutes, {rate:.0f} frames/s, "
        f"{state.num_skipped} batches skipped"
    )
    summary = corpus.summary()
    log.finish({"final": found, "reached": reached, "data": summary, "command": command})
    facts = CardFacts(
        what="ADM" if teacher else "AD-LLM",
        name=config.name,
        model_hash=identity.hash,
        num_parameters=sum(p.numel() for p in model.parameters()),
        command=command,
        seed=train.seed,
        machine=f"{platform.machine()}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}",
        reached=reached,
        teacher=teacher,
        data=summary,
        figures=found,
    )
    (out / "MODEL_CARD.md").write_text(model_card(facts), encoding="utf-8")
    print(reached)
    for what, parts in found.items():
        print(f"{what}: {summary_line(parts)}")
    print(f"weights: {weights}; card: {out / 'MODEL_CARD.md'}")
    return OK


def _print_plan(corpus: Corpus, train: AdLlmTrainConfig, model: AdLlm, trainer: Trainer) -> None:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print(f"training {trained:,} parameters with {torch.get_num_threads()} threads")
    for name, value in corpus.summary().items():
        if name != "refused":
            print(f"  {name.replace('_', ' ')}: {value}")
    for refusal in corpus.refused[:10]:
        print(f"  not used: {refusal}")
    if not corpus.other_weathers:
        print("  no clips of the held-out weathers: nothing is validated during training")
    if trainer.state.step:
        print(f"  going on from step {trainer.state.step}")


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
