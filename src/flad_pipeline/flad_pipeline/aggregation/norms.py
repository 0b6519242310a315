# SPDX-License-Identifier: Apache-2.0
"""How far an update moves the model, and how far it may: no further than others, by and large.

A bound on the length alone leaves small lies in; for those there are the median, the trimmed mean
and Krum.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from flad_common.config import knob
from flad_pipeline.aggregation.layout import Kind, ModelLayout, State


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """How far an update may go."""

    max_norm: float = knob(
        0.0,
        unit="1",
        doc="Longest difference of trained tensors to the round's start; 0: no limit.",
    )
    norm_factor: float = knob(
        5.0,
        unit="1",
        doc="Longest difference as a multiple of the median of those let in; 0: no limit.",
    )
    norm_memory: int = knob(50, unit="updates", doc="So many of the last make the median.")
    norm_least: int = knob(5, unit="updates", doc="With fewer there is no median yet.")

    def __post_init__(self) -> None:
        if self.max_norm < 0.0:
            raise ValueError(f"max_norm must not be negative, got {self.max_norm}")
        if self.norm_factor != 0.0 and not self.norm_factor > 1.0:
            raise ValueError(f"norm_factor must be 0 or more than 1, got {self.norm_factor}")
        if not 1 <= self.norm_least <= self.norm_memory:
            raise ValueError(
                f"norm_least must be in 1..norm_memory ({self.norm_memory}), got {self.norm_least}"
            )


class NormHistory:
    """How far the updates of the last rounds went; single-threaded."""

    def __init__(self, config: GateConfig) -> None:
        self._config = config
        self._norms: dict[Kind, deque[float]] = {}

    def limit(self, kind: Kind) -> float:
        """How far the next one may go."""
        norms = self._norms.get(kind, ())
        limit = self._config.max_norm if kind == "trained" and self._config.max_norm else math.inf
        if self._config.norm_factor and len(norms) >= self._config.norm_least:
            # A median of zero says that nothing moved yet, not that nothing may.
            typical = statistics.median(norms)
            limit = min(limit, self._config.norm_factor * typical if typical > 0.0 else math.inf)
        return limit

    def add(self, kind: Kind, norm: float) -> None:
        """Take in one that was let through."""
        memory = self._config.norm_memory
        self._norms.setdefault(kind, deque(maxlen=memory)).append(norm)

    def state_dict(self) -> dict[str, list[float]]:
        """The norms, for the journal."""
        return {kind: list(norms) for kind, norms in self._norms.items()}

    def load_state_dict(self, state: Mapping[Kind, list[float]]) -> None:
        """Go on from an earlier :meth:`state_dict`."""
        self._norms = {k: deque(v, maxlen=self._config.norm_memory) for k, v in state.items()}


def update_norm(layout: ModelLayout, state: State, start: State, kind: Kind) -> float:
    """Length of the difference of all tensors of one kind, over all of them together."""
    total = 0.0
    for name in layout.names(kind):
        total += float((state[name].double() - start[name].double()).square().sum())
    return math.sqrt(total)
