# SPDX-License-Identifier: Apache-2.0
"""A model as a line of units, the smallest parts that a pipeline may cut between.

:func:`unit_graph` makes it; :mod:`flad_pipeline.graph.costs` says what each unit costs,
:mod:`flad_pipeline.partition` who runs which, :mod:`flad_pipeline.stages` runs them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import networkx as nx
from torch import fx, nn

from flad_common.profiling.trace import module_path
from flad_pipeline.graph.groups import (
    Group,
    group_graph,
    is_operation,
    operation_graph,
    origins,
)
from flad_pipeline.graph.order import crossing_bytes, ordered_groups, unit_lengths
from flad_pipeline.graph.trace import TracedModel, trace_model
from flad_pipeline.graph.values import NodeValue, TensorFacts, observe

MAX_UNITS = 60
"""As many as the exact planner places on ten vehicles within a second."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Consecutive operations; values are known by their operation's name."""

    index: int
    name: str
    """Of the module in which most of its work is."""
    operations: tuple[str, ...]
    reads_inputs: tuple[str, ...]
    """Inputs of the model that it takes, or raw values of; whoever runs it must own the data."""
    inputs: tuple[str, ...]
    """Inputs of the model that its operations take as they are."""
    takes: tuple[str, ...]
    """Values of earlier units."""
    makes: tuple[str, ...]
    """Values that later units take, or that the model gives."""
    parameters: tuple[str, ...]
    flops: int
    """Forward, by formula, of the example."""
    draws_random: bool
    """Whether it draws random numbers, as dropout does, or may, as what runs on the host."""


@dataclass(frozen=True, kw_only=True)
class UnitGraph:
    """The units of one model in their order."""

    model: str
    traced: TracedModel
    units: tuple[Unit, ...]
    tensors: Mapping[str, TensorFacts]
    """Of every value that may cross a cut, and of the inputs."""
    outputs: tuple[str, ...]
    """The model's own results: values, or inputs that it gives back."""
    dag: nx.DiGraph
    """Operations by name; an edge says who waits for whom."""
    raw: frozenset[str]
    """Values that no parameter had a part in: like inputs, they stay with the owner of the data."""
    batch_size: int
    """Of the example that the shapes come from: the first dimension of its first input."""

    def min_first_units(self, heads_from: int | None = None) -> int:
        """How many units the first stage has at least, so that nothing raw leaves its owner.

        Args:
            heads_from: units from here on are the owner's, too.
        """
        end = len(self.units) if heads_from is None else heads_from
        readers = [unit.index for unit in self.units[:end] if unit.reads_inputs]
        return readers[-1] + 1 if readers else 1

    @property
    def first_head(self) -> int:
        """Where the heads begin, if the owner of the data shall have as little work as possible.

        The heads hold every unit that makes a result, and the owner has the first stage as well,
        which must read what is raw: a head that reads raw values spares the first stage.
        """
        makers = [u.index for u in self.units if set(u.makes) & set(self.outputs)]
        last = max(1, makers[0] if makers else len(self.units) - 1)

        def work(head: int) -> int:
            owners = (*self.units[: self.min_first_units(head)], *self.units[head:])
            return sum(unit.flops + 1 for unit in owners)

        return min(range(1, last + 1), key=lambda head: (work(head), -head))

    @cached_property  # asked for with every unit that comes or goes
    def digest(self) -> str:
        """Tells structures apart: operations, their places in units, parameters. 16 letters.

        Two machines that hold the same model have the same. Order and boundaries come from the
        example's shapes, so all make it from the same configuration.
        """
        nodes = {n.name: n for n in self.traced.module.graph.nodes}
        lines: list[Any] = [self.traced.input_names, self.outputs, self.traced.training]
        for unit in self.units:
            lines += [(n, nodes[n].op, _said(nodes[n])) for n in unit.operations] + ["cut"]
        state = self.traced.module.state_dict()
        lines += [(key, list(t.shape), str(t.dtype)) for key, t in sorted(state.items())]
        return hashlib.sha256(json.dumps(lines).encode()).hexdigest()[:16]

    def live(self, after: int) -> tuple[str, ...]:
        """Values that cross the cut after unit ``after``, skips and results included.

        Raw values are not among them: they stay with the owner of the data.
        """
        made = [name for unit in self.units[: after + 1] for name in unit.makes]
        needed = {name for unit in self.units[after + 1 :] for name in unit.takes}
        return tuple(
            name
            for name in made
            if (name in needed or name in self.outputs) and name not in self.raw
        )

    def kept(self, first_stage_end: int, heads_from: int) -> tuple[str, ...]:
        """Inputs and raw values of the first stage that the owner keeps for its heads."""
        made = {n for unit in self.units[:first_stage_end] for n in (*unit.makes, *unit.inputs)}
        heads = self.units[heads_from:]
        needed = dict.fromkeys(n for unit in heads for n in (*unit.inputs, *unit.takes))
        inputs = {name for unit in self.units for name in unit.inputs}
        return tuple(n for n in needed if n in inputs or (n in made and n in self.raw))


def unit_graph(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    max_units: int = MAX_UNITS,
    verify: bool = True,
) -> UnitGraph:
    """Trace ``model``, group and order its operations, cut them into units.

    Args:
        model: in the mode in which its units shall run; unchanged afterwards.
        args: an example of one micro-batch.
        kwargs: the same.
        max_units: at most so many units.
        verify: run the model beside its graph, also on other batches, and refuse if they differ.

    Raises:
        ValueError: if the model cannot be traced or its graph is not what the model does, with the
            line where that is known.
    """
    traced = trace_model(model, args, kwargs)
    inputs = traced.flatten(args, kwargs)
    values = observe(traced, model, inputs, verify=verify)
    graph = traced.module.graph
    dag = operation_graph(graph, values)
    raw = origins(traced.module, values).raw
    groups = group_graph(traced.module, dag, values)
    line = ordered_groups(groups, values, graph)
    outputs = _results(graph, type(model).__name__)
    lengths = unit_lengths(line, crossing_bytes(line, values), max_units)
    ends = list(accumulate(lengths))
    parts = [line[end - n : end] for end, n in zip(ends, lengths, strict=True)]
    modules = _names(parts, values)
    units = [_unit(i, modules[i], part, values, outputs) for i, part in enumerate(parts)]
    return UnitGraph(
        model=type(model).__name__,
        traced=traced,
        units=tuple(units),
        tensors={n.name: v.tensor for n, v in values.items() if v.tensor is not None},
        outputs=outputs,
        dag=nx.relabel_nodes(dag, {node: node.name for node in dag}),
        raw=frozenset(n.name for n in raw if n.op != "placeholder"),
        batch_size=int(inputs[0].shape[0]) if inputs and inputs[0].dim() else 1,
    )


def _unit(
    index: int,
    name: str,
    groups: Sequence[Group],
    values: Mapping[fx.Node, NodeValue],
    outputs: Sequence[str],
) -> Unit:
    nodes = [node for group in groups for node in group.nodes]
    inside = set(nodes)
    sources = [s for n in nodes for s in n.all_input_nodes]
    takes = [s for s in sources if s.op not in ("placeholder", "get_attr") and s not in inside]
    makes = [n for n in nodes if n.name in outputs or any(u not in inside for u in n.users)]
    reads = [name for group in groups for name in group.reads_inputs]
    return Unit(
        index=index,
        name=name,
        operations=tuple(node.name for node in nodes),
        reads_inputs=tuple(dict.fromkeys(reads)),
        inputs=tuple(dict.fromkeys(s.name for s in sources if s.op == "placeholder")),
        takes=tuple(dict.fromkeys(node.name for node in takes)),
        makes=tuple(node.name for node in makes),
        parameters=tuple(sorted({name for group in groups for name in group.parameters})),
        flops=sum(group.flops for group in groups),
        draws_random=any(values[node].draws_random for node in nodes),
    )


def _names(parts: Sequence[Sequence[Group]], values: Mapping[fx.Node, NodeValue]) -> list[str]:
    """A name for each unit, none twice: the module of its costliest operation."""
    names: list[str] = []
    for groups in parts:
        nodes = [node for group in groups for node in group.nodes]
        name = module_path(max(nodes, key=lambda n: values[n].flops)) or "(top)"
        again = sum(1 for other in names if other.partition("#")[0] == name)
        names.append(f"{name}#{again + 1}" if again else name)
    return names


def _results(graph: fx.Graph, model: str) -> tuple[str, ...]:
    """Names of what the model returns, in its order."""
    (found,) = next(node for node in reversed(graph.nodes) if node.op == "output").args
    names = []
    for node in found if isinstance(found, (list, tuple)) else [found]:
        if not (isinstance(node, fx.Node) and is_operation(node)):
            raise ValueError(
                f"{model} returns {node} as it is, which no operation made: no stage could send "
                "it. Leave it out of the result, or return a copy (x.clone())"
            )
        names.append(node.name)
    return tuple(names)


def _said(node: fx.Node) -> str:
    """What an operation calls and with what, without addresses of objects."""
    target = getattr(node.target, "__qualname__", node.target)
    return f"{target} {node.args} {node.kwargs}"
