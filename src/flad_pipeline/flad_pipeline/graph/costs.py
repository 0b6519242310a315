# SPDX-License-Identifier: Apache-2.0
"""What units cost: FLOPs, seconds and bytes of each, and what crosses each cut.

Counts are those of :mod:`flad_common.profiling`, whose page (docs/profile.md) says how they are
made and checked. The JSON is what the planner reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, fx, nn

from flad_common.profiling.formulas import Formula
from flad_common.profiling.profile import Profile
from flad_common.profiling.record import record
from flad_common.profiling.trace import tensor_bytes
from flad_pipeline.graph.units import UnitGraph

SCHEMA, SCHEMA_VERSION = "flad.units", 1


@dataclass(frozen=True, kw_only=True)
class UnitCost:
    """One unit in one training step on one micro-batch."""

    name: str
    flops_forward: int
    flops_backward: int
    forward_s: float
    """On the machine that counted; 0 where nothing was timed."""
    backward_s: float
    parameter_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    """Of AdamW."""
    buffer_bytes: int
    saved_bytes: int
    """Kept from the forward to the backward pass, for each micro-batch in flight."""
    peak_bytes: int
    """Most memory at one time, were this unit alone on a device, with one micro-batch."""
    saves: tuple[int, ...]
    """Places in :attr:`UnitCosts.storages`: what two units of a stage save counts once."""


@dataclass(frozen=True, kw_only=True)
class CutCost:
    """What crosses after one unit, for one micro-batch: every live tensor, skips included."""

    after: int
    forward_bytes: int
    backward_bytes: int
    """Of the tensors that ask for a gradient."""
    tensors: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class UnitCosts:
    """The costs of a whole model."""

    model: str
    digest: str
    batch_size: int
    min_first_units: int
    first_head: int
    units: tuple[UnitCost, ...]
    cuts: tuple[CutCost, ...]
    """One after each unit but the last."""
    storages: tuple[int, ...]
    """Bytes of pieces of memory that are saved for the backward pass."""
    storage_makers: tuple[int, ...]
    """The unit that made each; -1 for inputs of the model."""

    def as_json(self) -> dict[str, Any]:
        """What the planner reads; figures are of a micro-batch of ``batch_size``."""
        return {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **asdict(self)}


def unit_costs_from_json(text: str) -> UnitCosts:
    """What :meth:`UnitCosts.as_json` gave.

    Raises:
        ValueError: if the text is no JSON, of another schema, or has other keys.
    """
    try:
        values = json.loads(text)
        kind = (values.pop("schema"), values.pop("schema_version"))
        units = tuple(UnitCost(**(u | {"saves": tuple(u["saves"])})) for u in values.pop("units"))
        cuts = tuple(CutCost(**(c | {"tensors": tuple(c["tensors"])})) for c in values.pop("cuts"))
        sizes, makers = tuple(values.pop("storages")), tuple(values.pop("storage_makers"))
        costs = UnitCosts(units=units, cuts=cuts, storages=sizes, storage_makers=makers, **values)
    except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"these are no costs of units: {error!r}") from error
    if kind != (SCHEMA, SCHEMA_VERSION):
        raise ValueError(f"costs must be {SCHEMA!r} version {SCHEMA_VERSION}, got {kind}")
    return costs


def unit_costs(
    graph: UnitGraph,
    inputs: Sequence[Tensor],
    *,
    repeats: int = 0,
    formulas: Mapping[Any, Formula] | None = None,
) -> UnitCosts:
    """Count what each unit costs on these inputs.

    Args:
        graph: of a model in training mode.
        inputs: one micro-batch, flat, as :meth:`TracedModel.flatten` gives it.
        repeats: timed runs of each operation; none leaves the seconds at 0.
        formulas: FLOPs of the project's own functions in the graph.
    """
    module = in_order(graph)
    recording = record(module, list(inputs), repeats=repeats, formulas=formulas)
    profile = Profile(
        facts={},
        recording=recording,
        parameters=dict(graph.traced.module.named_parameters()),
        checks=(),
    )
    place = {operation.name: i for i, operation in enumerate(recording.operations)}
    keys = list(dict.fromkeys(key for o in recording.operations for key in o.saved))
    number = {key: i for i, key in enumerate(keys)}
    unit_of = {name: unit.index for unit in graph.units for name in unit.operations}
    makers: dict[int, int] = {}
    for operation in recording.operations:
        for key in (*map(recording.key, operation.values), *operation.saved):
            makers.setdefault(key, unit_of.get(operation.name, -1))
    units = []
    for unit in graph.units:
        members = [place[name] for name in unit.operations]
        cost = profile.cost(members)
        saved = dict.fromkeys(key for i in members for key in recording.operations[i].saved)
        units.append(
            UnitCost(
                name=unit.name,
                flops_forward=cost.flops_forward,
                flops_backward=cost.flops_backward,
                forward_s=cost.forward_s,
                backward_s=cost.backward_s,
                parameter_bytes=cost.parameter_bytes,
                gradient_bytes=cost.gradient_bytes,
                optimizer_bytes=cost.optimizer_bytes,
                buffer_bytes=_buffer_bytes(graph, unit.operations),
                saved_bytes=cost.saved_bytes,
                peak_bytes=cost.peak_bytes,
                saves=tuple(number[key] for key in saved),
            )
        )
    return UnitCosts(
        model=graph.model,
        digest=graph.digest,
        batch_size=graph.batch_size,
        min_first_units=graph.min_first_units(graph.first_head),
        first_head=graph.first_head,
        units=tuple(units),
        cuts=tuple(cut_cost(graph, i) for i in range(len(units) - 1)),
        storages=tuple(recording.storages[key] for key in keys),
        storage_makers=tuple(makers[key] for key in keys),
    )


def cut_cost(graph: UnitGraph, after: int) -> CutCost:
    """What crosses after unit ``after``; needs no count."""
    names = graph.live(after)
    facts = [graph.tensors[name] for name in names]
    return CutCost(
        after=after,
        forward_bytes=sum(f.num_bytes for f in facts),
        backward_bytes=sum(f.num_bytes for f in facts if f.requires_grad),
        tensors=names,
    )


def in_order(graph: UnitGraph) -> fx.GraphModule:
    """The whole model with its operations in the order of the units."""
    nodes = {node.name: node for node in graph.traced.module.graph.nodes}
    copy = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}

    def add(node: fx.Node) -> fx.Node:
        if node not in copied:
            for source in node.all_input_nodes:  # constants come when they are needed
                add(source)
            copied[node] = copy.node_copy(node, copied.__getitem__)
        return copied[node]

    for node in nodes.values():
        if node.op == "placeholder":
            add(node)
    for unit in graph.units:
        for name in unit.operations:
            add(nodes[name])
    copy.output([add(nodes[name]) for name in graph.outputs])
    return fx.GraphModule(graph.traced.module, copy)


def _buffer_bytes(graph: UnitGraph, operations: Sequence[str]) -> int:
    module = graph.traced.module
    nodes = {node.name: node for node in module.graph.nodes}
    held: dict[int, Tensor] = {}
    for name in operations:
        node = nodes[name]
        if node.op == "call_module":
            held.update((id(b), b) for b in module.get_submodule(str(node.target)).buffers())
        for source in node.all_input_nodes:
            if source.op == "get_attr":
                owner, _, attribute = str(source.target).rpartition(".")
                value = getattr(module.get_submodule(owner), attribute)
                if not isinstance(value, nn.Parameter):
                    held[id(value)] = value
    return sum(tensor_bytes(b) for b in held.values())
