# SPDX-License-Identifier: Apache-2.0
"""What a vehicle is at, told in two bytes of a file, so that a benchmark can kill it just then.

The file outlives the process: afterwards it says in which phase the vehicle died. Methods of the
engine are wrapped in the vehicle's process; nothing of training knows of it.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from torch.distributed.pipelining import PipelineStage

from flad_pipeline.round import worker
from flad_pipeline.round.uploader import Uploader
from flad_pipeline.stages.unit_store import UnitStore

Phase = Literal["between", "forward", "backward", "optimizer", "rotation", "backup"]
PHASES: tuple[Phase, ...] = ("forward", "backward", "optimizer", "rotation", "backup")
"""That a vehicle can be caught in; between them it waits for the others."""
_TRAINING: tuple[Phase, ...] = ("between", "forward", "backward", "optimizer", "rotation")
_AT_TRAINING, _AT_COPIES, _SIZE = 0, 1, 2


def phase_file(task_file: Path, vehicle: str) -> Path:
    """Where a vehicle tells its phase."""
    return task_file.parent / vehicle / "phase"


def tell_phases(path: Path) -> None:
    """From now on this process tells its phases in a file."""
    memory = _open(path)

    def told(place: int, value: int, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            before, memory[place] = memory[place], value
            try:
                return function(*args, **kwargs)
            finally:
                memory[place] = before

        return wrapped

    for owner, name, phase in (
        (PipelineStage, "forward_one_chunk", "forward"),
        (PipelineStage, "backward_one_chunk", "backward"),
        (UnitStore, "step", "optimizer"),
        (worker, "hand_over", "rotation"),
    ):
        number = _TRAINING.index(phase)
        setattr(owner, name, told(_AT_TRAINING, number, getattr(owner, name)))
    setattr(Uploader, "_send", told(_AT_COPIES, 1, Uploader._send))  # noqa: B010


class PhaseReader:
    """The other end of :func:`tell_phases`; the vehicle may begin later."""

    def __init__(self, path: Path) -> None:
        self._memory = _open(path)

    def is_in(self, phase: Phase) -> bool:
        """Whether the vehicle is at it now."""
        if phase == "backup":
            return self._memory[_AT_COPIES] == 1
        return _TRAINING[self._memory[_AT_TRAINING]] == phase

    def last(self, aimed_at: Phase) -> Phase:
        """What the vehicle was at when it last said a word; ``aimed_at``, if that is true, too."""
        return aimed_at if self.is_in(aimed_at) else _TRAINING[self._memory[_AT_TRAINING]]

    def begin(self) -> None:
        """The vehicle is dead: its successor begins anew."""
        self._memory[:] = bytes(_SIZE)

    def close(self) -> None:
        """Let go of the file, which stays."""
        self._memory.close()


def _open(path: Path) -> mmap.mmap:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if os.fstat(file).st_size < _SIZE:
            os.ftruncate(file, _SIZE)
        return mmap.mmap(file, _SIZE)
    finally:
        os.close(file)
