# SPDX-License-Identifier: Apache-2.0
"""Common cuts: what a vehicle keeps of them, and to which of them a broken pipeline goes back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from flad_pipeline.partition import Partition
from flad_pipeline.stages.unit_state import UnitState


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A vehicle's part of a common cut."""

    client: str
    round: int
    step: int
    """The next to be taken."""
    cursor: int
    """How many steps of the round this vehicle has fed with its own data."""
    units: Mapping[int, UnitState]


class LocalCuts:
    """The cuts of one vehicle in the round that is under way, newest last. Not thread-safe."""

    def __init__(self) -> None:
        self._cuts: dict[int, Cut] = {}

    @property
    def steps(self) -> tuple[int, ...]:
        """Of the cuts that are here."""
        return tuple(sorted(self._cuts))

    def add(self, cut: Cut) -> None:
        """Keep one; those of another client or round are forgotten."""
        if any((c.client, c.round) != (cut.client, cut.round) for c in self._cuts.values()):
            self._cuts.clear()
        self._cuts[cut.step] = cut

    def at(self, client: str, round_number: int, step: int) -> Cut | None:
        """The cut of this step, if it is here."""
        cut = self._cuts.get(step)
        return cut if cut and (cut.client, cut.round) == (client, round_number) else None

    def forget_before(self, step: int) -> None:
        """Nobody will go back behind ``step``."""
        self._cuts = {s: cut for s, cut in self._cuts.items() if s >= step}

    def forget_after(self, step: int) -> None:
        """Training has gone back to ``step``: what came later never happened."""
        self._cuts = {s: cut for s, cut in self._cuts.items() if s <= step}


@dataclass(frozen=True, kw_only=True)
class Return:
    """How a pipeline of those who are left begins."""

    step: int
    pipelines: tuple[Partition, ...]
    """In the order in which they take turns: the first one asks for the least."""
    fetched: Mapping[str, tuple[int, ...]]
    """Units that each vehicle must take from the edge's copy."""

    def weight(self, sizes: Sequence[float] | None) -> float:
        """What is fetched, by bytes of every unit; by their number if those are not known."""
        units = (unit for some in self.fetched.values() for unit in some)
        return float(sum(1.0 if sizes is None else sizes[unit] for unit in units))

    @property
    def num_fetched(self) -> int:
        """Of all vehicles."""
        return sum(len(units) for units in self.fetched.values())


def way_back(
    after: Sequence[Partition],
    local: Mapping[str, Mapping[int, Collection[int]]],
    at_edge: Mapping[int, Collection[int]],
    period: int,
    sizes: Sequence[float] | None = None,
) -> Return | None:
    """The newest common cut from which ``after`` can begin.

    A unit is there if its new owner has it in its own cut, or the edge in its copy.

    Args:
        after: pipelines that take turns (:meth:`Order.pipeline`); who begins is chosen here.
        local: for every vehicle that is left, the units in its cuts by their steps.
        at_edge: the units in the edge's copy by their steps.
        period: of the turns.
        sizes: bytes of every unit; without them every unit is as large as the others.

    Returns:
        None if no cut is complete.
    """
    steps = sorted({*at_edge, *(s for cuts in local.values() for s in cuts)}, reverse=True)
    for step in steps:
        there = set(at_edge.get(step, ()))
        found = []
        for first, turn in enumerate(after):
            missing = {
                vehicle: tuple(
                    u
                    for u in turn.units_of(vehicle)
                    if u not in local.get(vehicle, {}).get(step, ())
                )
                for vehicle in (span.vehicle for span in turn.stages)
            }
            if all(there.issuperset(units) for units in missing.values()):
                shift = (first - step // period) % len(after)
                order = (*after[shift:], *after[:shift])
                found.append(Return(step=step, pipelines=order, fetched=missing))
        if found:
            return min(found, key=lambda way: way.weight(sizes))
    return None
