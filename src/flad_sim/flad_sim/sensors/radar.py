# SPDX-License-Identifier: Apache-2.0
"""Radar: random rays in an elliptic cone, as CARLA's, with the speed at which targets recede."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from flad_sim.sensors.attributes import number
from flad_sim.sensors.box_cast import BoxScene
from flad_sim.sensors.noise import generator
from flad_sim.types import SensorRequest


def measure_radar(
    request: SensorRequest, scene: BoxScene, delta_s: float, seed: int, frame: int
) -> NDArray[np.float32]:
    """Detections ``[N, 4]``: velocity m/s (positive: moving away), azimuth rad, altitude rad, m.

    Bounding boxes answer, the road does not.
    """
    attributes = request.attributes
    half_h = 0.5 * math.radians(number(attributes, "horizontal_fov", 30.0, low=0.0, high=179.0))
    half_v = 0.5 * math.radians(number(attributes, "vertical_fov", 30.0, low=0.0, high=179.0))
    range_m = number(attributes, "range", 100.0, low=0.0, high=1e4)
    rate_hz = number(attributes, "points_per_second", 1500.0, low=0.0, high=1e6)
    count = int(rate_hz * delta_s)
    rng = generator(request, seed, frame)
    radius, turn = rng.uniform(0.0, 1.0, count), rng.uniform(0.0, math.tau, count)
    right = radius * np.cos(turn) * math.tan(half_h)
    up = radius * np.sin(turn) * math.tan(half_v)
    local = np.stack([np.ones(count), right, up], axis=1)
    local /= np.linalg.norm(local, axis=1, keepdims=True)
    directions = local @ request.transform.rotation_matrix().T
    origin = np.array(request.transform.location)
    hits = scene.cast(origin, directions, range_m, skip_actor=request.parent_id)
    seen = hits.index >= 0
    velocities = np.zeros((len(scene.actors) + 1, 3))  # the last row is the scenery's
    for i, actor in enumerate(scene.actors):
        velocities[i] = actor.velocity
    target = velocities[np.minimum(hits.index[seen], len(scene.actors))]
    away = ((target - np.array(request.parent_velocity)) * directions[seen]).sum(axis=1)
    azimuth = np.arctan2(local[seen, 1], local[seen, 0])
    altitude = np.arcsin(local[seen, 2])
    return np.stack([away, azimuth, altitude, hits.distance_m[seen]], axis=1).astype(np.float32)
