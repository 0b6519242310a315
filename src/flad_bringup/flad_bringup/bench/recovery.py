# SPDX-License-Identifier: Apache-2.0
"""How long a pipeline stands still when a vehicle dies, and what is lost.

Three processes train the encoder over real DDS, led by the edge's process, over an open link, one
of 22 Mbit/s and one that loses a tenth of its packets. One after the other is killed (SIGKILL) in
every phase of a step, stopped (SIGSTOP) or cut off; counted is from then to the end of the next
optimizer step of everybody who is left. Beside it, on the same model: everything is started anew,
and torchrun's elastic agent. Data are noise: nothing depends on what is learned.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from flad_bringup.bench.recovery_phases import PHASES
from flad_bringup.bench.recovery_stand import (
    NAMES,
    How,
    Loss,
    RecoveryStand,
    StandConfig,
    recovery_stand,
)
from flad_bringup.bench.rows import Row
from flad_pipeline.testbed.testbed import LinkProfile

SUMMARY = "a vehicle of a pipeline dies: seconds to the next step, steps lost; torchrun beside it"
MINUTES = 40.0

_MEDIAN_S, _WORST_S, _MOST_LOST = 1.0, 3.0, 10
_LOSSY_STEPS = 20
_OPEN_BPS = 1e9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("--config", default="small", help="of the encoder (default: %(default)s)")
    parser.add_argument(
        "--links", default="open,slow,lossy", help="which of them (default: %(default)s)"
    )
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs (default: %(default)s)")
    parser.add_argument("--stops", type=int, default=3, help="SIGSTOPs (default: %(default)s)")
    parser.add_argument("--cuts-off", type=int, default=3, help="links that go down (%(default)s)")
    parser.add_argument("--slow-kills", type=int, default=20, help="on the slow link (%(default)s)")
    parser.add_argument("--slow-mbps", type=float, default=22.0, help="its rate (%(default)s)")
    parser.add_argument("--loss", type=float, default=0.1, help="of the lossy link (%(default)s)")
    parser.add_argument("--lossy-kills", type=int, default=3, help="on it (%(default)s)")
    parser.add_argument("--relaunches", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument(
        "--torchruns", type=int, default=3, help="kills under torchrun (%(default)s)"
    )
    parser.add_argument("--micro-batches", type=int, default=4, help="in a step (%(default)s)")
    parser.add_argument("--cut-every", type=int, default=5, help="steps (default: %(default)s)")
    parser.add_argument("--lease-s", type=float, default=0.3, help="of liveliness (%(default)s)")
    parser.add_argument(
        "--memory-share", type=float, default=0.9, help="of the model's need (default: %(default)s)"
    )


def measure(args: argparse.Namespace) -> list[Row]:
    """One link after the other.

    Raises:
        ValueError: if there is no such link.
    """
    links = args.links.split(",")
    if unknown := sorted(set(links) - {"open", "slow", "lossy"}):
        raise ValueError(f"no link {unknown}; there are open, slow and lossy")
    config = StandConfig(
        config=args.config,
        seed=args.seed,
        micro_batches=args.micro_batches,
        cut_every=args.cut_every,
        lease_s=args.lease_s,
        memory_share=args.memory_share,
    )
    rows = []
    with TemporaryDirectory() as scratch:
        if "open" in links:
            rows += _on_open_link(args, config, Path(scratch))
        if "slow" in links:
            rows += _on_slow_link(args, config, Path(scratch))
        if "lossy" in links:
            rows += _on_lossy_link(args, config, Path(scratch))
    return rows


def _on_open_link(args: argparse.Namespace, config: StandConfig, scratch: Path) -> list[Row]:
    from flad_bringup.bench.recovery_torchrun import torchrun_losses

    numbers = random.Random(args.seed)
    with recovery_stand(config, scratch / "open") as stand:
        losses = _lose(stand, args.kills, "killed", numbers)
        losses += _lose(stand, args.stops, "stopped", numbers)
        if stand.can_cut_off:
            losses += _lose(stand, args.cuts_off, "cut_off", numbers)
        else:
            print("  cutting vehicles off needs root: left out", flush=True)
        relaunches = []
        for _ in range(args.relaunches):
            relaunches.append(stand.relaunch(numbers))
            print(f"  full relaunch: {relaunches[-1]:.2f} s", flush=True)
        step_s, copied = stand.step_s(), stand.copied_bytes_per_cut()
        plan = stand.plan
    folder = scratch / "elastic"
    folder.mkdir()
    elastic = torchrun_losses(folder, plan, args.torchruns, numbers, args.cut_every)
    beside = {"full relaunch": _median(relaunches), "torchrun elastic": _median(elastic)}
    rows: list[Row] = []
    for how in ("killed", "stopped", "cut_off"):
        if some := [loss for loss in losses if loss.how == how]:
            rows += _rows_of(how, some, beside)
    return [
        *rows,
        *_phase_rows([loss for loss in losses if loss.how == "killed"]),
        *_where_rows(losses, step_s),
        *(
            Row(name=f"recovery_{name.replace(' ', '_')}", value=value, unit="s", better="lower")
            for name, value in beside.items()
            if value is not None
        ),
        Row(name="recovery_step", value=step_s, unit="s, one step of three stages"),
        Row(name="recovery_copy_bytes", value=copied, unit="B, one cut of all stages"),
    ]


def _on_slow_link(args: argparse.Namespace, config: StandConfig, scratch: Path) -> list[Row]:
    numbers = random.Random(args.seed + 1)
    link = LinkProfile(bits_per_s=1e6 * args.slow_mbps)
    with recovery_stand(dataclasses.replace(config, link=link), scratch / "slow") as stand:
        losses = _lose(stand, args.slow_kills, "killed", numbers)
        step_s = stand.step_s()
    if not losses:
        return []
    allowed = {
        id(loss): _MEDIAN_S + 8.0 * loss.fetched_bytes / link.bits_per_s + step_s for loss in losses
    }
    return [
        Row(
            name="recovery_slow_median",
            value=statistics.median(loss.seconds for loss in losses),
            unit="s",
            better="lower",
        ),
        Row(
            name="recovery_slow_median_over",
            value=statistics.median(loss.seconds - allowed[id(loss)] for loss in losses),
            unit="s above 1 s + missing bytes / rate + one step",
            bar=0.0,
            better="lower",
        ),
        Row(
            name="recovery_slow_worst_over",
            value=max(loss.seconds - allowed[id(loss)] for loss in losses),
            unit="s above it, the most",
            bar=0.0,
            better="lower",
        ),
        Row(
            name="recovery_slow_lost_steps",
            value=max(loss.lost_steps for loss in losses),
            unit="steps, at most",
            bar=_MOST_LOST,
            better="lower",
        ),
        Row(
            name="recovery_slow_fetched_bytes",
            value=statistics.median(loss.fetched_bytes for loss in losses),
            unit="B from the edge, median",
        ),
        Row(name="recovery_slow_step", value=step_s, unit="s, one step of three stages"),
        Row(name="recovery_slow_count", value=len(losses), unit="vehicles"),
    ]


def _on_lossy_link(args: argparse.Namespace, config: StandConfig, scratch: Path) -> list[Row]:
    numbers = random.Random(args.seed + 2)
    link = LinkProfile(bits_per_s=_OPEN_BPS, loss=args.loss)
    with recovery_stand(dataclasses.replace(config, link=link), scratch / "lossy") as stand:
        alarms = stand.train(_LOSSY_STEPS)
        losses = _lose(stand, args.lossy_kills, "killed", numbers)
        step_s = stand.step_s()
    rows = [
        Row(
            name="recovery_lossy_false_alarms",
            value=alarms,
            unit=f"vehicles taken for lost in {_LOSSY_STEPS} steps",
            bar=0.0,
            better="lower",
        ),
        Row(name="recovery_lossy_step", value=step_s, unit="s, one step of three stages"),
    ]
    if losses:
        seconds = statistics.median(loss.seconds for loss in losses)
        rows.append(Row(name="recovery_lossy_median", value=seconds, unit="s", better="lower"))
    return rows


def _lose(stand: RecoveryStand, count: int, how: How, numbers: random.Random) -> list[Loss]:
    """So many vehicles, in every phase in turn."""
    losses = []
    for i in range(count):
        loss = stand.lose(numbers.choice(NAMES), how, PHASES[i % len(PHASES)], numbers)
        losses.append(loss)
        print(f"  {told(loss)}", flush=True)
    return losses


def told(loss: Loss) -> str:
    """One line: who, in which phase, and where the time went."""
    more = f", {loss.num_orders} orders" if loss.num_orders > 1 else ""
    return (
        f"{loss.vehicle} {loss.how} ({loss.phase}): {loss.seconds:.2f} s = "
        f"{loss.ordered_s:.2f} seen and ordered + {loss.left_s - loss.ordered_s:.2f} left + "
        f"{loss.loaded_s - loss.left_s:.2f} units back + {loss.seconds - loss.loaded_s:.2f} step; "
        f"{loss.lost_steps} steps lost, {loss.fetched_bytes} B fetched{more}"
    )


def _rows_of(how: str, some: Sequence[Loss], beside: dict[str, float | None]) -> list[Row]:
    seconds = [loss.seconds for loss in some]
    return [
        Row(
            name=f"recovery_{how}_median",
            value=statistics.median(seconds),
            unit="s",
            baseline="torchrun elastic" if beside["torchrun elastic"] else None,
            baseline_value=beside["torchrun elastic"],
            bar=_MEDIAN_S,
            better="lower",
        ),
        Row(
            name=f"recovery_{how}_worst",
            value=max(seconds),
            unit="s",
            baseline="full relaunch" if beside["full relaunch"] else None,
            baseline_value=beside["full relaunch"],
            bar=_WORST_S,
            better="lower",
        ),
        Row(
            name=f"recovery_{how}_lost_steps",
            value=max(loss.lost_steps for loss in some),
            unit="steps, at most",
            bar=_MOST_LOST,
            better="lower",
        ),
        Row(name=f"recovery_{how}_count", value=len(some), unit="vehicles"),
    ]


def _phase_rows(losses: Sequence[Loss]) -> list[Row]:
    """By what the vehicle was at when it died."""
    found = {}
    for phase in ("between", *PHASES):
        if some := [loss.seconds for loss in losses if loss.phase == phase]:
            found[phase] = some
    return [
        Row(
            name=f"recovery_in_{phase}",
            value=statistics.median(some),
            unit=f"s, median of {len(some)}",
            better="lower",
        )
        for phase, some in found.items()
    ]


def _where_rows(losses: Sequence[Loss], step_s: float) -> list[Row]:
    """Where the time goes, each part's median over all losses."""
    parts = {
        "ordered": [loss.ordered_s for loss in losses],
        "left": [loss.left_s - loss.ordered_s for loss in losses],
        "loaded": [loss.loaded_s - loss.left_s for loss in losses],
        "first_step": [loss.seconds - loss.loaded_s for loss in losses],
    }
    return [
        Row(name=f"recovery_part_{name}", value=statistics.median(some), unit="s", better="lower")
        for name, some in parts.items()
        if some
    ]


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
