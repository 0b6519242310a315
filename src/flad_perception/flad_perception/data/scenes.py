# SPDX-License-Identifier: Apache-2.0
"""A frame of LMDrive's files as a scene and as points in the vehicle's frame.

CARLA's world is left-handed (y right, yaw clockwise); the files' GPS plane has x north, which is
the world's -y, and y east, which is its x. LMDrive's LiDAR is mounted 1.3 m ahead of and 2.5 m
above the vehicle's origin and turned 90 degrees to the left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flad_perception.scene import (
    VEHICLE,
    WALKER,
    LightState,
    Point,
    Pose,
    Scene,
    SceneActor,
    a_red_light_stops,
    world_from_carla,
)

LIDAR_MOUNT_M = (1.3, 0.0, 2.5)
# LMDrive's metres per degree over CARLA's: the GPS plane is larger than the world by 5e-5.
_GPS_SCALE = (
    111324.60662786 / (math.pi * 6378137.0 / 180.0),
    111319.490945 / (math.pi * 6378137.0 / 180.0),
)
_EGO_WITHIN_M = 1.0
_LIGHT = 2
_STATES: dict[int, LightState] = {0: "red", 1: "yellow", 2: "green"}


def points_from_sensor(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points ``[N, 4]`` of the mounted LiDAR in the vehicle's frame (x forward, y left, z up).

    The sensor's x points left and its y, which CARLA has to the right, forward.
    """
    moved = np.empty_like(points)
    moved[:, 0] = points[:, 1] + np.float32(LIDAR_MOUNT_M[0])
    moved[:, 1] = points[:, 0] - np.float32(LIDAR_MOUNT_M[1])
    moved[:, 2] = points[:, 2] + np.float32(LIDAR_MOUNT_M[2])
    moved[:, 3] = points[:, 3]
    return moved


def scene_of(measurement: Mapping[str, Any], future: Sequence[Sequence[float]]) -> Scene:
    """The scene of a frame.

    Args:
        measurement: ``measurements_full`` of the frame.
        future: where the vehicle shall be at the waypoints' times, ``(x, y)`` in CARLA's world.

    Raises:
        KeyError, TypeError, ValueError: if an actor lacks a field or has a bad one.
    """
    actors: Mapping[str, Mapping[str, Any]] = measurement["actors_data"]
    ego_id = _ego_id(measurement, actors)
    light = actors.get(str(measurement["affected_light_id"]))
    if light is not None and light["tpe"] != _LIGHT:
        light = None
    route = measurement.get("future_waypoints", [])
    state: LightState = "none" if light is None else _STATES.get(int(light["sta"]), "none")
    return Scene(
        ego=_ego_pose(measurement, actors.get(ego_id)),
        speed_mps=float(measurement["speed"]),
        actors=tuple(
            _actor(int(name), actor)
            for name, actor in actors.items()
            if name != ego_id and actor["tpe"] in (VEHICLE, WALKER)
        ),
        red_light_stops=a_red_light_stops(
            measurement["is_red_light_present"], measurement["affected_light_id"], state
        ),
        stop_sign=bool(measurement["stop_sign"]),
        light_state=state,
        light_distance_m=math.nan if light is None else _to_trigger_m(measurement, light),
        future_m=tuple(world_point(x, y) for x, y in future),
        route_m=tuple(_from_gps(*point[:2]) for point in route),
        route_commands=tuple(int(point[2]) for point in route),
        far_node_m=_from_gps(measurement["far_node_x"], measurement["far_node_y"]),
    )


def _from_gps(north: float, east: float) -> Point:
    """A point of the files' GPS plane in the scene's world."""
    return world_point(east / _GPS_SCALE[1], -north / _GPS_SCALE[0])


def world_point(x_m: float, y_m: float) -> Point:
    """A point of CARLA's world in the scene's."""
    place = world_from_carla(float(x_m), float(y_m))
    return (place.x_m, place.y_m)


def kick(measurement: Mapping[str, Any]) -> bool:
    """Whether the recorder pushed the steering or withheld the brake; never in LMDrive's data."""
    block = measurement.get("flad", {})
    if block.get("perturbation", 0.0):
        return True
    driven, label = block.get("driven", {}), block.get("label", {})
    is_expert = block.get("driver") == "expert"
    return bool(is_expert and driven.get("brake", 0.0) < label.get("brake", 0.0))


def _ego_id(measurement: Mapping[str, Any], actors: Mapping[str, Mapping[str, Any]]) -> str:
    """The ego is among the actors, under an id that nothing names: it is where the ego is."""
    here = (measurement["x"], measurement["y"])
    distances = {
        name: math.dist(here, actor["loc"][:2])
        for name, actor in actors.items()
        if actor["tpe"] == VEHICLE
    }
    nearest = min(distances, key=distances.__getitem__, default="")
    return nearest if distances.get(nearest, math.inf) <= _EGO_WITHIN_M else ""


def _ego_pose(measurement: Mapping[str, Any], ego: Mapping[str, Any] | None) -> Pose:
    """The compass is NaN at times (LMDrive writes 0 then), the actor's heading never."""
    if ego is not None:
        yaw_deg = math.degrees(math.atan2(ego["ori"][1], ego["ori"][0]))
    else:
        yaw_deg = math.degrees(float(measurement["theta"])) - 90.0
    if not math.isfinite(yaw_deg):
        raise ValueError(f"theta is {measurement['theta']!r} and the ego is not among the actors")
    return world_from_carla(float(measurement["x"]), float(measurement["y"]), yaw_deg)


def _actor(actor_id: int, actor: Mapping[str, Any]) -> SceneActor:
    x, y = actor["loc"][:2]
    yaw_deg = math.degrees(math.atan2(actor["ori"][1], actor["ori"][0]))
    return SceneActor(
        actor_id=actor_id,
        kind=int(actor["tpe"]),
        pose=world_from_carla(float(x), float(y), yaw_deg),
        half_length_m=float(actor["box"][0]),
        half_width_m=float(actor["box"][1]),
        speed_mps=math.hypot(actor["vel"][0], actor["vel"][1]),
    )


def _to_trigger_m(measurement: Mapping[str, Any], light: Mapping[str, Any]) -> float:
    """Metres from the ego's origin to the nearest edge of the light's trigger volume, 0 within.

    The volume lies across the lanes at the stop line. It is given in the light's own frame.
    """
    yaw = math.atan2(light["ori"][1], light["ori"][0])
    forward, right = light["taigger_loc"][:2]
    c, s = math.cos(yaw), math.sin(yaw)
    center_x = light["loc"][0] + c * forward - s * right
    center_y = light["loc"][1] + s * forward + c * right
    yaw += math.atan2(light["trigger_ori"][1], light["trigger_ori"][0])
    c, s = math.cos(yaw), math.sin(yaw)
    dx, dy = measurement["x"] - center_x, measurement["y"] - center_y
    beyond_x = max(0.0, abs(c * dx + s * dy) - light["trigger_box"][0])
    beyond_y = max(0.0, abs(-s * dx + c * dy) - light["trigger_box"][1])
    return math.hypot(beyond_x, beyond_y)
