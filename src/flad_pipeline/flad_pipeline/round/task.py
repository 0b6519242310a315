# SPDX-License-Identifier: Apache-2.0
"""What is trained and on what: given to a worker and to the edge from outside.

The encoder's is made by :mod:`flad_edge.federate.encoder_task`; this package knows no encoder. A
node finds its task by a parameter ``package.module:function``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch.optim import Optimizer

from flad_pipeline.aggregation.layout import ModelLayout, State
from flad_pipeline.graph.costs import UnitCosts
from flad_pipeline.graph.units import UnitGraph
from flad_pipeline.stages.trainer import Loss, MicroBatch, StepConfig
from flad_pipeline.stages.unit_store import MakeOptimizer

Batches = Callable[[int, int], Sequence[MicroBatch]]
"""(round, number) -> the micro-batches of a vehicle's ``number``-th own step in a round; the same
whenever it is asked again, so that a cursor is all that a snapshot needs of the data."""
SetRates = Callable[[Sequence[Optimizer], float], None]
"""(optimizers, share of the round's steps that is over): sets learning rates."""


@dataclass(frozen=True, kw_only=True)
class TrainingTask:
    """A model, how it is trained, and one vehicle's data."""

    graph: UnitGraph
    layout: ModelLayout
    start: State
    """Weights of a federation that begins anew."""
    step_config: StepConfig
    make_optimizer: MakeOptimizer
    loss: Loss
    batches: Batches
    num_samples: int
    """Of this vehicle; 0 on the edge."""
    set_rates: SetRates | None = None
    proximal_mu: float = 0.0
    """Of FedProx's term in the vehicles' loss; what is pulled to is the round's begin."""

    @property
    def samples_per_step(self) -> int:
        """Of one step of the optimizer."""
        return self.step_config.num_micro_batches * self.graph.batch_size


MakeTask = Callable[[str, str], TrainingTask]
"""(description, vehicle) -> its task; the vehicle is empty on the edge, which has no data. The
description is a file or a text that the function understands."""


def load_task(where: str, description: str, vehicle: str) -> TrainingTask:
    """Call ``package.module:function``.

    Raises:
        ValueError: if there is no such function.
    """
    module, _, name = where.partition(":")
    try:
        make: MakeTask = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"task is {where!r}, expected package.module:function that makes a TrainingTask: "
            f"{error}"
        ) from error
    return make(description, vehicle)


def load_costs(where: str, description: str, graph: UnitGraph) -> UnitCosts:
    """Call ``package.module:function``: what the units of a task cost.

    Raises:
        ValueError: if there is no such function.
    """
    module, _, name = where.partition(":")
    try:
        make: Callable[[str, UnitGraph], UnitCosts] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"costs is {where!r}, expected package.module:function that makes UnitCosts: {error}"
        ) from error
    return make(description, graph)
