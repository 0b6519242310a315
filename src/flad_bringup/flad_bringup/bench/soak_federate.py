# SPDX-License-Identifier: Apache-2.0
"""Training for a long time with a failure each minute: is a step ever lost, does memory grow?

The stand of :mod:`.recovery`: vehicles are killed, stopped and cut off in turn, and now and then
the edge is killed. Afterwards every step is looked for in the vehicles' logs
(:mod:`.step_accounts`), and every failure in what the edge said.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from flad_bringup.bench.recovery_phases import PHASES
from flad_bringup.bench.recovery_stand import NAMES, How, RecoveryStand, StandConfig, recovery_stand
from flad_bringup.bench.rows import Row
from flad_bringup.bench.step_accounts import step_accounts

SUMMARY = "an hour of federated training with a failure each minute: steps, memory, explanations"
MINUTES = 62.0

_GROWTH_BAR = 0.1
_MIB = 2.0**20
_EDGE_EVERY = 5
"""Each fifth failure is the edge's."""


@dataclass
class _Seen:
    failures: list[tuple[float, str, str]] = field(default_factory=list)
    """When, who, how."""
    memory: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    """Bytes of every process that had not just begun."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("--config", default="tiny", help="of the encoder (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=60.0, help="(default: %(default)s)")
    parser.add_argument(
        "--every-s", type=float, default=60.0, help="between two failures (default: %(default)s)"
    )
    parser.add_argument("--lease-s", type=float, default=0.3, help="of liveliness (%(default)s)")


def measure(args: argparse.Namespace) -> list[Row]:
    """Disturb, then look through the logs."""
    config = StandConfig(
        config=args.config,
        seed=args.seed,
        micro_batches=4,
        cut_every=5,
        lease_s=args.lease_s,
        memory_share=0.9,
    )
    with TemporaryDirectory() as scratch, recovery_stand(config, Path(scratch) / "soak") as stand:
        seen = _disturb(stand, args.minutes * 60.0, args.every_s, random.Random(args.seed))
        stand.train(1)
        return _rows(stand, seen)


def _disturb(stand: RecoveryStand, seconds: float, every_s: float, numbers: random.Random) -> _Seen:
    kinds: list[How] = ["killed", "stopped"]
    if stand.can_cut_off:
        kinds.append("cut_off")
    seen, began_s = _Seen(), time.monotonic()
    seen.memory.append((0.0, stand.resident_bytes()))
    while (at_s := time.monotonic() - began_s) < seconds:
        number = len(seen.failures)
        if number % _EDGE_EVERY == _EDGE_EVERY - 1:
            stand.restart_edge()
            seen.failures.append((at_s, "edge", "killed"))
        else:
            vehicle, how = numbers.choice(NAMES), kinds[number % len(kinds)]
            stand.lose(vehicle, how, PHASES[number % len(PHASES)], numbers)
            seen.failures.append((at_s, vehicle, how))
        print(f"  {at_s:6.0f} s: {seen.failures[-1][1]} {seen.failures[-1][2]}", flush=True)
        stand.train_until(began_s + min(seconds, every_s * (number + 1)))
        seen.memory.append((time.monotonic() - began_s, stand.resident_bytes()))
    return seen


def _rows(stand: RecoveryStand, seen: _Seen) -> list[Row]:
    orders = stand.orders()
    accounts = step_accounts(orders, stand.step_logs())
    for complaint in accounts.complaints:
        print(f"  not accounted for: {complaint}", flush=True)
    lost = [text for text in stand.events if " lost " in text or " broke: " in text]
    unexplained = _unexplained(seen.failures, stand.events)
    for text in unexplained:
        print(f"  not explained: {text}", flush=True)
    return [
        Row(name="soak_federate_steps", value=accounts.kept, unit="steps"),
        Row(name="soak_federate_steps_again", value=accounts.again, unit="steps, taken again"),
        Row(
            name="soak_federate_unaccounted",
            value=len(accounts.complaints),
            unit="steps or epochs that do not fit",
            bar=0.0,
            better="lower",
        ),
        Row(name="soak_federate_failures", value=len(seen.failures), unit="failures"),
        Row(
            name="soak_federate_unexplained",
            value=len(unexplained),
            unit="failures of which the edge said nothing",
            bar=0.0,
            better="lower",
        ),
        Row(
            name="soak_federate_alarms",
            value=max(0, len(lost) - sum(who != "edge" for _, who, _ in seen.failures)),
            unit="losses that nobody had made, each with its reason in the log",
            better="lower",
        ),
        *_memory_rows(seen.memory),
    ]


def _unexplained(failures: Sequence[tuple[float, str, str]], events: Sequence[str]) -> list[str]:
    """Failures without an event that names the vehicle, or the edge's return; each counts once."""
    left = list(events)
    found = []
    for _, who, how in failures:
        wanted = "the edge is back" if who == "edge" else f" lost {who}: "
        event = next((text for text in left if wanted in text), None)
        if event is None:
            found.append(f"{who} {how}")
        else:
            left.remove(event)
    return found


def _memory_rows(memory: Sequence[tuple[float, dict[str, float]]]) -> list[Row]:
    """The most that a process had in the last third, over the most in the second."""
    third = max(1, len(memory) // 3)
    rows = []
    for name in (*NAMES, "edge"):
        before = [sizes[name] for _, sizes in memory[third : 2 * third] if name in sizes]
        after = [sizes[name] for _, sizes in memory[2 * third :] if name in sizes]
        if before and after:
            rows.append(
                Row(
                    name=f"soak_federate_{name}_growth",
                    value=max(after) / max(before) - 1.0,
                    unit=f"of {max(before) / _MIB:.0f} MiB",
                    bar=_GROWTH_BAR,
                    better="lower",
                )
            )
    return rows
