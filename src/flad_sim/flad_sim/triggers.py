# SPDX-License-Identifier: Apache-2.0
"""Which traffic light each vehicle stands at: the trigger box holds it and it faces the stop."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from flad_sim.actors import TrafficLight, Vehicle
from flad_sim.types import LightState, Signal

_MAX_ANGLE_DEG = 60.0  # between the vehicle and the lane that the light is for


class LightTriggers:
    """The trigger boxes of all lights as arrays, tested against all vehicles at once."""

    def __init__(self, lights: Sequence[TrafficLight]) -> None:
        self._lights = list(lights)
        boxes = [light.signal.trigger for light in lights]
        self._center = np.array([b.center for b in boxes]).reshape(-1, 3)
        self._extent = np.array([b.extent for b in boxes]).reshape(-1, 3)
        self._cos = np.array([math.cos(math.radians(b.yaw)) for b in boxes])
        self._sin = np.array([math.sin(math.radians(b.yaw)) for b in boxes])
        self._heading = np.array([_heading(light.signal) for light in lights])

    def update(self, vehicles: Sequence[Vehicle]) -> None:
        """Set ``light_id`` and ``light_state`` of every vehicle."""
        if not self._lights or not vehicles:
            return
        poses = np.array([_probe(v) for v in vehicles])  # [V, 5]: centre x, y, nose x, y, yaw
        inside = self._inside(poses[:, 0:2]) | self._inside(poses[:, 2:4])  # [V, L]
        turn = (poses[:, 4, None] - self._heading[None] + 180.0) % 360.0 - 180.0
        at = inside & (np.abs(turn) < _MAX_ANGLE_DEG)
        which = np.where(at.any(axis=1), at.argmax(axis=1), -1).tolist()
        for vehicle, index in zip(vehicles, which, strict=True):
            if index < 0:
                vehicle.light_id, vehicle.light_state = 0, LightState.GREEN
            else:
                light = self._lights[index]
                vehicle.light_id, vehicle.light_state = light.actor_id, light.status.state

    def _inside(self, points: np.ndarray) -> np.ndarray:
        dx = points[:, 0, None] - self._center[None, :, 0]
        dy = points[:, 1, None] - self._center[None, :, 1]
        along = np.abs(dx * self._cos + dy * self._sin)
        across = np.abs(dy * self._cos - dx * self._sin)
        inside: np.ndarray = (along <= self._extent[:, 0]) & (across <= self._extent[:, 1])
        return inside


def _probe(vehicle: Vehicle) -> tuple[float, float, float, float, float]:
    t = vehicle.pose.transform
    nose = vehicle.box.center[0] + vehicle.box.extent[0]
    yaw = math.radians(t.yaw)
    return (t.x, t.y, t.x + nose * math.cos(yaw), t.y + nose * math.sin(yaw), t.yaw)


def _heading(signal: Signal) -> float:
    if signal.stop_points:
        return signal.stop_points[0].yaw
    return signal.transform.yaw + 180.0  # the lamp looks at the traffic
