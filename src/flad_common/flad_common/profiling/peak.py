# SPDX-License-Identifier: Apache-2.0
"""The most memory that a set of operations needs at one time while it trains.

A walk through one training step on one micro-batch: forward, backward, AdamW's step. Weights and
AdamW's moments are always there; gradients appear as the backward pass reaches them; what an
operation saved is freed when its backward pass is done. Scratch memory inside a kernel is not
counted: :mod:`flad_common.profiling.child` measures how much that leaves out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from torch import nn

from flad_common.profiling.cuts import Life, lives
from flad_common.profiling.record import Recording

_STEP_BYTES = 4
"""AdamW counts its steps in one float32 per parameter tensor."""


@dataclass(frozen=True, kw_only=True)
class ParameterBytes:
    """What training with AdamW keeps of one parameter, or of several."""

    weights: int
    gradients: int
    optimizer: int

    @classmethod
    def of(cls, parameter: nn.Parameter) -> ParameterBytes:
        """Two moments of the weight's size and a counter; nothing for a frozen one."""
        weights = parameter.numel() * parameter.element_size()
        if not parameter.requires_grad:
            return cls(weights=weights, gradients=0, optimizer=0)
        return cls(weights=weights, gradients=weights, optimizer=2 * weights + _STEP_BYTES)

    @classmethod
    def total(cls, parts: Iterable[ParameterBytes]) -> ParameterBytes:
        """The sum."""
        parts = list(parts)
        return cls(
            weights=sum(p.weights for p in parts),
            gradients=sum(p.gradients for p in parts),
            optimizer=sum(p.optimizer for p in parts),
        )


def peak_bytes(
    recording: Recording, members: Collection[int], parameters: Mapping[str, ParameterBytes]
) -> int:
    """Peak of the operations ``members`` (indices): a unit of a pipeline, or a block of the model.

    Args:
        recording: of the whole model.
        members: at least one index.
        parameters: by name, at least those that the members use.
    """
    return max(_Walk(recording, members).levels(parameters))


@dataclass(frozen=True, kw_only=True)
class _Stay:
    """One tensor in the unit's memory, from step to step of the forward pass."""

    key: int
    start: int
    end: int
    has_gradient: bool
    kept: bool
    """Held through the backward pass by whoever called: inputs of the model, what leaves."""


class _Walk:
    """The steps of one unit."""

    def __init__(self, recording: Recording, members: Collection[int]) -> None:
        self._recording, self._order = recording, sorted(members)
        inside = set(self._order)
        last_use: dict[int, int] = {}
        for i in self._order:
            last_use.update((id(tensor), i) for tensor in recording.operations[i].takes)
        self._stays = [
            self._stay(life, last_use.get(id(life.tensor), life.made), inside)
            for life in lives(recording)
            if life.made in inside or id(life.tensor) in last_use
        ]

    def _stay(self, life: Life, last_use: int, inside: set[int]) -> _Stay:
        leaves = life.made in inside and life.last not in inside
        return _Stay(
            key=self._recording.key(life.tensor),
            start=life.made if life.made in inside else self._order[0],
            end=self._order[-1] if leaves or life.is_input else last_use,
            has_gradient=life.tensor.requires_grad,
            kept=leaves or life.is_input,
        )

    def levels(self, parameters: Mapping[str, ParameterBytes]) -> list[int]:
        """Bytes at every step."""
        operations = self._recording.operations
        names = {name for i in self._order for name in operations[i].parameters}
        all_of_them = ParameterBytes.total(parameters[name] for name in names)
        held = all_of_them.weights + all_of_them.optimizer
        kept = {stay.key for stay in self._stays if stay.kept}

        levels, saved = [], [set[int]()]
        for i in self._order:
            saved.append(saved[-1] | set(operations[i].saved))
            levels.append(held + self._sum(self._live(i) | saved[-1]))
        gradients, reached = 0, set[str]()
        for i, still in zip(reversed(self._order), reversed(saved), strict=False):
            new = set(operations[i].parameters) - reached
            gradients += sum(parameters[name].gradients for name in new)
            reached |= new
            flowing = self._live(i, with_gradient=True)
            levels.append(held + gradients + self._sum(still | kept) + self._sum(flowing))
        levels.append(held + all_of_them.gradients + self._sum(kept))
        return levels

    def _live(self, i: int, *, with_gradient: bool = False) -> set[int]:
        return {
            stay.key
            for stay in self._stays
            if stay.start <= i <= stay.end and (stay.has_gradient or not with_gradient)
        }

    def _sum(self, keys: Iterable[int]) -> int:
        return sum(self._recording.storages[key] for key in keys if key)
