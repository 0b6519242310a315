# SPDX-License-Identifier: Apache-2.0
"""A model as the list of operations that a pipeline planner may cut between.

Tracing is ``torch.fx``'s: modules of ``torch.nn`` and functions marked with ``torch.fx.wrap`` are
one operation each, everything else is looked into. :mod:`flad_common.profiling.record` runs
the list.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

ROOT = "(top)"
"""Block of the operations that stand in the model's own ``forward``."""


def trace(model: nn.Module) -> fx.GraphModule:
    """The graph of ``model``, operations in the order in which they run.

    Raises:
        ValueError: if the model's Python depends on the values of its tensors.
    """
    try:
        return fx.symbolic_trace(model)
    except (fx.proxy.TraceError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{type(model).__name__} cannot be traced: {error}. Its forward must not branch on "
            "tensors; put what does into a function marked with torch.fx.wrap"
        ) from error


def module_path(node: fx.Node) -> str:
    """Dotted name of the innermost module in which ``node`` stands; empty for the model itself."""
    stack = node.meta.get("nn_module_stack")
    path = str(next(reversed(stack.values()))[0]) if stack else ""
    if node.op == "call_module" and not path:
        return str(node.target)
    if node.op == "get_attr":  # a parameter stands in the module that owns it
        return str(node.target).rpartition(".")[0]
    return path


def prefixes(path: str) -> list[str]:
    """``a.b.c`` as ``a``, ``a.b``, ``a.b.c``; the model's own code as :data:`ROOT`."""
    if not path:
        return [ROOT]
    parts = path.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor of nested tuples, lists, dictionaries and slices."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, slice):
        yield from tensors_in([value.start, value.stop, value.step])


def storage_key(tensor: Tensor) -> int:
    """Identifies the memory behind ``tensor`` for as long as somebody holds it; 0 if there is none.

    Views of one tensor share a key: bytes are counted once.
    """
    return 0 if tensor.numel() == 0 else tensor.untyped_storage().data_ptr()


def tensor_bytes(tensor: Tensor) -> int:
    """Bytes of the values: what travels, whatever the memory behind them."""
    return tensor.numel() * tensor.element_size()


def storage_bytes(tensor: Tensor) -> int:
    """Bytes that stay allocated as long as ``tensor`` is held."""
    return int(tensor.untyped_storage().nbytes())


def scalar_loss(output: Any) -> Tensor:
    """One number that every output has a share in, so that a backward pass reaches all of them.

    Raises:
        ValueError: if no output can be differentiated.
    """
    parts = [t.float().mean() for t in tensors_in(output) if t.requires_grad]
    if not parts:
        raise ValueError("no output of the model requires a gradient; is it frozen?")
    return torch.stack(parts).sum()
