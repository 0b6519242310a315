# SPDX-License-Identifier: Apache-2.0
"""The edge's copies of common cuts: files, so that an edge that was killed has them again."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from flad_pipeline.aggregation.layout import State
from flad_pipeline.graph.units import UnitGraph
from flad_pipeline.stages.unit_module import unit_module
from flad_pipeline.stages.unit_state import BUFFER, WEIGHT, UnitState


class CutCopies:
    """Units by client, step and index. Single-threaded.

    Args:
        folder: is made; what lies there is taken over.
        num_units: that make a cut whole.
    """

    def __init__(self, folder: Path, num_units: int) -> None:
        self._folder, self._num_units = folder, num_units
        self._there: dict[str, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
        for path in folder.glob("*/*/*.safetensors"):
            client, step = path.parent.parent.name, int(path.parent.name)
            self._there[client][step].add(int(path.stem))

    def put(self, client: str, step: int, unit: int, data: bytes) -> None:
        """Keep a unit; a reader never sees half of it."""
        path = self._path(client, step, unit)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".new")
        beside.write_bytes(data)
        beside.replace(path)
        self._there[client][step].add(unit)

    def get(self, client: str, step: int, unit: int) -> bytes:
        """A unit as it was put.

        Raises:
            KeyError: if it is not there.
        """
        if unit not in self._there[client][step]:
            raise KeyError(unit)
        return self._path(client, step, unit).read_bytes()

    def units(self, client: str) -> Mapping[int, frozenset[int]]:
        """What is there of a client, by step."""
        return {step: frozenset(units) for step, units in self._there[client].items() if units}

    def whole_step(self, client: str) -> int:
        """The newest cut that is whole; 0, the round's model, if none is."""
        whole = (s for s, units in self._there[client].items() if len(units) == self._num_units)
        return max(whole, default=0)

    def forget(self, client: str, *, before: int = 0, after: int | None = None) -> None:
        """Cuts that nobody goes back behind, and such as never happened."""
        for step in list(self._there[client]):
            if step < before or (after is not None and step > after):
                shutil.rmtree(self._folder / client / str(step), ignore_errors=True)
                del self._there[client][step]

    def clear(self) -> None:
        """A new round begins."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._there.clear()

    def _path(self, client: str, step: int, unit: int) -> Path:
        return self._folder / client / str(step) / f"{unit}.safetensors"


def first_cut(graph: UnitGraph, state: State) -> dict[int, UnitState]:
    """The cut before a round's first step: the round's model, and optimizers that begin anew.

    Args:
        graph: of the model.
        state: its weights and buffers; a buffer that no state has is as it was made.
    """
    return {unit.index: first_unit(graph, state, unit.index) for unit in graph.units}


def first_unit(graph: UnitGraph, state: State, index: int) -> UnitState:
    """One unit of it."""
    module = unit_module(graph, graph.units[index])
    tensors: dict[str, Tensor] = {
        f"{WEIGHT}/{name}": state.get(name, p) for name, p in module.named_parameters()
    } | {f"{BUFFER}/{name}": state.get(name, b) for name, b in module.named_buffers()}
    return UnitState(unit=index, digest=graph.digest, step=0, tensors=tensors)
