# SPDX-License-Identifier: Apache-2.0
"""Red lights: the tail of the ego crosses the stop line of a light that is red."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from flad_carla.evaluation.criteria.base import Criterion, LaneMap, Situation, event, where
from flad_carla.evaluation.road import LanePoint
from flad_carla.evaluation.statistics import Event
from flad_carla.run_log import LightView, Point

_NEAR_M = 15.0
_RED = 0


class RedLight(Criterion):
    """Only red counts, not yellow; one light is not booked twice in a row."""

    def __init__(
        self,
        lanes: LaneMap,
        stop_lines: Mapping[int, Sequence[LanePoint]],
        stop_line_scale: float,
    ) -> None:
        self._lanes = lanes
        self._stop_lines = stop_lines  # by light actor id
        self._scale = stop_line_scale
        self._last_id = -1

    def step(self, now: Situation) -> list[Event]:
        """Look at one tick."""
        pose, half_length = now.ego.pose, now.ego.extent[0]
        close = pose.to_world(-0.8 * half_length, 0.0)
        far = pose.to_world(-(half_length + 1.0), 0.0)
        tail: LanePoint | None = None
        for light in now.lights:
            if light.state != _RED or light.actor_id == self._last_id:
                continue
            if not _is_near(light, now):
                continue
            tail = tail or self._lanes.lane_at(far[0], far[1], pose.z)
            for line in self._stop_lines.get(light.actor_id, ()):
                if tail is not None and self._crosses(pose.yaw, tail, line, close, far):
                    self._last_id = light.actor_id
                    message = f"Agent ran a red light {light.actor_id} {where(now)}"
                    return [event(now, "red_light", message, actor_id=light.actor_id)]
        return []

    def _crosses(
        self, yaw: float, tail: LanePoint, line: LanePoint, close: Point, far: Point
    ) -> bool:
        if not tail.same_lane(line) or math.cos(math.radians(yaw - line.yaw)) <= 0.0:
            return False
        half = self._scale * line.width
        across = math.radians(line.yaw + 90.0)
        dx, dy = half * math.cos(across), half * math.sin(across)
        return _segments_cross(close, far, (line.x + dx, line.y + dy), (line.x - dx, line.y - dy))


def _is_near(light: LightView, now: Situation) -> bool:
    if light.trigger is None:
        return False
    x, y, _ = light.trigger.center
    return math.hypot(x - now.ego.pose.x, y - now.ego.pose.y) <= _NEAR_M


def _segments_cross(a: Point, b: Point, c: Point, d: Point) -> bool:
    def side(p: Point, q: Point, r: Point) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) * side(a, b, d) <= 0.0 and side(c, d, a) * side(c, d, b) <= 0.0
