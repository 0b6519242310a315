# SPDX-License-Identifier: Apache-2.0
"""What a model's state consists of: which tensors, of which shape, and what may be done to them.

Everything in this folder works on states, ``state_dict()`` by name; this page says which of their
tensors an optimizer may move, which are only averaged, and which stay integers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

State: TypeAlias = Mapping[str, Tensor]
"""Tensors by name, as :meth:`torch.nn.Module.state_dict` gives them."""

Kind: TypeAlias = Literal["trained", "statistic", "counter", "fixed"]
"""What a tensor is.

``trained``: a parameter that is optimized. ``statistic``: a buffer of real numbers, such as a
BatchNorm's running mean; averaged, never optimized. ``counter``: a buffer of integers; averaged and
rounded. ``fixed``: a frozen parameter or a mask; every vehicle must have the same.
"""

_HASH_DIGITS = 16
_NON_NEGATIVE = ("running_var", "num_batches_tracked")


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorLayout:
    """One tensor of the state."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    kind: Kind
    non_negative: bool = False
    """A variance or a count: below zero it is broken, whoever sends it."""


@dataclass(frozen=True, kw_only=True)
class ModelLayout:
    """Every tensor of a model's state; single source of what an update must look like."""

    tensors: Mapping[str, TensorLayout]

    @classmethod
    def of(cls, module: nn.Module) -> ModelLayout:
        """Read it off a module.

        Example:
            >>> layout = ModelLayout.of(nn.BatchNorm1d(3))
            >>> [(name, tensor.kind) for name, tensor in layout.tensors.items()][2:]
            ... # doctest: +NORMALIZE_WHITESPACE
            [('running_mean', 'statistic'), ('running_var', 'statistic'),
             ('num_batches_tracked', 'counter')]
        """
        parameters = dict(module.named_parameters(remove_duplicate=False))
        return cls(
            tensors={
                name: TensorLayout(
                    shape=tuple(tensor.shape),
                    dtype=tensor.dtype,
                    kind=_kind(tensor, parameters.get(name)),
                    non_negative=name not in parameters and name.endswith(_NON_NEGATIVE),
                )
                for name, tensor in module.state_dict().items()
            }
        )

    def names(self, *kinds: Kind) -> list[str]:
        """Tensors of these kinds, in the state's order."""
        return [name for name, tensor in self.tensors.items() if tensor.kind in kinds]

    def complaints(self, state: State, names: Iterable[str] | None = None) -> list[str]:
        """What is wrong with names, shapes and types of ``state``; nothing if it fits.

        Args:
            state: to be looked at.
            names: the tensors that it should hold; None for all.
        """
        wanted = set(self.tensors if names is None else names)
        wrong = [f"{name} is missing" for name in sorted(wanted - state.keys())]
        wrong += [f"{name} does not belong there" for name in sorted(state.keys() - wanted)]
        for name in sorted(wanted & state.keys()):
            expected, arrived = self.tensors[name], state[name]
            if tuple(arrived.shape) != expected.shape or arrived.dtype != expected.dtype:
                wrong.append(
                    f"{name} is {arrived.dtype} {list(arrived.shape)}, "
                    f"expected {expected.dtype} {list(expected.shape)}"
                )
        return wrong


@dataclass(frozen=True, kw_only=True)
class ClientState:
    """What one client of a round, a vehicle or a cluster, has made of the model."""

    client: str
    num_samples: int
    """That it trained on; its weight in a mean."""
    tensors: State


def accumulator_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type to add up in: doubles and integers in double, everything else in single."""
    exact = dtype == torch.float64 or not dtype.is_floating_point
    return torch.float64 if exact else torch.float32


def into(value: Tensor, layout: TensorLayout) -> Tensor:
    """A result in the type that the model has; integers are rounded, halves to even."""
    if not layout.dtype.is_floating_point:
        value = value.round()
    return value.to(layout.dtype)


def state_hash(state: State) -> str:
    """16 hexadecimal digits over names, types, shapes and values."""
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name}|{tensor.dtype}|{list(tensor.shape)}|".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()[:_HASH_DIGITS]


def _kind(tensor: Tensor, parameter: nn.Parameter | None) -> Kind:
    if tensor.dtype == torch.bool or (parameter is not None and not parameter.requires_grad):
        return "fixed"
    if parameter is not None:
        return "trained"
    return "statistic" if tensor.dtype.is_floating_point else "counter"
