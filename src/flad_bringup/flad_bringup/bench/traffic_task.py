# SPDX-License-Identifier: Apache-2.0
"""The encoder on noise, as rounds that end: what is averaged are the model's own tensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from flad_bringup.bench.exactness_case import read_plan
from flad_bringup.bench.recovery_task import noise_task
from flad_perception.config import load_encoder_config
from flad_perception.profiling.encoder import build_case
from flad_pipeline.aggregation.layout import ModelLayout
from flad_pipeline.round.task import TrainingTask

TASK = "flad_bringup.bench.traffic_task:traffic_task"


def traffic_task(description: str, vehicle: str) -> TrainingTask:
    """Of a vehicle, or of the edge.

    Args:
        description: file of a :class:`flad_bringup.bench.exactness_case.Plan`.
        vehicle: whose noise.
    """
    plan = read_plan(Path(description))
    model, _ = build_case(load_encoder_config(plan.config), plan.micro_batch, plan.seed)
    return replace(
        noise_task(description, vehicle),
        layout=ModelLayout.of(model),
        start={name: tensor.clone() for name, tensor in model.state_dict().items()},
    )
