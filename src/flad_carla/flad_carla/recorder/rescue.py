# SPDX-License-Identifier: Apache-2.0
"""The expert takes the wheel where another driver cannot go on: so a run is not cut short.

Data sets of what a poor driver meets (DAgger) need the places where it errs, and little of what
comes after: a car in a wall for three minutes teaches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from flad_carla.recorder.label import ExpertLabel
from flad_carla.run_log import ControlView, RunInfo, TickEntry
from flad_common.config import knob

_STANDS_MPS = 0.5


@dataclass(frozen=True, kw_only=True)
class RescueConfig:
    """When the expert takes over, and when it gives back."""

    max_side_m: float = knob(1.8, unit="m", doc="Distance from the expert's path: it takes over.")
    back_side_m: float = knob(0.5, unit="m", doc="Nearer to it than this, it may give back.")
    stands_s: float = knob(
        6.0, unit="s", doc="Time of standing while the expert would drive: it takes over."
    )
    least_s: float = knob(2.0, unit="s", doc="It drives at least so long.")

    def __post_init__(self) -> None:
        if not 0.0 < self.back_side_m < self.max_side_m:
            raise ValueError(
                f"0 < back_side_m < max_side_m must hold, got {self.back_side_m}, {self.max_side_m}"
            )
        if not (self.stands_s > 0.0 and self.least_s > 0.0):
            raise ValueError(f"times must be positive, got {self.stands_s} and {self.least_s} s")


class Rescue:
    """One recording's; give it every tick.

    ``num_times`` counts how often the expert took over in this run.
    """

    def __init__(self, config: RescueConfig | None = None) -> None:
        self._config = config or RescueConfig()
        self._begin()

    def start(self, info: RunInfo) -> None:
        """A route run begins: forget the last one."""
        self._begin()

    def _begin(self) -> None:
        self._label = ExpertLabel(expert_drives=False)
        self._since_s: float | None = None  # the expert drives
        self._stands_since_s: float | None = None
        self.num_times = 0

    def apply(self, entry: TickEntry, side_m: float) -> ControlView:
        """What the car is given in a tick.

        Args:
            entry: with the driver's control and what the expert wants.
            side_m: of the car from the expert's path.
        """
        wanted = self._label.step(entry)
        now_s, c = entry.sim_time_s, self._config
        if self._since_s is None:
            if not self._is_lost(entry, side_m):
                return entry.control
            self._since_s = now_s
            self.num_times += 1
        elif now_s - self._since_s >= c.least_s and abs(side_m) < c.back_side_m:
            self._since_s = self._stands_since_s = None
            return entry.control
        return wanted

    def _is_lost(self, entry: TickEntry, side_m: float) -> bool:
        would_drive = entry.expert is not None and entry.expert.target_speed_mps > 1.0
        if entry.ego.speed_mps > _STANDS_MPS or not would_drive:
            self._stands_since_s = None
        elif self._stands_since_s is None:
            self._stands_since_s = entry.sim_time_s
        stood_s = entry.sim_time_s - (
            entry.sim_time_s if self._stands_since_s is None else self._stands_since_s
        )
        return abs(side_m) > self._config.max_side_m or stood_s >= self._config.stands_s
