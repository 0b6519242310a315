# SPDX-License-Identifier: Apache-2.0
"""A pipeline: vehicles in order, and the units of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Stage(NamedTuple):
    """Units ``begin`` to ``end``, without ``end``, on one vehicle of a problem."""

    vehicle: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Stages from the first unit to the last.

    Raises:
        ValueError: if the stages do not follow on each other, one is empty, or a vehicle comes
            twice (c4 and c5 of Eq. 11).
    """

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        at, seen = 0, set()
        for stage in self.stages:
            if stage.begin != at or stage.end <= stage.begin:
                raise ValueError(
                    f"stages must follow on each other without gaps, got {self.stages}"
                )
            if stage.vehicle in seen:
                raise ValueError(f"vehicle {stage.vehicle} has two stages in {self.stages}")
            at = stage.end
            seen.add(stage.vehicle)
        if not self.stages:
            raise ValueError("a pipeline needs at least one stage")

    @classmethod
    def of(cls, order: Sequence[int], ends: Sequence[int]) -> Pipeline:
        """From the vehicles in order and the end of each one's units."""
        begins = [0, *ends[:-1]]
        return cls(tuple(Stage(*s) for s in zip(order, begins, ends, strict=True)))

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages)

    def __len__(self) -> int:
        return len(self.stages)

    @property
    def first(self) -> int:
        """The vehicle whose data it trains on."""
        return self.stages[0].vehicle

    @property
    def order(self) -> tuple[int, ...]:
        """Vehicles from the first stage to the last."""
        return tuple(stage.vehicle for stage in self.stages)

    def owners(self) -> dict[int, int]:
        """The vehicle that holds each unit."""
        return {u: stage.vehicle for stage in self.stages for u in range(stage.begin, stage.end)}
