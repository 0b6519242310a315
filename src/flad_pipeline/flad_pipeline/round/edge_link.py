# SPDX-License-Identifier: Apache-2.0
"""What a vehicle asks of its edge, behind any wire: services over ROS 2, plain calls in a test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class CutName:
    """Which cut of whom, and by which membership he asks."""

    vehicle: str
    client: str
    round: int
    epoch: int
    step: int


class EdgeAwayError(Exception):
    """The edge did not answer in time: it may be there again later."""


class EdgeLink(Protocol):
    """Each call has a deadline of its own. Called from a worker's threads."""

    def fetch(self, cut: CutName, units: Sequence[int]) -> list[bytes]:
        """Units of a cut (:meth:`UnitState.to_bytes`), in the order asked for.

        Raises:
            FladError: (ORDER_REFUSED) if the edge does not give them.
            EdgeAwayError: if it did not answer.
        """
        ...

    def store(self, cut: CutName, units: Sequence[bytes]) -> int:
        """Give the edge copies; returns the newest cut of which it has every unit.

        Raises:
            FladError: (ORDER_REFUSED) if the edge does not take them.
            EdgeAwayError: if it did not answer.
        """
        ...

    def submit(self, vehicle: str, update: bytes) -> None:
        """Send a signed update.

        Raises:
            FladError: (ORDER_REFUSED) if the edge does not take it.
            EdgeAwayError: if it did not answer.
        """
        ...


def parcels(sizes: Sequence[int], at_most: int) -> Iterator[slice]:
    """Split things of these sizes, in order, so that a parcel has at most so many bytes, or one.

    Example:
        >>> list(parcels([4, 4, 9, 1], at_most=8))
        [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None)]
    """
    begin = total = 0
    for i, size in enumerate(sizes):
        if i > begin and total + size > at_most:
            yield slice(begin, i)
            begin, total = i, 0
        total += size
    if begin < len(sizes):
        yield slice(begin, len(sizes))
