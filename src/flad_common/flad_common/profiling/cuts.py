# SPDX-License-Identifier: Apache-2.0
"""What crosses when the list of operations is cut in two.

A tensor lives from the operation that makes it to the last one that takes it. Cut after operation
``i``, every tensor made up to ``i`` and taken later crosses: forward its values, backward its
gradient if it asks for one. What the model was given crosses too where a later operation takes it,
and is listed apart, because the owner of the data may keep it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from flad_common.profiling.record import Recording
from flad_common.profiling.trace import tensor_bytes


@dataclass(frozen=True, kw_only=True)
class Life:
    """A tensor, and from when to when it is needed."""

    tensor: Tensor
    made: int
    """Index of the operation that makes it."""
    last: int
    """Index of the last operation that takes it; the number of operations for an output."""
    is_input: bool


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What crosses between operation ``after`` and the next."""

    after: int
    tensors: tuple[Life, ...]
    inputs: tuple[Life, ...]

    @property
    def forward_bytes(self) -> int:
        """Values that travel on, without the model's inputs."""
        return sum(tensor_bytes(life.tensor) for life in self.tensors)

    @property
    def backward_bytes(self) -> int:
        """Gradients that travel back."""
        return sum(tensor_bytes(life.tensor) for life in self.tensors if life.tensor.requires_grad)

    @property
    def input_bytes(self) -> int:
        """Inputs of the model that later operations take."""
        return sum(tensor_bytes(life.tensor) for life in self.inputs)


def lives(recording: Recording) -> list[Life]:
    """Every tensor that somebody takes, in the order of making; parameters are none."""
    made: dict[int, int] = {}
    last: dict[int, int] = {}
    tensors: dict[int, Tensor] = {}
    for i, operation in enumerate(recording.operations):
        for tensor in operation.takes:
            last[id(tensor)] = i
        if operation.op != "get_attr":
            for tensor in operation.values:
                made.setdefault(id(tensor), i)
                tensors[id(tensor)] = tensor
    for tensor in recording.outputs:
        last[id(tensor)] = len(recording.operations)
    given = [operation.op == "placeholder" for operation in recording.operations]
    return [
        Life(tensor=tensors[k], made=i, last=last[k], is_input=given[i])
        for k, i in made.items()
        if k in last
    ]


def cuts(recording: Recording) -> list[Cut]:
    """One cut after each operation but the last."""
    everything = lives(recording)
    end = len(recording.operations) - 1
    return [_cut(recording, everything, after) for after in range(end)]


def _cut(recording: Recording, everything: list[Life], after: int) -> Cut:
    crossing = [life for life in everything if life.made <= after < life.last]
    distinct = {_identity(recording, life.tensor): life for life in crossing}.values()
    return Cut(
        after=after,
        tensors=tuple(life for life in distinct if not life.is_input),
        inputs=tuple(life for life in distinct if life.is_input),
    )


def _identity(recording: Recording, tensor: Tensor) -> tuple[int, int, tuple[int, ...]]:
    """Two names of the same values travel once."""
    return recording.key(tensor), int(tensor.storage_offset()), tuple(tensor.shape)
