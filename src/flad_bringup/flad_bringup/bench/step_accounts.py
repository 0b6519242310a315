# SPDX-License-Identifier: Apache-2.0
"""Is every training step accounted for: taken by all, in its order, or taken again and said so?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flad_pipeline.round.order import Order


@dataclass(frozen=True, kw_only=True)
class StepAccounts:
    """Of one client's round."""

    kept: int
    """Steps that are in the model."""
    again: int
    """Taken, and lost by a recovery: they were taken again."""
    complaints: tuple[str, ...]
    """What does not fit; empty if all of it does."""


def step_accounts(
    orders: Sequence[Order], logs: Mapping[str, Sequence[Mapping[str, Any]]]
) -> StepAccounts:
    """Go through the step logs of all vehicles, epoch by epoch.

    Args:
        orders: all that said TRAIN, of one client, by their numbers.
        logs: lines with ``epoch``, ``step`` and ``gradient_norm`` of every vehicle, as written.
    """
    by_epoch: dict[tuple[str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for vehicle, lines in logs.items():
        for line in lines:
            by_epoch[vehicle, line["epoch"]].append(line)
    complaints, again = [], 0
    if orders and orders[0].from_step:
        complaints.append(f"the round began at step {orders[0].from_step}")
    for i, order in enumerate(orders):
        after = orders[i + 1] if i + 1 < len(orders) else None
        taken: set[int] = set()
        norms: dict[int, float] = {}
        for vehicle in order.vehicles:
            lines = by_epoch[vehicle, order.epoch]
            steps = [line["step"] for line in lines]
            taken |= set(steps)
            where = f"{vehicle} in epoch {order.epoch}"
            if steps != list(range(order.from_step, order.from_step + len(steps))):
                complaints.append(f"{where} took {steps}, from {order.from_step} on")
            for line in lines:
                if norms.setdefault(line["step"], line["gradient_norm"]) != line["gradient_norm"]:
                    complaints.append(f"{where} has another gradient norm in step {line['step']}")
            stays = after is not None and vehicle in after.vehicles
            if after is not None and stays and order.from_step + len(steps) < after.from_step:
                complaints.append(f"{where} took {len(steps)} steps, not all to {after.from_step}")
        end = after.from_step if after is not None else max(taken, default=order.from_step - 1) + 1
        if missing := set(range(order.from_step, end)) - taken:
            complaints.append(f"nobody took {sorted(missing)} in epoch {order.epoch}")
        again += len([step for step in taken if step >= end])
    last = orders[-1] if orders else None
    ended = [line["step"] + 1 for v in logs for line in by_epoch[v, last.epoch]] if last else []
    kept = max(ended, default=last.from_step if last else 0)
    return StepAccounts(kept=kept, again=again, complaints=tuple(complaints))
