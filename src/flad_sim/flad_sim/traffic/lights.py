# SPDX-License-Identifier: Apache-2.0
"""Traffic light programs: each approach of a junction has its own green (split phasing).

One head then tells the truth for every lane and turn of its approach, which neither SUMO's
programs nor their separate turn phases do. The cycle of a junction with approaches A and B is
A green, A yellow, all red, B green, B yellow, all red. Knows no SUMO; `sumo_lights` tells SUMO.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from flad_sim.types import LightState, LightStatus, Signal, Transform

LIGHT_KIND = "1000001"
_SAME_APPROACH_M = 1.0
_STAGES = (LightState.GREEN, LightState.YELLOW, LightState.RED)


@dataclass(frozen=True, kw_only=True, slots=True)
class LightTimes:
    """How long an approach is green, yellow, and then everything red; CARLA's defaults."""

    green_s: float = 10.0
    yellow_s: float = 3.0
    red_s: float = 2.0

    def __post_init__(self) -> None:
        if not (self.green_s > 0.0 and self.yellow_s >= 0.0 and self.red_s >= 0.0):
            raise ValueError(f"light times must be positive, got {self}")


class _Approach:
    """Heads that always show the same, and their times."""

    def __init__(self, signal_ids: list[str], times: LightTimes) -> None:
        self.signal_ids = signal_ids
        self.times = times

    def stage_s(self, stage: int) -> float:
        return (self.times.green_s, self.times.yellow_s, self.times.red_s)[stage]


class _Junction:
    """Approaches that take turns."""

    def __init__(self, approaches: list[_Approach]) -> None:
        self.approaches = approaches
        self.turn = 0
        self.stage = 0
        self.in_stage_s = 0.0

    def cycle_s(self) -> float:
        return sum(a.stage_s(k) for a in self.approaches for k in range(len(_STAGES)))

    def advance(self, dt_s: float) -> None:
        self.in_stage_s += dt_s
        while self.in_stage_s >= self.approaches[self.turn].stage_s(self.stage) - 1e-9:
            self.in_stage_s -= self.approaches[self.turn].stage_s(self.stage)
            self.stage += 1
            if self.stage == len(_STAGES):
                self.stage = 0
                self.turn = (self.turn + 1) % len(self.approaches)

    def until_green_s(self, approach: int) -> float:
        """Seconds until this approach is green; 0 while it is green or yellow."""
        if self.state(approach) != LightState.RED:
            return 0.0
        wait = -self.in_stage_s
        turn, stage = self.turn, self.stage
        for _ in range(len(_STAGES) * (len(self.approaches) + 1)):
            if turn == approach and stage == 0 and wait > 0.0:
                break
            wait += self.approaches[turn].stage_s(stage)
            stage += 1
            if stage == len(_STAGES):
                stage, turn = 0, (turn + 1) % len(self.approaches)
        return max(0.0, wait)

    def state(self, approach: int) -> LightState:
        return _STAGES[self.stage] if approach == self.turn else LightState.RED


class TrafficLights:
    """All lights of a town. Single-threaded."""

    def __init__(
        self, signals: Sequence[Signal], seed: int, times: LightTimes | None = None
    ) -> None:
        self._seed = seed
        self._times = times or LightTimes()
        heads = [s for s in signals if s.kind == LIGHT_KIND]
        self._order = [s.signal_id for s in heads]
        self._groups: dict[str, list[str]] = {}
        self._members = _approaches_by_junction(heads)
        self._frozen = False
        self._junctions: list[_Junction] = []
        self._state: dict[str, LightState] = {}
        self._since_s: dict[str, float] = {}
        self._time_s = 0.0  # of the programs: it stands while they are frozen
        self.changes = 0  # grows with every change of what a head shows
        self._place: dict[str, tuple[_Junction, int]] = {}
        for approaches in self._members:
            group = [i for ids in approaches for i in ids]
            self._groups.update(dict.fromkeys(group, group))
        self.reset()

    def reset(self) -> None:
        """Start all programs again, unfrozen, with default times and no manual states."""
        self._frozen = False
        self._junctions = [
            _Junction([_Approach(ids, self._times) for ids in approaches])
            for approaches in self._members
        ]
        for number, junction in enumerate(self._junctions):
            rng = random.Random(f"lights {self._seed} {number}")
            junction.advance(rng.uniform(0.0, junction.cycle_s()))
            for i, approach in enumerate(junction.approaches):
                for signal_id in approach.signal_ids:
                    self._place[signal_id] = (junction, i)
                    self._show(signal_id, junction.state(i))
                    self._since_s[signal_id] = self._time_s - junction.in_stage_s

    def step(self, dt_s: float) -> None:
        """Advance every program that is not frozen."""
        if self._frozen:
            return
        self._time_s += dt_s
        for junction in self._junctions:
            before = (junction.turn, junction.stage)
            old = [junction.state(i) for i in range(len(junction.approaches))]
            junction.advance(dt_s)
            if (junction.turn, junction.stage) == before:
                continue
            for i, approach in enumerate(junction.approaches):
                now = junction.state(i)
                if now == old[i]:
                    continue
                for signal_id in approach.signal_ids:
                    self._show(signal_id, now)

    def _show(self, signal_id: str, state: LightState) -> None:
        if self._state.get(signal_id) != state:
            self._state[signal_id] = state
            self._since_s[signal_id] = self._time_s
            self.changes += 1

    def state(self, signal_id: str) -> LightState:
        """What a head shows now."""
        return self._state[self._known(signal_id)]

    def red_left_s(self, signal_id: str) -> float:
        """How long a head stays red; 0 if it is not red, infinite if it is red and frozen."""
        if self.state(signal_id) != LightState.RED:
            return 0.0
        junction, i = self._place[signal_id]
        return math.inf if self._frozen else junction.until_green_s(i)

    def statuses(self) -> list[LightStatus]:
        """All lights, in the map's order; a head that rules no lane is off."""
        result = []
        for signal_id in self._order:
            if signal_id not in self._place:
                result.append(LightStatus(signal_id, LightState.OFF))
                continue
            junction, i = self._place[signal_id]
            times = junction.approaches[i].times
            result.append(
                LightStatus(
                    signal_id,
                    self._state[signal_id],
                    self._time_s - self._since_s[signal_id],
                    times.green_s,
                    times.yellow_s,
                    times.red_s,
                    self._frozen,
                )
            )
        return result

    def set_state(self, signal_id: str, state: LightState) -> None:
        """Show ``state`` until the program next changes this approach (for ever when frozen)."""
        self._show(self._known(signal_id), LightState(state))
        self._since_s[signal_id] = self._time_s

    def set_times(
        self,
        signal_id: str,
        green_s: float | None = None,
        yellow_s: float | None = None,
        red_s: float | None = None,
    ) -> None:
        """Change the times of this head's approach; what is left out stays."""
        junction, i = self._place[self._known(signal_id)]
        old = junction.approaches[i].times
        junction.approaches[i].times = LightTimes(
            green_s=old.green_s if green_s is None else green_s,
            yellow_s=old.yellow_s if yellow_s is None else yellow_s,
            red_s=old.red_s if red_s is None else red_s,
        )
        if junction.turn == i:  # a stage cut short ends now; the stages after it keep their time
            limit_s = junction.approaches[i].stage_s(junction.stage)
            junction.in_stage_s = min(junction.in_stage_s, limit_s)

    def freeze(self, frozen: bool) -> None:
        """Stop or restart the clock of all lights."""
        self._frozen = frozen

    def group(self, signal_id: str) -> list[str]:
        """All lights of the junction, this one included."""
        return list(self._groups[self._known(signal_id)])

    def _known(self, signal_id: str) -> str:
        if signal_id not in self._place:
            raise ValueError(
                f"no traffic light {signal_id!r} that rules a lane; there are {len(self._place)}: "
                f"{sorted(self._place)[:8]}..."
            )
        return signal_id


def _approaches_by_junction(heads: list[Signal]) -> list[list[list[str]]]:
    """Signal ids by junction, by approach; an approach's heads share a lane to stop at."""
    junctions: dict[str, list[Signal]] = defaultdict(list)
    for head in heads:
        if head.stop_points:
            key = f"junction {head.group}" if head.group >= 0 else f"alone {head.signal_id}"
            junctions[key].append(head)
    result = []
    for members in junctions.values():
        approaches: list[list[Signal]] = []
        for head in members:
            shared = [a for a in approaches if any(_share_lane(head, other) for other in a)]
            approaches = [a for a in approaches if a not in shared]
            approaches.append([h for a in shared for h in a] + [head])
        result.append([[h.signal_id for h in a] for a in approaches])
    return result


def _share_lane(a: Signal, b: Signal) -> bool:
    return any(_near(p, q) for p in a.stop_points for q in b.stop_points)


def _near(p: Transform, q: Transform) -> bool:
    return abs(p.x - q.x) < _SAME_APPROACH_M and abs(p.y - q.y) < _SAME_APPROACH_M
