# SPDX-License-Identifier: Apache-2.0
"""A model as a list of operations, or a refusal that names the line.

Operations are those of ``torch.fx``: a module of ``torch.nn``, a function marked with
``torch.fx.wrap`` or ``host_control`` is one, everything else is looked into. Inputs and outputs
may be any nesting of dictionaries, tuples and lists: the graph takes and gives flat lists of
tensors. What is no tensor in the example (``None``, numbers, names) is a constant of the trace.

``torch.export`` freezes ``if x.shape[0] > 2`` without a word. Here a stand-in has no truth, no
length and no integer, so such a line is refused; and what a trace could still freeze (a test of a
type, random numbers, the mode) is found by running the graph beside the model.
"""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from flad_pipeline.graph.host_control import is_host_controlled

_ADVICE = (
    "Put what depends on values or shapes into a function of its own and decorate it with "
    "@host_control (flad_pipeline.graph.host_control): it is then one operation and runs as it is."
)


@dataclass(frozen=True, kw_only=True)
class Nesting:
    """How a flat list of tensors is nested in arguments or a result."""

    spec: pytree.TreeSpec
    constants: Mapping[int, Any]
    """Leaves that are no tensors, by their place among all leaves."""
    num_leaves: int

    @classmethod
    def of(cls, value: Any, is_tensor: Callable[[Any], bool]) -> tuple[Nesting, list[Any]]:
        """The nesting of ``value`` and its tensors in order."""
        leaves, spec = pytree.tree_flatten(value)
        constants = {i: leaf for i, leaf in enumerate(leaves) if not is_tensor(leaf)}
        nesting = cls(spec=spec, constants=constants, num_leaves=len(leaves))
        return nesting, [leaf for leaf in leaves if is_tensor(leaf)]

    def nest(self, tensors: Sequence[Any]) -> Any:
        """The value with other tensors in it."""
        given = iter(tensors)
        leaves = [
            self.constants[i] if i in self.constants else next(given)
            for i in range(self.num_leaves)
        ]
        return pytree.tree_unflatten(leaves, self.spec)


@dataclass(frozen=True, kw_only=True)
class TracedModel:
    """The graph of a model in one mode."""

    module: fx.GraphModule
    """Takes the tensors of the inputs, gives the list of the tensors of the outputs."""
    inputs: Nesting
    """Of ``(args, kwargs)``."""
    outputs: Nesting
    input_names: tuple[str, ...]
    """For people: ``images.front``."""
    training: bool
    mode_matters: bool
    """Whether the other mode has another graph, because Python asks ``self.training``."""

    def flatten(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> list[Tensor]:
        """The tensors of a call's arguments.

        Raises:
            ValueError: if they are nested otherwise than in the example, or a constant differs.
        """
        nesting, tensors = Nesting.of((tuple(args), dict(kwargs or {})), _is_tensor)
        if nesting.spec != self.inputs.spec or nesting.constants.keys() != (
            self.inputs.constants.keys()
        ):
            raise ValueError(
                f"the model was traced for inputs nested as {self.inputs.spec} with tensors named "
                f"{list(self.input_names)}, got {nesting.spec}; trace it again for other inputs"
            )
        for place, value in self.inputs.constants.items():
            if nesting.constants[place] != value:
                raise ValueError(
                    f"the model was traced with the constant {value!r} among its inputs, got "
                    f"{nesting.constants[place]!r}; trace it again for another value"
                )
        return tensors

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the model gives, by the graph."""
        return self.outputs.nest(self.module(*self.flatten(args, kwargs)))


def trace_model(
    model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None
) -> TracedModel:
    """Trace ``model`` in its present mode.

    Args:
        model: nothing of it is changed.
        args: an example of what it is called with; only its nesting and constants matter here.
        kwargs: the same.

    Raises:
        ValueError: if the model's Python depends on values, shapes or random numbers; it names the
            line and the decorator to use.
    """
    nesting, _ = Nesting.of((tuple(args), dict(kwargs or {})), _is_tensor)
    names = _leaf_names((tuple(args), dict(kwargs or {})), model)
    tracer = _Tracer(nesting, names, _is_tensor)
    graph = _traced(tracer, model)
    other = _Tracer(nesting, names, _is_tensor)
    training = model.training
    modes = {module: module.training for module in model.modules()}
    try:
        model.train(not training)
        mode_matters = _shape_of(graph) != _shape_of(_traced(other, model))
    finally:
        for module, mode in modes.items():
            module.training = mode
    assert tracer.outputs is not None
    return TracedModel(
        module=fx.GraphModule(tracer.root, graph, type(model).__name__),
        inputs=nesting,
        outputs=tracer.outputs,
        input_names=tuple(names),
        training=training,
        mode_matters=mode_matters,
    )


class _Tracer(fx.Tracer):
    """Stand-ins for the tensors only; dictionaries are dictionaries while the model runs."""

    proxy_buffer_attributes = True  # what writes into a buffer is an operation, too

    def __init__(
        self, inputs: Nesting, names: Sequence[str], is_tensor: Callable[[Any], bool]
    ) -> None:
        super().__init__()
        self._inputs, self._names, self._is_tensor = inputs, names, is_tensor
        self.outputs: Nesting | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_host_controlled(m) or super().is_leaf_module(m, module_qualified_name)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        proxies = [
            self.create_proxy("placeholder", name.replace(".", "_"), (), {}) for name in self._names
        ]

        def flat(root: nn.Module, *tensors: Any) -> list[Any]:
            args, kwargs = self._inputs.nest(tensors)
            result = root_fn(root, *args, **kwargs)
            self.outputs, leaves = Nesting.of(result, lambda x: isinstance(x, (fx.Proxy, Tensor)))
            return leaves

        return flat, [self.root, *proxies]


def _traced(tracer: _Tracer, model: nn.Module) -> fx.Graph:
    before = torch.get_rng_state()
    try:
        graph = tracer.trace(model)
    except Exception as error:  # the model's own code ran: whatever it raises is its answer
        where = _model_line(error.__traceback__)
        raise ValueError(
            f"{type(model).__name__} cannot be traced at {where}: {type(error).__name__}: {error}. "
            f"{_ADVICE}"
        ) from error
    if not torch.equal(before, torch.get_rng_state()):
        torch.set_rng_state(before)
        raise ValueError(
            f"{type(model).__name__} draws random numbers that depend on no input: a trace would "
            f"use the same ones for ever. {_ADVICE}"
        )
    for name, module in model.named_modules():
        for attribute, value in list(vars(module).items()):
            if isinstance(value, fx.Proxy):
                delattr(module, attribute)
                raise ValueError(
                    f"{type(model).__name__} keeps a tensor in {name or '(top)'}.{attribute} from "
                    "call to call: a graph has no such memory. Make it a buffer that is written "
                    "in place, or an output"
                )
    return graph


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _leaf_names(call: Any, model: nn.Module) -> list[str]:
    """A name for each tensor of ``(args, kwargs)``, by ``forward``'s own words where it has any."""
    code = getattr(type(model).forward, "__code__", None)
    parameters = code.co_varnames[1 : code.co_argcount] if code is not None else ()
    names = []
    for path, leaf in pytree.tree_flatten_with_path(call)[0]:
        if _is_tensor(leaf):
            side, first, *rest = [_key(part) for part in path]
            place = int(first) if side == "0" else -1
            word = parameters[place] if 0 <= place < len(parameters) else first
            names.append(".".join([f"input_{word}" if word.isdigit() else word, *rest]))
    return names


def _key(part: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(part, attribute):
            return str(getattr(part, attribute))
    return str(part)


def _shape_of(graph: fx.Graph) -> list[tuple[Any, ...]]:
    """What makes two graphs the same."""
    return [(n.op, str(n.target), str(n.args), str(n.kwargs)) for n in graph.nodes]


def _model_line(trace: TracebackType | None) -> str:
    """The innermost line that is neither PyTorch's nor ours: ``file:line, in f: code``."""
    foreign = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
    frames = [f for f in traceback.extract_tb(trace) if not f.filename.startswith((*foreign, "<"))]
    if not frames:
        return "an unknown line"
    frame = frames[-1]
    line = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
    return f"{frame.filename}:{frame.lineno}, in {frame.name}: `{line}`"
