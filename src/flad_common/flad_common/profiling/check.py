# SPDX-License-Identifier: Apache-2.0
"""Holds what was counted against what was measured on the untraced model.

FLOPs against PyTorch's own counter, saved bytes against hooks on a whole forward pass, the peak
against PyTorch's allocator and the process, times against a whole step: four oracles that share no
code with the counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from flad_common.profiling.child import StepMeasured
from flad_common.profiling.counter import counted
from flad_common.profiling.record import unchanged
from flad_common.profiling.trace import scalar_loss, storage_bytes, storage_key


@dataclass(frozen=True, kw_only=True)
class Check:
    """One figure, counted and measured."""

    name: str
    counted: float
    measured: float
    unit: str
    by: str
    """What measured it."""

    @property
    def ratio(self) -> float:
        """Measured over counted; 1 is agreement."""
        return self.measured / self.counted if self.counted else float("nan")


class Counts(Protocol):
    """The totals that are checked: :class:`flad_common.profiling.profile.Cost`."""

    @property
    def flops_forward(self) -> int: ...  # noqa: D102
    @property
    def flops_backward(self) -> int: ...  # noqa: D102
    @property
    def saved_bytes(self) -> int: ...  # noqa: D102
    @property
    def peak_bytes(self) -> int: ...  # noqa: D102
    @property
    def forward_s(self) -> float: ...  # noqa: D102
    @property
    def backward_s(self) -> float: ...  # noqa: D102


def checks(
    counts: Counts, model: nn.Module, inputs: Sequence[Any], step: StepMeasured | None
) -> list[Check]:
    """Every check there is; those of memory and time only with a measured ``step``."""
    with unchanged(model):
        saved, forward, backward = _whole_step(model, inputs)
    found = [
        _flops("forward FLOPs", counts.flops_forward, forward),
        _flops("backward FLOPs", counts.flops_backward, backward),
        _bytes("saved bytes", counts.saved_bytes, saved, "hooks on the whole forward pass"),
    ]
    if step is not None:
        peak = counts.peak_bytes
        found.append(_bytes("peak bytes", peak, step.allocator_peak_bytes, "PyTorch's allocator"))
        if step.rss_peak_bytes is not None:
            found.append(_bytes("peak bytes", peak, step.rss_peak_bytes, "growth of a process"))
        found += [
            _seconds("forward time", counts.forward_s, step.forward_s),
            _seconds("backward time", counts.backward_s, step.backward_s),
        ]
    return found


def _whole_step(model: nn.Module, inputs: Sequence[Any]) -> tuple[int, int, int]:
    """Saved bytes, forward and backward FLOPs of the model as it is, with no tracing."""
    constants = {storage_key(t) for t in (*model.parameters(), *model.buffers())}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if (key := storage_key(tensor)) and key not in constants:
            saved[key] = storage_bytes(tensor)
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        output, forward = counted(lambda: model(*inputs))
    before = sum(saved.values())
    loss = scalar_loss(output)
    _, backward = counted(lambda: loss.backward())
    model.zero_grad(set_to_none=True)
    return before, forward, backward


def _flops(name: str, ours: int, theirs: int) -> Check:
    return Check(name=name, counted=ours, measured=theirs, unit="FLOP", by="PyTorch's counter")


def _bytes(name: str, ours: int, theirs: int, by: str) -> Check:
    return Check(name=name, counted=ours, measured=theirs, unit="B", by=by)


def _seconds(name: str, ours: float, theirs: float) -> Check:
    return Check(name=name, counted=ours, measured=theirs, unit="s", by="whole steps")
