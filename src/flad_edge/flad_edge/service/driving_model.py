# SPDX-License-Identifier: Apache-2.0
"""What the service needs of a driving model; :mod:`flad_edge.adllm` has the real one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from flad_edge.service.releases import Release


class StepResult(Protocol):
    """What a model says of one frame of each of ``B`` vehicles."""

    @property
    def waypoints_m(self) -> Tensor:
        """``[B, 5, 2]``: x forward, y left, every 0.5 s."""

    @property
    def completed(self) -> Tensor:
        """``[B]``: probabilities that the instruction has been carried out."""


class DrivingModel(Protocol):
    """A model that drives several vehicles at once, each with a history of its own.

    A history is the model's own affair: :meth:`step` appends to it and bounds its length.
    """

    def start(self, instructions: list[str]) -> Sequence[Any]:
        """A new history per instruction."""

    def step(self, histories: list[Any], tokens: Tensor, notices: list[str | None]) -> StepResult:
        """Append one frame ``[B, K, D]`` to each of ``B`` histories, and say where to drive."""

    def read_ahead(self, histories: list[Any], max_frames: int) -> int:
        """Use an idle moment so that later steps are shorter; what they say stays the same.

        Returns:
            Frames that were read, at most ``max_frames``; 0 if there is nothing to do.
        """


def _reads_all(instruction: str, notice: str | None) -> str | None:
    return None


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A model, and the release that it is of."""

    release: Release
    model: DrivingModel
    complaint: Callable[[str, str | None], str | None] = _reads_all
    """Why the model cannot read an instruction, or a notice that comes with it; None if it can."""
