# SPDX-License-Identifier: Apache-2.0
"""Which traffic light each vehicle stands at: the trigger box holds it and it faces the stop."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flad_sim.actors import TrafficLight, Vehicle
from flad_sim.types import LightState

_CELL_M = 8.0
_MAX_ANGLE_DEG = 60.0  # between the vehicle and the lane that the light is for


class LightTriggers:
    """The trigger boxes of all lights, on a grid: most vehicles look at an empty cell."""

    def __init__(self, lights: Sequence[TrafficLight]) -> None:
        self._cells: dict[tuple[int, int], list[_Trigger]] = defaultdict(list)
        for light in lights:
            trigger = _Trigger.of(light)
            for cell in trigger.cells():
                self._cells[cell].append(trigger)

    def update(self, vehicles: Iterable[Vehicle]) -> None:
        """Set ``light_id`` and ``light_state`` of every vehicle."""
        for vehicle in vehicles:
            light = self._light_at(vehicle)
            if light is not None:
                vehicle.light_id, vehicle.light_state = light.actor_id, light.status.state
            elif vehicle.light_id:
                vehicle.light_id, vehicle.light_state = 0, LightState.GREEN

    def _light_at(self, vehicle: Vehicle) -> TrafficLight | None:
        t = vehicle.pose.transform
        yaw = math.radians(t.yaw)
        nose = vehicle.box.center[0] + vehicle.box.extent[0]
        nose_x, nose_y = t.x + nose * math.cos(yaw), t.y + nose * math.sin(yaw)
        for x, y in ((nose_x, nose_y), (t.x, t.y)):
            cell = (int(x // _CELL_M), int(y // _CELL_M))
            if cell in self._cells:
                for trigger in self._cells[cell]:
                    if trigger.holds(x, y) and trigger.is_faced_by(t.yaw):
                        return trigger.light
        return None


@dataclass(frozen=True, slots=True)
class _Trigger:
    light: TrafficLight
    x: float
    y: float
    cos: float
    sin: float
    half_x: float
    half_y: float
    heading_deg: float

    @staticmethod
    def of(light: TrafficLight) -> _Trigger:
        box, stops = light.signal.trigger, light.signal.stop_points
        yaw = math.radians(box.yaw)
        # Where a map names no lane, the lamp looks at the traffic.
        heading = stops[0].yaw if stops else light.signal.transform.yaw + 180.0
        x, y, _ = box.center
        half_x, half_y, _ = box.extent
        return _Trigger(light, x, y, math.cos(yaw), math.sin(yaw), half_x, half_y, heading)

    def cells(self) -> Iterable[tuple[int, int]]:
        reach_x = abs(self.half_x * self.cos) + abs(self.half_y * self.sin)
        reach_y = abs(self.half_x * self.sin) + abs(self.half_y * self.cos)
        for i in range(_cell(self.x - reach_x), _cell(self.x + reach_x) + 1):
            for j in range(_cell(self.y - reach_y), _cell(self.y + reach_y) + 1):
                yield (i, j)

    def holds(self, x: float, y: float) -> bool:
        dx, dy = x - self.x, y - self.y
        along = dx * self.cos + dy * self.sin
        across = dy * self.cos - dx * self.sin
        return abs(along) <= self.half_x and abs(across) <= self.half_y

    def is_faced_by(self, yaw_deg: float) -> bool:
        return abs(math.remainder(yaw_deg - self.heading_deg, 360.0)) < _MAX_ANGLE_DEG


def _cell(value: float) -> int:
    return int(value // _CELL_M)
