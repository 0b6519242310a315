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
_DRIVES_MPS = 2.0
_BRAKES = 0.1


@dataclass(frozen=True, kw_only=True)
class RescueConfig:
    """When the expert takes over, and when it gives back."""

    max_side_m: float = knob(1.2, unit="m", doc="Distance from the expert's path: it takes over.")
    back_side_m: float = knob(0.4, unit="m", doc="Nearer to it than this, it may give back.")
    stands_s: float = knob(
        6.0, unit="s", doc="Time of standing while the expert would drive: it takes over."
    )
    ignores_s: float = knob(
        1.0, unit="s", doc="Time of driving on where the expert brakes to a stop: it takes over."
    )
    least_s: float = knob(2.0, unit="s", doc="It drives at least so long.")
    hopeless_s: float = knob(
        10.0, unit="s", doc="Time for which the expert cannot move the car either: the run ends."
    )

    def __post_init__(self) -> None:
        if not 0.0 < self.back_side_m < self.max_side_m:
            raise ValueError(
                f"0 < back_side_m < max_side_m must hold, got {self.back_side_m}, {self.max_side_m}"
            )
        for name in ("stands_s", "ignores_s", "least_s", "hopeless_s"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


class Rescue:
    """One recording's; give it every tick.

    ``num_times`` counts how often the expert took over in this run; ``is_hopeless`` says that it
    cannot drive the car either, as after a collision.
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
        self._stands = _Lasting()
        self._ignores = _Lasting()
        self.is_hopeless = False
        self.num_times = 0

    def apply(self, entry: TickEntry, side_m: float) -> ControlView:
        """What the car is given in a tick.

        Args:
            entry: with the driver's control and what the expert wants.
            side_m: of the car from the expert's path.
        """
        wanted = self._label.step(entry)
        now_s, c = entry.sim_time_s, self._config
        lost = self._is_lost(entry, side_m)
        if self._since_s is None:
            if not lost:
                return entry.control
            self._since_s = now_s
            self.num_times += 1
        elif now_s - self._since_s >= c.least_s and abs(side_m) < c.back_side_m and not lost:
            self._since_s = None
            return entry.control
        helped_s = now_s - self._since_s
        self.is_hopeless = min(helped_s, self._stands.lasts_s(now_s)) >= c.hopeless_s
        return wanted

    def _is_lost(self, entry: TickEntry, side_m: float) -> bool:
        now_s, expert, speed_mps = entry.sim_time_s, entry.expert, entry.ego.speed_mps
        drives_on = entry.control.brake < _BRAKES and speed_mps > _DRIVES_MPS
        self._stands.note(
            expert is not None and expert.target_speed_mps > 1.0 and speed_mps < _STANDS_MPS, now_s
        )
        self._ignores.note(expert is not None and expert.should_brake and drives_on, now_s)
        return (
            abs(side_m) > self._config.max_side_m
            or self._stands.lasts_s(now_s) >= self._config.stands_s
            or self._ignores.lasts_s(now_s) >= self._config.ignores_s
        )


class _Lasting:
    """For how long something has been so."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    def note(self, is_so: bool, now_s: float) -> None:
        """It is so now, or not."""
        if not is_so:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = now_s

    def lasts_s(self, now_s: float) -> float:
        """0 while it is not so."""
        return 0.0 if self._since_s is None else now_s - self._since_s
