# SPDX-License-Identifier: Apache-2.0
"""What the members of the exactness bench train, the same in every process.

Everything is made from seeds: nothing but the plan has to be sent to a member.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from flad_perception.batch import Targets
from flad_perception.config import load_encoder_config
from flad_perception.losses import encoder_losses
from flad_perception.model.encoder import EncoderOutput
from flad_perception.profiling.encoder import build_case, noise_inputs
from flad_pipeline.graph.units import UnitGraph, unit_graph
from flad_pipeline.partition import Partition, partition_from_json
from flad_pipeline.stages.trainer import MicroBatch, StepConfig

_LR = 1e-3
_CLIP_NORM = 1.0


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Steps in one pipeline."""

    first_step: int
    end_step: int
    """One after the last."""
    partition: Partition
    goes_back: bool = False
    """It begins from the last common cut, because a vehicle was lost in the phase before."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a member has to know."""

    config: str
    seed: int
    micro_batch: int
    num_micro_batches: int
    phases: tuple[Phase, ...]
    backup_every: int = 0
    """Steps between two common cuts; 0: none."""
    lost: str = ""
    """A vehicle that kills itself in the first phase."""
    lost_at_step: int = -1

    @property
    def step_config(self) -> StepConfig:
        """The same on all members, and for the one process."""
        return StepConfig(
            num_micro_batches=self.num_micro_batches, clip_norm=_CLIP_NORM, seed=self.seed
        )

    def write(self, path: Path) -> None:
        """As JSON."""
        values = dataclasses.asdict(self)
        for phase, written in zip(self.phases, values["phases"], strict=True):
            written["partition"] = phase.partition.as_json()
        path.write_text(json.dumps(values, indent=1), encoding="utf-8")


def read_plan(path: Path) -> Plan:
    """What :meth:`Plan.write` wrote."""
    values = json.loads(path.read_text(encoding="utf-8"))
    phases = [
        Phase(**{**phase, "partition": partition_from_json(json.dumps(phase["partition"]))})
        for phase in values.pop("phases")
    ]
    return Plan(phases=tuple(phases), **values)


def case_graph(plan: Plan) -> UnitGraph:
    """The encoder's units; the seed decides its weights."""
    model, inputs = build_case(load_encoder_config(plan.config), plan.micro_batch, plan.seed)
    return unit_graph(model, inputs, verify=False)


def make_optimizer(parameters: Mapping[str, nn.Parameter]) -> AdamW:
    """AdamW that decays matrices only."""
    plain = [p for p in parameters.values() if p.ndim < 2]
    matrices = [p for p in parameters.values() if p.ndim >= 2]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": matrices, "weight_decay": 0.01}]
    return AdamW([group for group in groups if group["params"]], lr=_LR)


def micro_batches(plan: Plan, vehicle: str, step: int) -> list[MicroBatch]:
    """The data of one vehicle for one step: noise, and answers at random."""
    config = load_encoder_config(plan.config)
    found = []
    for i in range(plan.num_micro_batches):
        seed = _seed_of(plan.seed, vehicle, step, i)
        numbers = torch.Generator().manual_seed(seed)
        inputs = noise_inputs(config, plan.micro_batch, numbers)
        found.append(MicroBatch(args=tuple(inputs), targets=seed))
    return found


def case_loss(output: EncoderOutput, seed: int) -> Tensor:
    """The encoder's losses; a micro-batch's targets are drawn from its seed, at the owner."""
    return encoder_losses(output, case_targets(output, seed)).total


def _seed_of(seed: int, vehicle: str, step: int, micro_batch: int) -> int:
    """A seed for one micro-batch of one vehicle."""
    number = int("".join(c for c in vehicle if c.isdigit()) or "0")
    return ((seed * 1009 + number) * 100_003 + step) * 1009 + micro_batch


def case_targets(output: EncoderOutput, seed: int) -> Targets:
    """What the heads should have said, drawn from a seed."""
    numbers = torch.Generator().manual_seed(seed)
    size = len(output.light_logits)
    detection = torch.rand(output.detection.shape, generator=numbers)
    detection[..., 0] = (detection[..., 0] > 0.9).float()
    return Targets(
        detection=detection,
        waypoints_m=5.0 * torch.rand(output.waypoints_m.shape, generator=numbers),
        path_m=5.0 * torch.rand(output.paths_m[:, 0].shape, generator=numbers),
        command=torch.zeros(len(output.waypoints_m), dtype=torch.long),
        light=torch.randint(2, (size,), generator=numbers),
        stop=torch.randint(2, (size,), generator=numbers),
    )
