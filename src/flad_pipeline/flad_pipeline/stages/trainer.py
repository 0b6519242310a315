# SPDX-License-Identifier: Apache-2.0
"""Training steps on all units in one process: vehicles that can train alone, and the reference.

:mod:`flad_pipeline.stages.pipeline` does the same over several vehicles and must give the same
weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flad_common.config import knob
from flad_pipeline.stages.unit_store import UnitStore, total_norm

Loss = Callable[[Any, Any], Tensor]
"""Of the model's result and a micro-batch's targets; a mean over its samples."""


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """How a step of the optimizer is made of micro-batches."""

    schedule: str = knob("1f1b", unit="", doc="PyTorch's schedule of a pipeline: 1f1b or gpipe.")
    num_micro_batches: int = knob(8, unit="1", doc="That one step accumulates.")
    extra_in_flight: int = knob(
        0, unit="1", doc="Micro-batches in flight beyond 1F1B's: hides slow links, takes memory."
    )
    clip_norm: float = knob(0.0, unit="1", doc="Largest gradient norm over all units; 0: any.")
    seed: int = knob(0, unit="", doc="Of dropout, with step, micro-batch and unit.")

    def __post_init__(self) -> None:
        if self.schedule not in ("1f1b", "gpipe"):
            raise ValueError(f"schedule must be 1f1b or gpipe, got {self.schedule!r}")
        if self.num_micro_batches < 1:
            raise ValueError(f"num_micro_batches must be at least 1, got {self.num_micro_batches}")
        if self.extra_in_flight < 0:
            raise ValueError(f"extra_in_flight must not be negative, got {self.extra_in_flight}")
        if self.clip_norm < 0.0:
            raise ValueError(f"clip_norm must not be negative, got {self.clip_norm}")


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Arguments of the model, and what the loss compares its result with."""

    args: tuple[Any, ...]
    targets: Any
    kwargs: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one step did."""

    loss: float | None
    """Mean over the micro-batches; ``None`` where it is not known: labels stay with their owner."""
    gradient_norm: float
    """Over all units, before clipping."""
    taken: bool
    """False: the gradient was not finite, the weights are as before."""


class LocalTrainer:
    """Steps on the whole model. Single-threaded.

    Raises:
        ValueError: if a unit is not in the store.
    """

    def __init__(self, store: UnitStore, loss: Loss, config: StepConfig) -> None:
        graph = store.graph
        self._store, self._loss, self._config = store, loss, config
        self._stage = store.stage(
            range(len(graph.units)),
            takes=input_names(store),
            gives=graph.outputs,
            seed=config.seed,
        )

    def step(self, step: int, batches: Sequence[MicroBatch]) -> StepResult:
        """Accumulate the micro-batches' gradients in their order, then step.

        Raises:
            ValueError: if there are not as many as the configuration says.
        """
        check_batches(self._store, self._config, batches)
        traced = self._store.graph.traced
        self._stage.begin_step(step)
        losses = []
        for batch in batches:
            result = self._stage(*traced.flatten(batch.args, batch.kwargs))
            loss = self._loss(traced.outputs.nest(result), batch.targets)
            loss.backward()
            losses.append(float(loss.detach()))
        average_gradients(self._stage, len(batches))
        self._store.add_proximal()
        norm = total_norm(self._store.squared_norms())
        taken = self._store.step(norm, self._config.clip_norm)
        return StepResult(loss=sum(losses) / len(losses), gradient_norm=norm, taken=taken)


def input_names(store: UnitStore) -> tuple[str, ...]:
    """Names of the model's inputs in the graph, in the order of the flat inputs."""
    nodes = store.graph.traced.module.graph.nodes
    return tuple(node.name for node in nodes if node.op == "placeholder")


def average_gradients(module: torch.nn.Module, count: int) -> None:
    """Sums to means, exactly as PyTorch's schedules do it."""
    for parameter in module.parameters():
        if parameter.grad is not None:
            parameter.grad.div_(count)


def check_batches(store: UnitStore, config: StepConfig, batches: Sequence[MicroBatch]) -> None:
    """Refuse what no stage has buffers for: a ragged batch is padded or dropped before.

    Raises:
        ValueError: if the number or the size of the micro-batches is another than planned.
    """
    if len(batches) != config.num_micro_batches:
        raise ValueError(
            f"a step takes {config.num_micro_batches} micro-batches, got {len(batches)}"
        )
    graph = store.graph
    first = input_names(store)[0]
    for i, batch in enumerate(batches):
        tensor = graph.traced.flatten(batch.args, batch.kwargs)[0]
        size = tensor.shape[0] if tensor.dim() else 1
        if size != graph.batch_size:
            raise ValueError(
                f"micro-batch {i} has {size} samples ({first}), the stages are made for "
                f"{graph.batch_size}; pad or drop what is left over at the end of the data"
            )


def micro_batch_slices(num_samples: int, size: int) -> list[slice]:
    """Whole micro-batches of ``num_samples``; what is left over is dropped.

    Example:
        >>> micro_batch_slices(7, 3)
        [slice(0, 3, None), slice(3, 6, None)]
    """
    return [slice(i, i + size) for i in range(0, num_samples - size + 1, size)]
