# SPDX-License-Identifier: Apache-2.0
"""What a federation looks like while it runs: clusters, stages, throughput, memory, events."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

from flad_pipeline.round.order import Order, OrderKind, Stand, Status

_EVENTS = 8
_BAR = 20


def table(
    statuses: Sequence[Status], orders: Mapping[str, Order], absent: Sequence[str]
) -> list[str]:
    """A line for each vehicle.

    Args:
        statuses: the newest of each.
        orders: the newest order by client.
        absent: vehicles that have no process.
    """
    lines = []
    for status in statuses:
        order = orders.get(status.client)
        stage, steps = "", ""
        if order is not None and order.kind is OrderKind.TRAIN and status.state is not Stand.IDLE:
            stage = _stage(order, status)
            share = min(1.0, status.step / max(1, order.end_step))
            bar = "#" * round(_BAR * share)
            steps = f"[{bar:{_BAR}}] {status.step}/{order.end_step}"
        rate = f"{status.samples_per_s:6.1f}/s" if status.samples_per_s else ""
        lines.append(
            f"{status.vehicle:12} {status.facts.device:5} {status.state.name.lower():9}"
            f"{status.client:20.20} {stage:16} {steps:32} {rate:10}"
            f"{status.resident_bytes / 2**20:6.0f} MiB"
        )
    return lines + [f"{name:12} {'':5} gone" for name in absent]


def _stage(order: Order, status: Status) -> str:
    turn = order.pipeline(min(status.step, max(0, order.end_step - 1)))
    for place, span in enumerate(turn.stages):
        if span.vehicle == status.vehicle:
            heads = "+heads" if place == 0 and turn.heads else ""
            return f"{place}: {span.first}..{span.last}{heads}"
    return ""


class Dashboard:
    """Redraws itself on a terminal; elsewhere it says events only.

    Args:
        out: where to.
        show: whether it is said at all.
    """

    def __init__(self, out: TextIO | None = None, *, show: bool = True) -> None:
        self._out, self._show = out or sys.stderr, show
        self._live = self._out.isatty()
        self._drawn = 0
        self._events: list[str] = []

    def event(self, text: str) -> None:
        """Something has happened."""
        self._events.append(text)
        if self._show and not self._live:
            self._out.write(f"{text}\n")
            self._out.flush()

    def draw(self, head: str, lines: Callable[[], list[str]]) -> None:
        """The picture now."""
        if not (self._show and self._live):
            return
        rows = [head, *lines(), "", *self._events[-_EVENTS:]]
        self._out.write("\033[F" * self._drawn + "".join(f"\033[K{row}\n" for row in rows))
        self._out.flush()
        self._drawn = len(rows)

    @property
    def events(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._events)
