# SPDX-License-Identifier: Apache-2.0
"""Runs a traced model one operation at a time, forward and backward, and notes what each costs.

Every operation starts from detached inputs, so that its backward pass can run alone: its time, its
FLOPs and the tensors that it saves for the backward pass belong to it and to nobody else. All
values are held until the end, so that the address of a tensor's memory identifies it.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.autograd.graph import saved_tensors_hooks

from flad_common.profiling.counter import counted
from flad_common.profiling.formulas import Call, Flops, Formula, describe, flops_of
from flad_common.profiling.trace import (
    module_path,
    storage_bytes,
    storage_key,
    tensors_in,
)

Progress = Callable[[int, int], None]
"""Takes how many operations are done, and of how many."""

_NONE = Flops(forward=0, backward=0)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation of the graph and what it cost."""

    name: str
    op: str
    """``torch.fx``'s kind: placeholder, get_attr, call_module, call_function, call_method."""
    kind: str
    """What is called: ``Conv2d``, ``add``."""
    module: str
    """Dotted path of the module in which it stands; empty for the model itself."""
    parameters: tuple[str, ...] = ()
    flops: Flops = _NONE
    by_formula: bool = True
    """False: no formula is known, and PyTorch's counter gave the figure."""
    flops_counted: Flops = _NONE
    """The same by PyTorch's counter, from the kernels that ran."""
    forward_s: float = 0.0
    backward_s: float = 0.0
    takes: tuple[Tensor, ...] = ()
    values: tuple[Tensor, ...]
    """What came out, detached; ``requires_grad`` as in training."""
    saved: tuple[int, ...] = ()
    """Storages kept for the backward pass, parameters and buffers apart."""


@dataclass(kw_only=True)
class Recording:
    """A whole forward and backward pass. Single-threaded; filled by :func:`record`."""

    operations: list[Operation] = field(default_factory=list)
    outputs: tuple[Tensor, ...] = ()
    storages: dict[int, int] = field(default_factory=dict)
    """Bytes behind each key."""
    constants: frozenset[int] = frozenset()
    """Keys of parameters and buffers: they are no activations."""
    aliases: dict[int, int] = field(default_factory=dict)
    """Copies made here for operations that write in place, and what they stand for."""
    held: list[Tensor] = field(default_factory=list)
    """Keeps every address taken, so that no two tensors share one."""

    def key(self, tensor: Tensor) -> int:
        """Which memory ``tensor`` lies in; 0 for none that counts."""
        key = storage_key(tensor)
        key = self.aliases.get(key, key)
        if not key or key in self.constants:
            return 0
        if key not in self.storages:
            self.storages[key] = storage_bytes(tensor)
            self.held.append(tensor.detach())
        return key


def record(
    graph: fx.GraphModule,
    inputs: Sequence[Any],
    *,
    repeats: int = 3,
    clock: Callable[[], float] = time.perf_counter,
    progress: Progress | None = None,
    formulas: Mapping[Any, Formula] | None = None,
) -> Recording:
    """Run ``graph`` on ``inputs``; buffers and the random state are as before afterwards.

    Args:
        graph: of :func:`flad_common.profiling.trace.trace`.
        inputs: positional arguments of the model's ``forward``.
        repeats: timed runs of each operation, after one that is not timed; the fastest counts.
        clock: gives seconds.
        progress: is told after each operation.
        formulas: of functions that :mod:`flad_common.profiling.formulas` does not know.

    Raises:
        ValueError: if an input is missing.
    """
    with unchanged(graph):
        return _Recorder(graph, repeats, clock, formulas).run(
            inputs, progress or (lambda done, total: None)
        )


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Buffers (batch statistics) and the random state survive what happens inside."""
    buffers = {name: b.detach().clone() for name, b in model.named_buffers()}
    with torch.random.fork_rng(devices=[]):
        yield
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])


class _Recorder:
    """One walk through the graph."""

    def __init__(
        self,
        graph: fx.GraphModule,
        repeats: int,
        clock: Callable[[], float],
        formulas: Mapping[Any, Formula] | None,
    ) -> None:
        self._graph, self._repeats, self._clock = graph, repeats, clock
        self._formulas = formulas
        self._modules = dict(graph.named_modules())
        self._names = {id(p): name for name, p in graph.named_parameters()}
        constants = (*graph.parameters(), *graph.buffers())
        self._recording = Recording(constants=frozenset(map(storage_key, constants)))
        self._values: dict[fx.Node, Any] = {}

    def run(self, inputs: Sequence[Any], progress: Progress) -> Recording:
        given = iter(inputs)
        nodes = list(self._graph.graph.nodes)
        for done, node in enumerate(nodes):
            progress(done, len(nodes))
            if node.op == "output":
                self._recording.outputs = tuple(tensors_in(self._values_of(node.args)))
            elif node.op == "placeholder":
                self._hold(node, self._input(node, given))
            elif node.op == "get_attr":
                value = operator.attrgetter(str(node.target))(self._graph)
                self._hold(node, value)  # its bytes belong to whoever takes it
            elif self._picks(node):
                self._hold(node, self._target(node)(*self._values_of(node.args)))
            else:
                self._operate(node)
        progress(len(nodes), len(nodes))
        return self._recording

    def _input(self, node: fx.Node, given: Iterator[Any]) -> Any:
        for value in given:
            return value
        if not node.args:
            raise ValueError(f"the model's input {node.name!r} was not given")
        return node.args[0]

    def _hold(self, node: fx.Node, value: Any, **facts: Any) -> None:
        """Keep a node's value, and its entry in the list of operations."""
        self._values[node] = value
        values = tuple(tensors_in(value))
        for tensor in values:
            self._recording.key(tensor)
        entry = {"kind": describe(node, self._modules), "module": module_path(node), **facts}
        self._recording.operations.append(
            Operation(name=node.name, op=node.op, values=values, **entry)
        )

    def _operate(self, node: fx.Node) -> None:
        target = self._target(node)
        module = target if isinstance(target, nn.Module) else None
        run = _Run(target, self._values_of(node.args), self._values_of(node.kwargs))
        takes = tuple(tensors_in([run.args, run.kwargs]))
        run.copy_if_in_place(self._recording)
        weights = [p for p in module.parameters() if p.requires_grad] if module else []
        picked = _picked(node)

        output, forward, saved = self._first_forward(run)
        wanted = _unique([t for t in (*takes, *weights) if t.requires_grad])
        _, backward = counted(lambda: run.backward(output, picked, wanted))
        call = Call(target=target, args=run.args, kwargs=run.kwargs, output=output)
        formula = flops_of(call, self._formulas)
        seen = Flops(forward=forward, backward=backward)
        times = [self._timed(run, picked, wanted) for _ in range(self._repeats)]
        self._hold(
            node,
            _detached(output),
            parameters=self._parameters(module if module is not None else takes),
            flops=formula or seen,
            by_formula=formula is not None,
            flops_counted=seen,
            forward_s=min((t[0] for t in times), default=0.0),
            backward_s=min((t[1] for t in times), default=0.0),
            takes=takes,
            saved=saved,
        )

    def _first_forward(self, run: _Run) -> tuple[Any, int, tuple[int, ...]]:
        """The output, its FLOPs by PyTorch's counter, and what is saved for the way back."""
        saved: dict[int, None] = {}

        def pack(tensor: Tensor) -> Tensor:
            if key := self._recording.key(tensor):
                saved[key] = None
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            output, flops = counted(run.forward)
        return output, flops, tuple(saved)

    def _timed(
        self, run: _Run, picked: set[int] | None, wanted: list[Tensor]
    ) -> tuple[float, float]:
        run.refresh()
        start = self._clock()
        output = run.forward()
        middle = self._clock()
        run.backward(output, picked, wanted)
        return middle - start, self._clock() - middle

    def _target(self, node: fx.Node) -> Any:
        return self._modules[str(node.target)] if node.op == "call_module" else node.target

    def _values_of(self, nodes: Any) -> Any:
        return fx.node.map_arg(nodes, lambda node: self._values[node])

    def _picks(self, node: fx.Node) -> bool:
        """Whether ``node`` only takes an element out of a tuple or a dictionary."""
        taken_from = node.args[0] if node.args else None
        return (
            node.target is operator.getitem
            and isinstance(taken_from, fx.Node)
            and not isinstance(self._values[taken_from], Tensor)
        )

    def _parameters(self, of: Any) -> tuple[str, ...]:
        """Names of the parameters of a module, or of the parameters among some tensors."""
        found = of.parameters() if isinstance(of, nn.Module) else tensors_in(of)
        return tuple(dict.fromkeys(self._names[id(p)] for p in found if id(p) in self._names))


class _Run:
    """One operation with its arguments, to be run more than once."""

    def __init__(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.target, self.args, self.kwargs = target, args, kwargs
        self._original: Tensor | None = None

    def copy_if_in_place(self, recording: Recording) -> None:
        """Let an operation that writes into its first argument write into a copy of it."""
        if _writes_in_place(self.target, self.kwargs) and isinstance(self.args[0], Tensor):
            self._original = self.args[0]
            self.refresh()
            original = recording.key(self._original)
            recording.aliases[storage_key(self.args[0])] = original
            recording.held.append(self.args[0].detach())

    def refresh(self) -> None:
        if self._original is not None:
            self.args = (self._original.clone(), *self.args[1:])

    def forward(self) -> Any:
        if isinstance(self.target, str):
            return getattr(self.args[0], self.target)(*self.args[1:], **self.kwargs)
        return self.target(*self.args, **self.kwargs)

    def backward(self, output: Any, picked: set[int] | None, wanted: list[Tensor]) -> None:
        """Gradients of ``wanted`` from gradients of one at every output that is taken."""
        items = output if picked is None else [output[i] for i in sorted(picked)]
        outputs = [t for t in tensors_in(items) if t.grad_fn is not None]
        if outputs and wanted:
            ones = [torch.ones_like(t) for t in outputs]
            torch.autograd.grad(outputs, wanted, ones, allow_unused=True)


def _writes_in_place(target: Any, kwargs: dict[str, Any]) -> bool:
    if kwargs.get("inplace") or getattr(target, "inplace", False):
        return True
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    return name in _IN_PLACE_OPERATORS or (name.endswith("_") and not name.endswith("__"))


_IN_PLACE_OPERATORS = frozenset({"iadd", "isub", "imul", "itruediv"})


def _picked(node: fx.Node) -> set[int] | None:
    """Elements of a node's tuple that somebody takes; ``None`` if it is taken whole."""
    indices = {
        user.args[1]
        for user in node.users
        if user.target is operator.getitem and isinstance(user.args[1], int)
    }
    only = all(user.target is operator.getitem for user in node.users)
    return {i for i in indices if isinstance(i, int)} if indices and only else None


def _detached(value: Any) -> Any:
    """``value`` without its history, and still asking for a gradient where it did."""
    if isinstance(value, Tensor):
        return value.detach().requires_grad_(value.requires_grad)
    if isinstance(value, dict):
        return {key: _detached(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_detached, value))
    if isinstance(value, (tuple, list)):
        return type(value)(map(_detached, value))
    return value


def _unique(tensors: list[Tensor]) -> list[Tensor]:
    return list({id(t): t for t in tensors}.values())
