# SPDX-License-Identifier: Apache-2.0
"""Stop signs: the ego goes through a sign's trigger box without having come to a stop."""

from __future__ import annotations

import math
from collections.abc import Sequence

from flad_carla.evaluation.criteria.base import Criterion, LaneMap, Situation, event, where
from flad_carla.evaluation.road import LanePoint
from flad_carla.evaluation.statistics import Event
from flad_carla.run_log import BoxView, StopSignView

_STOPPED_MPS = 0.1
_NEAR_LB1_M = 50.0
_AHEAD_LB1 = (1.0, 20)  # step in metres, points
_NEAR_LB2_M = 4.0
_AHEAD_LB2 = (0.5, 8)
_GROW_LB2 = 1.2
_WRONG_WAY_DOT = -0.17


class StopSign(Criterion):
    """Follows one sign at a time, from when it first concerns the ego until it does not."""

    def __init__(self, lanes: LaneMap, version: int) -> None:
        self._lanes = lanes
        self._version = version
        self._target: StopSignView | None = None
        self._stopped = False
        self._was_inside = False
        self._last_id = -1

    def step(self, now: Situation) -> list[Event]:
        """Look at one tick."""
        if self._target is None:
            self._target = self._find(now)
            self._stopped = self._was_inside = False
            if self._target is None:
                return []
        sign = self._target
        if now.ego.speed_mps < _STOPPED_MPS:
            self._stopped = True
        here = (now.ego.pose.x, now.ego.pose.y)
        if self._version == 2 or _inside(self._at_sign(sign), *here):
            self._was_inside = True
        if self._concerns(sign, now):
            return []
        self._target = None
        booked = self._was_inside and not self._stopped
        if self._version == 2:
            self._last_id = sign.actor_id
        if not booked:
            return []
        message = f"Agent ran a stop sign {sign.actor_id} {where(now)}"
        return [event(now, "stop_infraction", message, actor_id=sign.actor_id)]

    def _at_sign(self, sign: StopSignView) -> BoxView:
        """Leaderboard 1.0 books only if the ego was in the box drawn about the sign's trigger."""
        assert sign.trigger is not None
        return sign.trigger

    def _find(self, now: Situation) -> StopSignView | None:
        if self._version == 2 and not self._drives_along(now):
            return None
        for sign in now.stop_signs:
            if sign.trigger is None or sign.actor_id == self._last_id:
                continue
            if self._concerns(sign, now):
                return sign
        return None

    def _concerns(self, sign: StopSignView, now: Situation) -> bool:
        assert sign.trigger is not None
        x, y = now.ego.pose.x, now.ego.pose.y
        near = _NEAR_LB1_M if self._version == 1 else _NEAR_LB2_M + max(sign.trigger.extent[:2])
        if math.hypot(sign.trigger.center[0] - x, sign.trigger.center[1] - y) > near:
            return False
        if _inside(self._box(sign.trigger), x, y):
            return True
        return any(_inside(self._box(sign.trigger), p.x, p.y) for p in self._points(now))

    def _points(self, now: Situation) -> Sequence[LanePoint]:
        step_m, count = _AHEAD_LB1 if self._version == 1 else _AHEAD_LB2
        at = now.ego.pose
        return self._lanes.ahead(at.x, at.y, at.z, step_m, count)

    def _box(self, box: BoxView) -> BoxView:
        if self._version == 1:
            return box
        ex, ey, ez = box.extent
        return BoxView(center=box.center, extent=(_GROW_LB2 * ex, _GROW_LB2 * ey, ez), yaw=box.yaw)

    def _drives_along(self, now: Situation) -> bool:
        at = now.ego.pose
        lane = self._lanes.lane_at(at.x, at.y, at.z)
        return lane is not None and math.cos(math.radians(at.yaw - lane.yaw)) > _WRONG_WAY_DOT


def _inside(box: BoxView, x: float, y: float) -> bool:
    c, s = math.cos(math.radians(box.yaw)), math.sin(math.radians(box.yaw))
    dx, dy = x - box.center[0], y - box.center[1]
    return abs(c * dx + s * dy) <= box.extent[0] and abs(-s * dx + c * dy) <= box.extent[1]
