# SPDX-License-Identifier: Apache-2.0
"""A span of units as the module that a pipeline stage runs.

What later stages need and this one does not make passes through it, so that a skip over any
number of stages needs no connection of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from flad_pipeline.graph.units import Unit, UnitGraph
from flad_pipeline.graph.values import TensorFacts
from flad_pipeline.stages.seeds import seeded, unit_seed


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """What enters or leaves a stage, in this order."""

    names: tuple[str, ...]
    facts: tuple[TensorFacts, ...]

    def empty(self) -> tuple[Tensor, ...]:
        """Tensors without values: what PyTorch's ``PipelineStage`` asks for."""
        return tuple(fact.empty() for fact in self.facts)


def crossing(graph: UnitGraph, after: int) -> Crossing:
    """What crosses after unit ``after``.

    The facts are those of the example that the graph was made from: of one micro-batch.
    """
    names = graph.live(after)
    return Crossing(names=names, facts=tuple(graph.tensors[name] for name in names))


class StageModule(nn.Module):
    """Units in their order. Single-threaded.

    Micro-batches are numbered by their order of arrival in a step: :meth:`begin_step` begins anew.

    Args:
        graph: what the units are of.
        units: the modules by their index, consecutive.
        takes: names of the tensors that :meth:`forward` is given.
        gives: names of the tensors that it returns.
        seed: of all random numbers of the training.
    """

    def __init__(
        self,
        graph: UnitGraph,
        units: Mapping[int, fx.GraphModule],
        *,
        takes: Sequence[str],
        gives: Sequence[str],
        seed: int = 0,
    ) -> None:
        super().__init__()
        indices = sorted(units)
        self.units = nn.ModuleDict({str(i): units[i] for i in indices})
        self.takes, self.gives = tuple(takes), tuple(gives)
        self._plan = tuple(graph.units[i] for i in indices)
        self._channels_last = tuple(
            name in graph.tensors and graph.tensors[name].channels_last for name in takes
        )
        self._last_use = _last_uses(self._plan, self.gives)
        self._mode_matters, self._mode = graph.traced.mode_matters, graph.traced.training
        self._seed, self._step, self._micro_batch = seed, 0, 0
        self.training = graph.traced.training  # parts that are frozen stay so

    def begin_step(self, step: int) -> None:
        """The next micro-batch is the first of ``step``."""
        self._step, self._micro_batch = step, 0

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The tensors named ``takes`` to those named ``gives``, contiguous.

        Raises:
            ValueError: if the number of tensors is not that of ``takes``, or the model was traced
                in the other mode and Python asks for it.
        """
        if len(tensors) != len(self.takes):
            raise ValueError(f"the stage takes {list(self.takes)}, got {len(tensors)} tensors")
        if self._mode_matters and self.training != self._mode:
            raise ValueError(
                "the model asks self.training in Python and was traced in the other mode; "
                "make a unit graph of the model in this mode"
            )
        held = {
            name: t.contiguous(memory_format=torch.channels_last) if last else t
            for name, t, last in zip(self.takes, tensors, self._channels_last, strict=True)
        }
        micro_batch, self._micro_batch = self._micro_batch, self._micro_batch + 1
        for unit in self._plan:
            given = [held[name] for name in (*unit.inputs, *unit.takes)]
            held.update(zip(unit.makes, self._run(unit, given, micro_batch), strict=True))
            for name in self._last_use[unit.index]:
                held.pop(name, None)
        return tuple(held[name].contiguous() for name in self.gives)

    def _run(self, unit: Unit, given: list[Tensor], micro_batch: int) -> list[Tensor]:
        module = self.units[str(unit.index)]
        if not (unit.draws_random and self.training):
            made: list[Tensor] = module(*given)
            return made
        seed = unit_seed(self._seed, self._step, micro_batch, unit.index)
        with seeded(seed, given[0].device):
            made = module(*given)
        return made


def _last_uses(plan: Sequence[Unit], gives: Sequence[str]) -> dict[int, list[str]]:
    """Which values nobody needs after each unit."""
    last: dict[str, int] = {}
    for unit in plan:
        for name in (*unit.inputs, *unit.takes):
            last[name] = unit.index
    uses: dict[int, list[str]] = {unit.index: [] for unit in plan}
    for name, index in last.items():
        if name not in gives:
            uses[index].append(name)
    return uses
