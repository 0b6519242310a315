# SPDX-License-Identifier: Apache-2.0
"""Who runs which units, as a value: a pipeline of stages, checked against a model and its devices.

Stages are consecutive spans of units in the order of :mod:`flad_pipeline.graph.units`. In a
u-shaped pipeline the owner of the data, who is the first stage, has the last units as well: the
heads and the loss, so that labels stay where they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from flad_pipeline.graph.costs import UnitCosts
from flad_pipeline.graph.units import UnitGraph

SCHEMA, SCHEMA_VERSION = "flad.partition", 1


@dataclass(frozen=True, kw_only=True)
class Span:
    """Units ``first`` to ``last``, both included, on one vehicle."""

    vehicle: str
    first: int
    last: int

    def __post_init__(self) -> None:
        for name in ("first", "last"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError(f"{name} must be an integer, got {value!r}")
        if not isinstance(self.vehicle, str) or not self.vehicle:
            raise ValueError(f"vehicle must be a name, got {self.vehicle!r}")
        if not 0 <= self.first <= self.last:
            raise ValueError(
                f"the span of {self.vehicle!r} must hold a unit, got {self.first}..{self.last}"
            )

    @property
    def units(self) -> range:
        """Their indices."""
        return range(self.first, self.last + 1)


@dataclass(frozen=True, kw_only=True)
class Partition:
    """One pipeline. Its first vehicle feeds its own data.

    Raises:
        ValueError: if spans do not follow each other, a vehicle has two, or units are left over.
    """

    digest: str
    """Of the unit graph (:attr:`UnitGraph.digest`) that the indices are of."""
    num_units: int
    stages: tuple[Span, ...]
    heads_from: int | None = None
    """Units from here on are the first vehicle's (u-shaped); ``None``: the last stage's."""

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("a partition needs at least one stage, got none")
        end = self.num_units if self.heads_from is None else self.heads_from
        if not 0 < end <= self.num_units:
            raise ValueError(f"heads_from must lie in 1..{self.num_units}, got {self.heads_from}")
        expected = 0
        for span in self.stages:
            if span.first != expected:
                raise ValueError(
                    f"the span of {span.vehicle!r} begins at unit {span.first}; the one before it "
                    f"ends so that it must begin at {expected}"
                )
            expected = span.last + 1
        if expected != end:
            raise ValueError(f"the stages end before unit {expected}; they must end before {end}")
        names = [span.vehicle for span in self.stages]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"every vehicle has one stage; more than one has {twice}")

    @classmethod
    def even(
        cls, graph: UnitGraph, vehicles: list[str], *, heads_from: int | None = None
    ) -> Partition:
        """Equal numbers of units, as far as the first stage's minimum allows: for a first try."""
        end = len(graph.units) if heads_from is None else heads_from
        least = graph.min_first_units(heads_from)
        rest = len(vehicles) - 1
        first = max(least, end // len(vehicles)) if rest else end
        ends = [first + (end - first) * k // max(1, rest) for k in range(len(vehicles))]
        starts = [0, *ends[:-1]]
        return cls(
            digest=graph.digest,
            num_units=len(graph.units),
            heads_from=heads_from,
            stages=tuple(
                Span(vehicle=v, first=a, last=b - 1)
                for v, a, b in zip(vehicles, starts, ends, strict=True)
            ),
        )

    @property
    def owner(self) -> str:
        """The vehicle whose data it is."""
        return self.stages[0].vehicle

    @property
    def heads(self) -> range:
        """Units that the owner has at the end; empty without u-shape."""
        start = self.num_units if self.heads_from is None else self.heads_from
        return range(start, self.num_units)

    def units_of(self, vehicle: str) -> tuple[int, ...]:
        """Every unit that ``vehicle`` holds; none if it has no stage."""
        held = [i for span in self.stages if span.vehicle == vehicle for i in span.units]
        return tuple(held + (list(self.heads) if vehicle == self.owner else []))

    def owner_of(self, unit: int) -> str:
        """Who holds ``unit``."""
        for span in self.stages:
            if unit in span.units:
                return span.vehicle
        return self.owner

    def moves_to(self, other: Partition) -> dict[int, tuple[str, str]]:
        """Units that change hands from this partition to ``other``: from whom, to whom."""
        return {
            i: (self.owner_of(i), other.owner_of(i))
            for i in range(self.num_units)
            if self.owner_of(i) != other.owner_of(i)
        }

    def check(self, graph: UnitGraph) -> None:
        """Hold it against the model that it is to cut.

        Raises:
            ValueError: if it is of another model, or a raw input would leave its owner.
        """
        if (self.digest, self.num_units) != (graph.digest, len(graph.units)):
            raise ValueError(
                f"the partition is of the unit graph {self.digest} with {self.num_units} units, "
                f"the model here has {graph.digest} with {len(graph.units)}; plan again for it"
            )
        least = graph.min_first_units(self.heads_from)
        first = self.stages[0]
        if first.last + 1 < least and len(self.stages) > 1:
            reader = graph.units[least - 1]
            raise ValueError(
                f"the first stage ({first.vehicle!r}) has {first.last + 1} units and needs "
                f"{least}: unit {reader.index} ({reader.name}) reads {list(reader.reads_inputs)}, "
                "and raw inputs never leave their owner. Give it more units, or begin the "
                "owner's heads (heads_from) there"
            )

    def as_json(self) -> dict[str, Any]:
        """Plain values for :func:`partition_from_json`."""
        return {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **asdict(self)}


def partition_from_json(text: str) -> Partition:
    """Read a partition.

    Raises:
        ValueError: if the text is no JSON, of another schema, has unknown or missing keys, or its
            spans do not fit each other.
    """
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"a partition must be JSON: {error}") from error
    given = _keys(found, {"schema", "schema_version", *_names(Partition)}, "a partition")
    if (given.pop("schema"), given.pop("schema_version")) != (SCHEMA, SCHEMA_VERSION):
        raise ValueError(
            f"a partition's schema must be {SCHEMA!r} version {SCHEMA_VERSION}, got "
            f"{found['schema']!r} version {found['schema_version']!r}"
        )
    heads, units = given["heads_from"], given["num_units"]
    if not (heads is None or type(heads) is int) or type(units) is not int:
        raise ValueError(f"num_units and heads_from must be integers, got {units!r}, {heads!r}")
    if not isinstance(given["stages"], list) or not isinstance(given["digest"], str):
        raise ValueError("stages must be a list and digest a text")
    spans = tuple(Span(**_keys(s, set(_names(Span)), "a stage")) for s in given.pop("stages"))
    return Partition(stages=spans, **given)


def stage_bytes(
    partition: Partition,
    costs: UnitCosts,
    *,
    num_micro_batches: int,
    schedule: str = "1f1b",
    extra_in_flight: int = 0,
) -> dict[str, int]:
    r"""Memory that each vehicle's units need in training, in bytes.

    .. math::
        M_v = \sum_u (w_u + g_u + o_u + b_u) + k_v (s_v + l_v) + m (e_v + r_v) + (l_v + d_v)
              + \max_u x_u

    with weights, gradients, optimizer and buffers of its units :math:`u`; :math:`s_v`, what they
    save for the backward pass of what they made, each piece of memory counted once, and
    :math:`l_v`, what leaves the stage, for each of the :math:`k_v` micro-batches in flight;
    :math:`e_v`, what enters it, and :math:`r_v`, the gradients that return to it, for which
    PyTorch's stage keeps a buffer for each of the :math:`m` micro-batches of a step;
    :math:`l_v + d_v`, the rows that the last value and the last gradient :math:`d_v` were packed
    into to be sent; and :math:`x_u`, what a unit's peak has beyond these. Measured beside it:
    within 10 % (``test_stage_memory.py``). Bytes in the transport: :func:`message_bytes`.

    Args:
        partition: who has what.
        costs: of one micro-batch.
        num_micro_batches: of a step.
        schedule: with ``gpipe`` all of them are in flight, with ``1f1b`` at most ``S - s`` at
            stage ``s`` of ``S``, and one more in a u-shaped pipeline, whose heads are a stage of
            their own. The owner's heads have one.
        extra_in_flight: beyond that.
    """
    last = len(partition.stages) - 1
    more = extra_in_flight + int(partition.heads_from is not None)
    needs = {}
    for place, span in enumerate(partition.stages):
        flight = num_micro_batches
        if schedule == "1f1b":
            flight = min(num_micro_batches, len(partition.stages) - place + more)
        units = [costs.units[i] for i in partition.units_of(span.vehicle)]
        heads = partition.heads if place == 0 else range(0)
        static = [
            u.parameter_bytes + u.gradient_bytes + u.optimizer_bytes + u.buffer_bytes for u in units
        ]
        extra = [u.peak_bytes - s - u.saved_bytes for u, s in zip(units, static, strict=True)]
        leaving = costs.cuts[span.last].forward_bytes if span.last < len(costs.cuts) else 0
        entering = costs.cuts[span.first - 1].forward_bytes if place else 0
        sent_back = costs.cuts[span.first - 1].backward_bytes if place else 0
        returning = costs.cuts[span.last].backward_bytes if place < last else 0
        needs[span.vehicle] = (
            sum(static)
            + flight * (_saved_bytes(costs, span.units) + leaving)
            + _saved_bytes(costs, heads)
            + num_micro_batches * (entering + returning)
            + (leaving + sent_back)
            + max(0, *extra)
        )
    return needs


def message_bytes(partition: Partition, costs: UnitCosts) -> dict[str, int]:
    """What the transport holds of each vehicle's cuts, in bytes: one message of each kind.

    A value and a gradient that are not acknowledged yet, and a value and a gradient that arrived
    before the stage asked for them. They are no tensors, so :func:`stage_bytes` leaves them out.
    """
    needs = {}
    for place, span in enumerate(partition.stages):
        sides = {span.last}
        if place:
            sides.add(span.first - 1)
        elif partition.heads_from is not None:
            sides.add(partition.heads_from - 1)
        cuts = [costs.cuts[side] for side in sides if side < len(costs.cuts)]
        needs[span.vehicle] = sum(cut.forward_bytes + cut.backward_bytes for cut in cuts)
    return needs


def _saved_bytes(costs: UnitCosts, units: Iterable[int]) -> int:
    """What these units save of what they, or nobody, made: the rest lies in receive buffers."""
    inside = {-1, *units}
    saved = {i for unit in inside - {-1} for i in costs.units[unit].saves}
    return sum(costs.storages[i] for i in saved if costs.storage_makers[i] in inside)


def check_memory(needs: Mapping[str, int], device_bytes: Mapping[str, int]) -> None:
    """Refuse stages that do not fit their devices.

    Raises:
        ValueError: which vehicle, what it needs, what it has, what is missing.
    """
    missing = [
        f"{vehicle} needs {need / 2**20:.1f} MiB and has {device_bytes[vehicle] / 2**20:.1f} MiB, "
        f"{(need - device_bytes[vehicle]) / 2**20:.1f} MiB too little"
        for vehicle, need in needs.items()
        if need > device_bytes[vehicle]
    ]
    if missing:
        raise ValueError(
            f"the partition does not fit: {'; '.join(missing)}. Give these vehicles fewer units, "
            "smaller or fewer micro-batches"
        )


def _names(kind: type[Any]) -> list[str]:
    return [f.name for f in fields(kind)]


def _keys(found: Any, expected: set[str], what: str) -> dict[str, Any]:
    if not isinstance(found, dict) or found.keys() != expected:
        got = sorted(found) if isinstance(found, dict) else type(found).__name__
        raise ValueError(f"{what} must be an object with {sorted(expected)}, got {got}")
    return dict(found)
