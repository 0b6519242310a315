# SPDX-License-Identifier: Apache-2.0
"""Which tensors of the model each stage of a cluster signs: those of the units that it holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flad_pipeline.aggregation.layout import ModelLayout, State
from flad_pipeline.graph.units import UnitGraph
from flad_pipeline.partition import Partition
from flad_pipeline.stages.unit_module import unit_module
from flad_pipeline.stages.unit_state import BUFFER, WEIGHT, UnitState


def unit_tensors(graph: UnitGraph, layout: ModelLayout) -> tuple[frozenset[str], ...]:
    """Names of each unit's tensors that are part of the model's state.

    Buffers that the model does not save, such as tables that it can make again, are in a unit and
    not in a state.
    """
    modules = (unit_module(graph, unit) for unit in graph.units)
    return tuple(
        frozenset(
            name
            for named in (module.named_parameters(), module.named_buffers())
            for name, _ in named
            if name in layout.tensors
        )
        for module in modules
    )


def ticket_parts(
    partition: Partition, graph: UnitGraph, layout: ModelLayout
) -> Mapping[str, frozenset[str]]:
    """What each vehicle of a pipeline signs; tensors that no operation uses are the owner's.

    Raises:
        ValueError: if two units hold one tensor, so that two vehicles might sign it.
    """
    of_unit = unit_tensors(graph, layout)
    used = [name for names in of_unit for name in names]
    if twice := sorted({name for name in used if used.count(name) > 1}):
        raise ValueError(f"{twice[:5]} are in more than one unit; share them within one")
    parts = {
        span.vehicle: frozenset().union(*(of_unit[u] for u in partition.units_of(span.vehicle)))
        for span in partition.stages
    }
    parts[partition.owner] |= layout.tensors.keys() - set(used)
    return parts


def part_of(states: Iterable[UnitState], start: State, names: frozenset[str]) -> State:
    """The tensors that a vehicle signs, out of the units it holds; the rest as the round began.

    Optimizer states stay on the vehicle.
    """
    held = {
        key.split("/", 1)[1]: tensor
        for state in states
        for key, tensor in state.tensors.items()
        if key.startswith((f"{WEIGHT}/", f"{BUFFER}/"))
    }
    return {name: held.get(name, start[name]) for name in sorted(names)}
