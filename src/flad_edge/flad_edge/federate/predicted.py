# SPDX-License-Identifier: Apache-2.0
"""A partition of a real model as SWIFT sees it, and the time that SWIFT predicts for its step.

In a u-shaped pipeline the heads are the first vehicle's, so their cost is added to unit 0, which is
always there too. What the last stage sends back to the owner is not seen by SWIFT.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from flad_edge.swift.cluster import Cluster
from flad_edge.swift.pipeline import Pipeline
from flad_edge.swift.problem import Problem
from flad_edge.swift.schedule import simulated_step_s
from flad_edge.swift.units import ModelUnits, units_from_json
from flad_pipeline.graph.costs import UnitCosts
from flad_pipeline.partition import Partition


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PredictedStep:
    """Of one pipeline, all micro-batches."""

    closed_form_s: float
    """What planners minimise (Eqs. 7 to 10 and the slowest station)."""
    stepped_s: float
    """1F1B stepped through, transfers waiting for the channel: what ``./flad plan`` prints."""


def predicted_step(
    cluster: Cluster, costs: UnitCosts, partition: Partition, num_micro_batches: int
) -> PredictedStep:
    """What SWIFT says of a step before it is run.

    Args:
        cluster: its vehicles bear the partition's names.
        costs: of the model's units, for one micro-batch.
        partition: of the model onto all vehicles of the cluster.
        num_micro_batches: of the step.
    """
    problem = Problem(cluster, with_heads_first(costs), num_micro_batches)
    pipeline = as_pipeline(partition, [vehicle.name for vehicle in cluster.vehicles])
    return PredictedStep(
        closed_form_s=problem.step_s(pipeline), stepped_s=simulated_step_s(problem, pipeline)
    )


def with_heads_first(costs: UnitCosts) -> ModelUnits:
    """The units that stages are cut of; the heads' costs are unit 0's."""
    model = units_from_json(costs.as_json())
    head = costs.first_head
    units = list(model.units[:head])
    numbers = {
        f.name: sum(getattr(u, f.name) for u in (model.units[0], *model.units[head:]))
        for f in dataclasses.fields(units[0])
        if f.name != "name"
    }
    units[0] = dataclasses.replace(units[0], **numbers)
    return dataclasses.replace(model, units=tuple(units), cuts=model.cuts[: head - 1])


def as_pipeline(partition: Partition, names: Sequence[str]) -> Pipeline:
    """Stages by the vehicles' numbers in ``names``."""
    stages = partition.stages
    return Pipeline.of([names.index(s.vehicle) for s in stages], [s.last + 1 for s in stages])
