# SPDX-License-Identifier: Apache-2.0
"""What flows through a graph: shapes, memory, who writes into what, seen by running it.

The graph runs beside the model: on the example, on zeros and on noise of the same shapes, and on
half of the example. Where the two disagree, the trace has frozen something, and is refused. Where
shapes differ between example, zeros and noise, they depend on values.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from flad_common.profiling.formulas import Call, flops_of
from flad_common.profiling.record import unchanged
from flad_common.profiling.trace import storage_key, tensor_bytes, tensors_in
from flad_pipeline.graph.host_control import is_host_controlled
from flad_pipeline.graph.trace import TracedModel

_TOLERANCE = 1e-4
"""Of the model's and the graph's outputs, relative to the largest; both run the same kernels."""


@dataclass(frozen=True, kw_only=True)
class TensorFacts:
    """One tensor that a stage may send: everything but its values."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    requires_grad: bool
    channels_last: bool
    """Its memory is in channels-last order: kernels are chosen by that, so it is kept."""

    @classmethod
    def of(cls, tensor: Tensor) -> TensorFacts:
        """The facts of a tensor."""
        return cls(
            shape=tuple(tensor.shape),
            dtype=tensor.dtype,
            requires_grad=tensor.requires_grad,
            channels_last=tensor.dim() == 4
            and tensor.is_contiguous(memory_format=torch.channels_last)
            and not tensor.is_contiguous(),
        )

    @property
    def num_bytes(self) -> int:
        """Bytes of its values."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def empty(self, device: torch.device | str = "meta") -> Tensor:
        """A tensor like it, in ordinary (contiguous) memory order."""
        return torch.empty(
            self.shape, dtype=self.dtype, device=device, requires_grad=self.requires_grad
        )


@dataclass(frozen=True, kw_only=True)
class NodeValue:
    """What one operation did."""

    tensor: TensorFacts | None
    """``None`` if the value is no single tensor: such a value stays where it was made."""
    num_bytes: int
    shapes: tuple[tuple[int, ...], ...]
    storages: frozenset[int]
    """Memory behind its tensors; equal for views of one another."""
    writes: frozenset[int]
    """Memory of its arguments that it wrote into."""
    draws_random: bool
    """In training; or it may, as nobody knows what runs on the host."""
    flops: int
    """Forward, by formula. Where none is known, a guess by parameters: it places boundaries."""


def observe(
    traced: TracedModel, model: nn.Module, inputs: Sequence[Tensor], *, verify: bool = True
) -> Mapping[fx.Node, NodeValue]:
    """Run the graph and note what every operation did; the model is as before afterwards.

    Args:
        traced: of ``model``.
        model: what was traced.
        inputs: tensors of an example, as :meth:`TracedModel.flatten` gives them.
        verify: also run the model beside it; False for models that are too large to run twice.

    Raises:
        ValueError: if graph and model disagree: something was frozen while tracing.
    """
    numbers = torch.Generator().manual_seed(0)
    noise = [
        torch.randn(t.shape, generator=numbers).to(t) if t.dtype.is_floating_point else t
        for t in inputs
    ]
    with unchanged(model):
        values = _checked_run(traced, model, inputs, "the example", verify=verify)
        zeros = [torch.zeros_like(t) for t in inputs]
        others = [
            _checked_run(traced, model, zeros, "a batch of zeros", verify=verify),
            _checked_run(traced, model, noise, "a batch of noise", verify=verify),
        ]
        if verify and (half := _half_batch(inputs)) is not None:
            _check_half(traced, model, half)
    changing = {
        node
        for node, value in values.items()
        if any(value.shapes != other[node].shapes for other in others)
    }
    return {
        node: replace(
            value,
            tensor=None if node in changing else value.tensor,
            # How much there was to do in the example shall not move a boundary.
            flops=_least_flops(traced.module, node)
            if any(source in changing for source in node.all_input_nodes)
            else value.flops,
        )
        for node, value in values.items()
    }


def _checked_run(
    traced: TracedModel, model: nn.Module, inputs: Sequence[Tensor], what: str, *, verify: bool
) -> dict[fx.Node, NodeValue]:
    expected = _results(traced, model, inputs) if verify else []
    torch.manual_seed(0)
    with nullcontext() if model.training else torch.no_grad():
        walk = _Walk(traced.module)
        outputs = walk.run([t.clone() for t in inputs])
    if verify:
        _compare(expected, outputs, what, type(model).__name__)
    return walk.values


def _check_half(traced: TracedModel, model: nn.Module, half: Sequence[Tensor]) -> None:
    """Another size of batch; a model that cannot take it itself has nothing to disagree with."""
    try:
        expected = _results(traced, model, half)
    except Exception:  # BatchNorm, for one, refuses a single value per channel
        return
    torch.manual_seed(0)
    with torch.no_grad():
        found = list(tensors_in(traced.module(*(t.clone() for t in half))))
    _compare(expected, found, f"a batch of {len(half[0])}", type(model).__name__)


def _results(traced: TracedModel, model: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """What the model itself gives; its buffers are as before afterwards."""
    with torch.no_grad(), unchanged(model):
        torch.manual_seed(0)
        args, kwargs = traced.inputs.nest([t.clone() for t in inputs])
        return list(tensors_in(list(tree_leaves(model(*args, **kwargs)))))


def _compare(expected: list[Tensor], found: list[Tensor], what: str, name: str) -> None:
    same = len(expected) == len(found) and all(
        e.shape == f.shape and torch.allclose(e, f.detach(), *_limits(e), equal_nan=True)
        for e, f in zip(expected, found, strict=True)
    )
    if not same:
        raise ValueError(
            f"{name} and its trace disagree on {what}: the trace froze a decision that the model "
            "takes anew each time (isinstance of an input, a random number of Python, a shape). "
            "Put it into a function and decorate that with @host_control"
        )


def _limits(expected: Tensor) -> tuple[float, float]:
    if not expected.is_floating_point():
        return 0.0, 0.0
    finite = expected[expected.isfinite()]
    return _TOLERANCE, _TOLERANCE * float(finite.abs().max()) if finite.numel() else 0.0


def _half_batch(inputs: Sequence[Tensor]) -> list[Tensor] | None:
    """The first half of the batch, if every input has the same first dimension of two or more."""
    sizes = {t.shape[0] if t.dim() else 0 for t in inputs}
    if len(sizes) != 1 or (size := sizes.pop()) < 2:
        return None
    return [t[: size // 2] for t in inputs]


def _guess(target: Any, taken: Sequence[Tensor]) -> int:
    """Every weight of a matrix or kernel is multiplied once for every sample."""
    if not isinstance(target, nn.Module):
        return 0
    samples = taken[0].shape[0] if taken and taken[0].dim() else 1
    return 2 * max(1, samples) * sum(p.numel() for p in target.parameters() if p.dim() > 1)


def _least_flops(module: fx.GraphModule, node: fx.Node) -> int:
    """Of an operation on an unknown number of samples: as if there was one."""
    return _guess(module.get_submodule(str(node.target)), []) if node.op == "call_module" else 0


class _Walk:
    """One run of the graph, operation by operation; all values are held to its end."""

    def __init__(self, graph: fx.GraphModule) -> None:
        self._graph, self._modules = graph, dict(graph.named_modules())
        self._held: dict[fx.Node, Any] = {}
        self.values: dict[fx.Node, NodeValue] = {}

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        given = iter(inputs)
        for node in self._graph.graph.nodes:
            if node.op == "output":
                return list(tensors_in(fx.node.map_arg(node.args[0], self._held.__getitem__)))
            if node.op == "placeholder":
                self._held[node] = next(given)
                self.values[node] = self._value(node, self._held[node])
            elif node.op == "get_attr":
                self._held[node] = operator.attrgetter(str(node.target))(self._graph)
                self.values[node] = self._value(node, self._held[node])
            else:
                self._operate(node)
        raise AssertionError("a graph without output")

    def _operate(self, node: fx.Node) -> None:
        args = fx.node.map_arg(node.args, self._held.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, self._held.__getitem__)
        taken = list(tensors_in([args, kwargs]))
        versions = [t._version for t in taken]
        random = torch.get_rng_state()
        target = self._modules[str(node.target)] if node.op == "call_module" else node.target
        if isinstance(target, str):
            output = getattr(args[0], target)(*args[1:], **kwargs)
        else:
            output = target(*args, **kwargs)
        flops = flops_of(Call(target=target, args=args, kwargs=kwargs, output=output))
        self._held[node] = output
        self.values[node] = self._value(
            node,
            output,
            writes=frozenset(
                storage_key(t) for t, v in zip(taken, versions, strict=True) if t._version != v
            ),
            # What is on the host may do so another time.
            draws_random=is_host_controlled(target)
            or not torch.equal(random, torch.get_rng_state()),
            flops=flops.forward if flops is not None else _guess(target, taken),
        )

    def _value(self, node: fx.Node, value: Any, **facts: Any) -> NodeValue:
        tensors = list(tensors_in(value))
        defaults = {"writes": frozenset(), "draws_random": False, "flops": 0}
        return NodeValue(
            tensor=TensorFacts.of(value) if isinstance(value, Tensor) else None,
            num_bytes=sum(tensor_bytes(t) for t in tensors),
            shapes=tuple(tuple(t.shape) for t in tensors),
            storages=frozenset(storage_key(t) for t in tensors) - {0},
            **{**defaults, **facts},
        )
