# SPDX-License-Identifier: Apache-2.0
"""A pedestrian crosses the road in front of the ego."""

from __future__ import annotations

import math
from typing import Any

import carla

from flad_carla.evaluation.world_view import WorldState
from flad_carla.scenarios.base import Scenario

_KERB_M = 1.6  # waiting place beyond the edge of the lane
_GONE_M = 4.0


class PedestrianCrossing(Scenario):
    """Parameters: ``distance`` (m ahead of the trigger, 24), ``speed`` (m/s, 1.2 to 1.8 drawn).

    With the ego at the trigger at 8 m/s the pedestrian is on its lane after about two seconds;
    comfortable braking suffices.
    """

    def place(self, state: WorldState, ego_s: float) -> bool:
        """A walker at the right kerb, looking across."""
        track = self.stage.track
        self._at_s = self.start_s + self.config.number("distance", 24.0)
        self._speed = self.config.number("speed", self.rng.uniform(1.2, 1.8))
        point = track.point(self._at_s)
        side = 0.5 * point.lane_width + _KERB_M
        self._walker: Any = None
        for extra in (0.0, 0.7, 1.4):
            pose = track.transform(self._at_s, side + extra, -90.0, up=1.0)
            self._walker = self.spawn("walker.pedestrian.*", pose)
            if self._walker is not None:
                break
        self._direction_deg = point.yaw - 90.0
        self._begun_s: float | None = None
        self._way_m = side + 2.5 * point.lane_width + _GONE_M
        return self._walker is not None

    def play(self, now_s: float, state: WorldState, ego_s: float) -> None:
        """Walk once the ego is at the trigger; stop and vanish on the other side."""
        if self._begun_s is None:
            if ego_s < self.start_s:
                return
            self._begun_s = now_s
        walked_m = (now_s - self._begun_s) * self._speed
        if walked_m > self._way_m:
            self.end()
            return
        yaw = math.radians(self._direction_deg)
        direction = carla.Vector3D(math.cos(yaw), math.sin(yaw), 0.0)
        self._walker.apply_control(carla.WalkerControl(direction, self._speed, False))
