# SPDX-License-Identifier: Apache-2.0
"""Where across the road the car drives: swerves, room for others, the route's lane changes.

The geometry of a swerve and its gap checks are in ``passing``, who is to be passed in ``blockers``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flad_carla.expert.blockers import Blockers
from flad_carla.expert.config import ExpertConfig
from flad_carla.expert.hazards import Corridor, InPath, frenet
from flad_carla.expert.idm import Lead
from flad_carla.expert.passing import Shift, Side, SideLane, is_clear, lane_is_free, plan_shift
from flad_carla.expert.path import RoutePath
from flad_carla.expert.rules import RuleView
from flad_carla.expert.scene import Agents, EgoState, FloatArray
from flad_carla.route_planner import RoadOption

_MAX_EVADE_M = 1.1
_EVADE_ROOM_M = 0.5  # wished for between us and them
_EVADE_SIGHT_M = 45.0
_EVADE_LEAST_MPS = 1.0
_EVADE_RATE_MPS = 2.0
_CHANGES = (RoadOption.CHANGE_LANE_LEFT, RoadOption.CHANGE_LANE_RIGHT)

SideLanes = Callable[[int], tuple[SideLane, SideLane]]  # left and right of a route index


def no_side_lanes(_: int) -> tuple[SideLane, SideLane]:
    """A road without neighbours."""
    return SideLane(Side.NONE, 0.0), SideLane(Side.NONE, 0.0)


@dataclass(frozen=True, slots=True)
class Blocked:
    """Whether the path has changed, and whom the car waits behind with room to swerve."""

    replanned: bool
    waiting_for: frozenset[int]


@dataclass(frozen=True, slots=True)
class Places:
    """Where the agents are along the path [N], and how fast along and across it."""

    s: FloatArray
    d: FloatArray
    vs: FloatArray
    vd: FloatArray

    @classmethod
    def of(cls, corridor: Corridor, agents: Agents) -> Places:
        """The places of ``agents`` along ``corridor``."""
        if len(agents) == 0:
            nothing = np.zeros(0)
            return cls(nothing, nothing, nothing, nothing)
        s, d = frenet(corridor, agents)
        yaw = np.interp(s, corridor.s, corridor.yaw)
        c, n = np.cos(yaw), np.sin(yaw)
        return cls(s, d, agents.vx * c + agents.vy * n, -agents.vx * n + agents.vy * c)


class LaneUse:
    """Keeps what was begun: a swerve, the room made for somebody, a lane change that is allowed."""

    def __init__(self, path: RoutePath, side_lanes: SideLanes, config: ExpertConfig) -> None:
        self._config = config
        self._path = path
        self._side_lanes = side_lanes
        self._blockers = Blockers(config)
        self.shift: Shift | None = None
        self._passed: frozenset[int] = frozenset()  # whom the shift goes round
        self._evade_m = 0.0
        self._change_done_s = -math.inf
        self._s = 0.0
        self._stood_s = 0.0

    def move_on(self, agents: Agents, time_s: float, ego_s: float, stood_s: float) -> None:
        """A new tick: the ego is at ``ego_s`` and has been standing for ``stood_s``."""
        self._s, self._stood_s = ego_s, stood_s
        self._blockers.watch(agents, time_s)
        if self.shift is not None and ego_s > self.shift.s3:
            self.shift = None

    def offset(self, s: FloatArray) -> FloatArray:
        """Sideways offset of the path at ``s``, right positive."""
        base = np.zeros_like(s) if self.shift is None else self.shift.offset(s)
        return base + self._evade_m

    def pass_blockers(
        self,
        in_path: Sequence[InPath],
        agents: Agents,
        place: Places,
        ego: EgoState,
        rules: RuleView,
    ) -> Blocked:
        """Start a swerve round what blocks the lane, or tell whom we wait behind."""
        c = self._config
        if self.shift is not None:
            if self._s > self.shift.s0 + 0.5:
                return Blocked(False, frozenset())  # under way: hold on
            rows = [r for r, i in enumerate(agents.ids.tolist()) if i in self._passed]
            if is_clear(self.shift, agents, place.s, place.d, place.vs, ego, self._s, rows, c):
                return Blocked(False, frozenset())
            self.shift = None
            return Blocked(True, self._passed)
        blocking = self._blockers.group(
            in_path, agents, self._s + ego.half_length, rules, self._path
        )
        group = blocking.group
        if not group:
            return Blocked(False, blocking.suspects)
        ids = frozenset(int(agents.ids[hit.row]) for hit in group) | blocking.suspects
        near, end = group[0].s, max(hit.end_s for hit in group)
        rows = [hit.row for hit in group]
        for lane in self._lane_choices():
            shift = plan_shift(self._s, ego.half_length, near, end, lane, c)
            if self._crosses_junction(shift):
                continue
            if is_clear(shift, agents, place.s, place.d, place.vs, ego, self._s, rows, c):
                self.shift = shift
                self._passed = ids
                return Blocked(True, frozenset())
        return Blocked(False, ids)

    def _lane_choices(self) -> list[SideLane]:
        left, right = self._side_lanes(self._path.index(self._s))
        same = [lane for lane in (left, right) if lane.side == Side.SAME]
        return same + [lane for lane in (left, right) if lane.side == Side.OPPOSITE]

    def _crosses_junction(self, shift: Shift) -> bool:
        if self._stood_s > self._config.patience_s:
            return False
        s = np.arange(shift.s0, shift.s2, 2.0)
        return any(self._path.is_junction(float(v)) for v in s)

    def change(self, agents: Agents, place: Places, ego: EgoState) -> list[Lead]:
        """Before the route changes lanes, wait until the other lane has a gap."""
        start = self._next_change()
        if start is None or start <= self._change_done_s:
            return []
        gap = start - self._s
        if gap > 25.0:
            return []
        side = 1.0 if self._path.option(start + 0.5) == RoadOption.CHANGE_LANE_RIGHT else -1.0
        target_d = side * float(np.interp(start, self._path.s, self._path.width))
        if gap < 6.0 and lane_is_free(
            target_d, agents, place.s, place.d, place.vs, ego, self._s, self._config
        ):
            self._change_done_s = start
            return []
        if gap < -2.0:  # already on the way across
            self._change_done_s = start
            return []
        if gap > 6.0:
            return []
        return [Lead(max(gap + 1.0, 0.0), 0.0, 0.5, 0.1, "no gap in the next lane")]

    def _next_change(self) -> float | None:
        for ds in np.arange(-3.0, 26.0, 1.0):
            if self._path.option(self._s + ds) in _CHANGES:
                before = self._path.option(self._s + ds - 1.0)
                if before not in _CHANGES:
                    return float(self._path.s[self._path.index(self._s + ds)])
        return None

    def evade(self, agents: Agents, place: Places, ego: EgoState, dt_s: float) -> None:
        """Make room to the right for who comes towards us in our lane; go back slowly."""
        wish = 0.0
        if len(agents) and self.shift is None:
            d = place.d + self._evade_m + 0.8 * place.vd
            ahead = place.s - self._s
            room = ego.half_width + agents.half_width + _EVADE_ROOM_M
            near = (place.vs < -_EVADE_LEAST_MPS) & (ahead > -ego.half_length)
            near &= (ahead < _EVADE_SIGHT_M) & (d < 0.0) & (-d < room)
            if near.any():
                wish = min(_MAX_EVADE_M, float((room + d)[near].max()))
        rate = _EVADE_RATE_MPS if wish > self._evade_m else 0.4
        change = max(-rate * dt_s, min(rate * dt_s, wish - self._evade_m))
        self._evade_m = max(0.0, self._evade_m + change)
