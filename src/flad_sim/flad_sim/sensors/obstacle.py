# SPDX-License-Identifier: Apache-2.0
"""Obstacle detector: the first thing that a thick ray straight ahead meets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flad_sim.sensors.attributes import number
from flad_sim.sensors.box_cast import BoxScene
from flad_sim.types import SensorRequest, StaticBox


@dataclass(frozen=True, slots=True)
class ObstacleHit:
    """What is ahead: an actor (``other_id``) or scenery (then ``other_id`` is 0)."""

    other_id: int
    scenery: StaticBox | None
    distance_m: float


def measure_obstacle(request: SensorRequest, scene: BoxScene) -> ObstacleHit | None:
    """The obstacle of one frame; None, and no message, where the way is free.

    CARLA's attributes: ``distance`` to look ahead, ``hit_radius`` of the ray, ``only_dynamics``.
    """
    ahead_m = number(request.attributes, "distance", 5.0, low=0.0, high=1e4)
    hits = scene.cast(
        np.array(request.transform.location),
        np.array([request.transform.forward()]),
        ahead_m,
        skip_actor=request.parent_id,
        radius_m=number(request.attributes, "hit_radius", 0.5, low=0.0, high=100.0),
        dynamic_only=request.attributes.get("only_dynamics", "false").lower() in ("true", "1"),
    )
    index, distance_m = int(hits.index[0]), float(hits.distance_m[0])
    if index < 0:
        return None
    if index < len(scene.actors):
        return ObstacleHit(scene.actors[index].actor_id, None, distance_m)
    return ObstacleHit(0, scene.scenery[index - len(scene.actors)], distance_m)
