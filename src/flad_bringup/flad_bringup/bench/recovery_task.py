# SPDX-License-Identifier: Apache-2.0
"""The encoder on noise as a :class:`TrainingTask`: recovery does not depend on what is learned."""

from __future__ import annotations

from pathlib import Path

from flad_bringup.bench.exactness_case import (
    case_graph,
    case_loss,
    make_optimizer,
    micro_batches,
    read_plan,
)
from flad_bringup.bench.recovery_phases import phase_file, tell_phases
from flad_edge.federate.encoder_task import encoder_costs
from flad_perception.config import load_encoder_config
from flad_pipeline.aggregation.layout import ModelLayout
from flad_pipeline.graph.costs import UnitCosts
from flad_pipeline.graph.units import UnitGraph
from flad_pipeline.round.task import TrainingTask

TASK = "flad_bringup.bench.recovery_task:noise_task"
COSTS = "flad_bringup.bench.recovery_task:noise_costs"

_SAMPLES = 10_000
_KEPT_STEPS = 4  # noise is drawn once: making it is not what is measured


def noise_task(description: str, vehicle: str) -> TrainingTask:
    """Of a vehicle, or of the edge.

    Args:
        description: file of a :class:`flad_bringup.bench.exactness_case.Plan`.
        vehicle: whose noise.
    """
    plan = read_plan(Path(description))
    if vehicle:
        tell_phases(phase_file(Path(description), vehicle))
    graph = case_graph(plan)
    model = graph.traced.module
    kept = [micro_batches(plan, vehicle, step) for step in range(_KEPT_STEPS)] if vehicle else []
    return TrainingTask(
        graph=graph,
        layout=ModelLayout.of(model),
        start={name: tensor.clone() for name, tensor in model.state_dict().items()},
        step_config=plan.step_config,
        make_optimizer=make_optimizer,
        loss=case_loss,
        batches=lambda _, step: kept[step % _KEPT_STEPS],
        num_samples=_SAMPLES if vehicle else 0,
    )


def noise_costs(description: str, graph: UnitGraph) -> UnitCosts:
    """Of the units, for the planner."""
    return encoder_costs(load_encoder_config(read_plan(Path(description)).config), graph)
