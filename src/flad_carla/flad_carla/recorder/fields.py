# SPDX-License-Identifier: Apache-2.0
"""The fields of LMDrive's files, made of one tick. Plain values in, plain values out.

Two frames occur. ``x``, ``y`` and the actors are in CARLA's world. ``gps_x``, ``gps_y``, the
command points and the future waypoints are in the GPS plane that LMDrive drives in: x north, y
east, in metres by its own constants; a world point is ``(-y, x)`` there, but for 5e-5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flad_carla.recorder.weather import FIELDS
from flad_carla.run_log import (
    BodyView,
    BoxView,
    ControlView,
    ExpertView,
    LightView,
    Point,
    PoseView,
    RoutePoint,
    RunInfo,
    TickEntry,
    Vec3,
)

NUM_FUTURE = 50
_CLEARLY_OFF_AXIS_M = 3.0  # beyond the GNSS's noise
_ACTOR_RANGE_M = 50.0
_LIGHT_RANGE_M = 70.0
_STOP_SIGN_LOOKAHEAD = 20  # route points, 1 m apart
# LMDrive's metres per degree of latitude and longitude (its planner.py, for CARLA 0.9.10).
_PER_DEGREE = (111324.60662786, 111319.490945)
_CARLA_PER_DEGREE = math.pi * 6378137.0 / 180.0  # what CARLA's GNSS sensor divides by


class GpsPlane:
    """Turns GNSS readings into LMDrive's GPS plane, x north.

    CARLA 0.9.10 and LMDrive have north at the world's -y; the client of 0.9.16 has it at +y, and
    servers need not agree with it. So the first reading away from the map's x axis decides.
    """

    def __init__(self, origin: Point) -> None:
        self._origin = origin  # latitude, longitude of the map's origin, degrees
        self._sign = 1.0
        self._is_decided = False

    def position(self, latitude: float, longitude: float, world_y: float) -> Point:
        """``(gps_x, gps_y)`` in metres from the map's origin."""
        shrink = math.cos(math.radians(self._origin[0]))
        north_m = (latitude - self._origin[0]) * _PER_DEGREE[0]
        east_m = (longitude - self._origin[1]) * shrink * _PER_DEGREE[1]
        if not self._is_decided:
            self._sign = 1.0 if north_m * world_y <= 0.0 else -1.0
            self._is_decided = abs(world_y) > _CLEARLY_OFF_AXIS_M
        return (self._sign * north_m, east_m)


def world_to_gps_plane(x: float, y: float) -> Point:
    """A world point in the GPS plane."""
    return (
        -y * _PER_DEGREE[0] / _CARLA_PER_DEGREE,
        x * _PER_DEGREE[1] / _CARLA_PER_DEGREE,
    )


def measurement(
    info: RunInfo,
    entry: TickEntry,
    expert: ExpertView,
    label: ControlView,
    gps: Point,
    compass_rad: float,
) -> dict[str, Any]:
    """``measurements/%04d.json``: every field that LMDrive writes, in its order."""
    here = (entry.ego.pose.x, entry.ego.pose.y)
    near = world_to_gps_plane(*(expert.near_node or here))
    far = world_to_gps_plane(*(expert.far_node or here))
    return {
        "gps_x": gps[0],
        "gps_y": gps[1],
        "x": here[0],
        "y": here[1],
        "theta": 0.0 if math.isnan(compass_rad) else compass_rad,
        "speed": forward_speed_mps(entry.ego),
        "target_speed": expert.target_speed_mps,
        "x_command": far[0],
        "y_command": far[1],
        "command": expert.near_command,
        "gt_command": expert.command,
        "steer": label.steer,
        "throttle": label.throttle,
        "brake": label.brake > 0.5,
        "weather": {name: float(info.weather.get(name, 0.0)) for name in FIELDS},
        "weather_id": info.weather_id,
        "near_node_x": near[0],
        "near_node_y": near[1],
        "far_node_x": far[0],
        "far_node_y": far[1],
        "is_junction": expert.is_junction,
        "is_vehicle_present": list(expert.vehicles),
        "is_bike_present": list(expert.bikes),
        "is_lane_vehicle_present": list(expert.lane_vehicles),
        "is_junction_vehicle_present": list(expert.junction_vehicles),
        "is_pedestrian_present": list(expert.pedestrians),
        "is_red_light_present": list(expert.red_lights),
        "is_stop_sign_present": list(expert.stop_signs),
        "should_slow": int(expert.should_slow),
        "should_brake": int(expert.should_brake),
        "future_waypoints": future_waypoints(info.route, entry.route_index),
        "affected_light_id": expert.affected_light_id,
    }


def extension(
    entry: TickEntry, expert: ExpertView, label: ControlView, driver: str
) -> dict[str, Any]:
    """Ours, under ``flad`` in ``measurements_full``: who drove, what it did, what disturbed it."""
    plan = expert.plan
    return {
        "frame": entry.frame,
        "sim_time_s": entry.sim_time_s,
        "driver": driver,
        "perturbation": entry.perturbation,
        "driven": _control(entry.control),
        "label": _control(label),
        "z": entry.ego.pose.z,
        "yaw": entry.ego.pose.yaw,
        "reason": expert.reason,
        "instruction": entry.instruction,
        "plan_stamp_s": plan.stamp_s if plan else None,
        "plan_step_s": plan.step_s if plan else None,
        "plan_world": [list(point) for point in plan.points] if plan else [],
    }


def future_waypoints(route: Sequence[RoutePoint], index: int) -> list[list[float]]:
    """The next points of the route in the GPS plane, each with its command; fewer at its end."""
    points = route[max(0, index) : max(0, index) + NUM_FUTURE]
    return [[*world_to_gps_plane(p.x, p.y), p.command] for p in points]


def forward_speed_mps(body: BodyView) -> float:
    """Speed along the body's own x axis; negative backwards."""
    return float(np.dot(body.velocity, forward_vector(body.pose)))


def actors_data(entry: TickEntry) -> dict[str, dict[str, Any]]:
    """``actors_data/%04d.json``: the ego too, as LMDrive has it; its loader takes it out again."""
    here, data = entry.ego.pose, {}
    for body in (entry.ego, *entry.actors):
        walker = body.type_id.startswith("walker")
        if not (walker or body.type_id.startswith("vehicle")):
            continue
        if _distance(here, body.pose) > _ACTOR_RANGE_M:
            continue
        data[str(body.actor_id)] = {
            "loc": [body.pose.x, body.pose.y, body.pose.z],
            "ori": list(forward_vector(body.pose)),
            "box": [body.extent[0], body.extent[1]],
            "vel": list(body.velocity),
            "tpe": 1 if walker else 0,
        }
    for light in entry.lights:
        if _distance(here, light.pose) <= _LIGHT_RANGE_M:
            data[str(light.actor_id)] = _light(light)
    return data


def _light(light: LightView) -> dict[str, Any]:
    """The trigger volume is in the light's own frame, under LMDrive's spelling."""
    trigger = light.trigger or BoxView(
        center=(light.pose.x, light.pose.y, light.pose.z), extent=(0.0, 0.0, 0.0)
    )
    forward, right = light.pose.to_local(trigger.center[0], trigger.center[1])
    turned = PoseView(x=0.0, y=0.0, yaw=trigger.yaw - light.pose.yaw)
    return {
        "loc": [light.pose.x, light.pose.y, light.pose.z],
        "ori": list(forward_vector(light.pose)),
        "sta": light.state,
        "tpe": 2,
        "taigger_loc": [forward, right, trigger.center[2] - light.pose.z],
        "trigger_ori": list(forward_vector(turned)),
        "trigger_box": [trigger.extent[0], trigger.extent[1]],
    }


def boxes_3d(entry: TickEntry) -> dict[str, list[NDArray[np.float64]]]:
    """``3d_bbs/%04d.npy``: per kind a list of ``[2, 3]``, centre and rotated extent, to 50 m."""
    here = entry.ego.pose
    boxes: dict[str, list[NDArray[np.float64]]] = {
        "traffic_lights": [],
        "stop_signs": [],
        "vehicles": [],
        "pedestrians": [],
    }
    for light in entry.lights:
        if _distance(here, light.pose) <= _ACTOR_RANGE_M:
            boxes["traffic_lights"].append(_upright(light.pose))
    for sign in entry.stop_signs:
        if _distance(here, sign.pose) <= _ACTOR_RANGE_M:
            boxes["stop_signs"].append(_upright(sign.pose))
    for body in entry.actors:
        if not 0.0 < _distance(here, body.pose) <= _ACTOR_RANGE_M:
            continue
        kind = "pedestrians" if body.type_id.startswith("walker") else "vehicles"
        rotation = rotation_matrix(body.pose)
        center = np.array([body.pose.x, body.pose.y, body.pose.z]) + rotation @ body.center
        boxes[kind].append(np.array([center, np.array(body.extent) @ rotation]))
    return boxes


def affordances(entry: TickEntry, stop_sign: bool) -> dict[str, Any]:
    """``affordances/%04d.npy``: the state of the light whose area the ego is in, and stop signs."""
    here = entry.ego.pose
    light = next(
        (x for x in entry.lights if x.trigger and is_inside(x.trigger, here.x, here.y)), None
    )
    return {"traffic_light": light.state if light else None, "stop_sign": stop_sign}


class StopSignWatch:
    """Whether a stop sign still asks the ego to stop, by LMDrive's rule.

    A sign counts when the ego or one of the next 20 m of its route is in the sign's area, until
    the ego has stood still there.
    """

    def __init__(self) -> None:
        self._done: set[int] = set()

    def step(self, entry: TickEntry, route: Sequence[RoutePoint]) -> bool:
        """Take one tick; True while a stop is owed."""
        ahead = route[entry.route_index : entry.route_index + _STOP_SIGN_LOOKAHEAD]
        points = [(entry.ego.pose.x, entry.ego.pose.y), *((p.x, p.y) for p in ahead)]
        owed = False
        for sign in entry.stop_signs:
            box = sign.trigger
            affects = box is not None and any(is_inside(box, x, y) for x, y in points)
            if not affects:
                self._done.discard(sign.actor_id)
                continue
            if entry.ego.speed_mps < 0.1 and entry.sim_time_s > 1.0:
                self._done.add(sign.actor_id)
            owed = owed or sign.actor_id not in self._done
        return owed


def is_inside(box: BoxView, x: float, y: float) -> bool:
    """Whether a point lies in an upright box, seen from above."""
    frame = PoseView(x=box.center[0], y=box.center[1], yaw=box.yaw)
    forward, right = frame.to_local(x, y)
    return abs(forward) <= box.extent[0] and abs(right) <= box.extent[1]


def forward_vector(pose: PoseView) -> Vec3:
    """Unit vector along local x in the world."""
    cp, sp = math.cos(math.radians(pose.pitch)), math.sin(math.radians(pose.pitch))
    cy, sy = math.cos(math.radians(pose.yaw)), math.sin(math.radians(pose.yaw))
    return (cp * cy, cp * sy, sp)


def rotation_matrix(pose: PoseView) -> NDArray[np.float64]:
    """Rotation from the local frame to the world, ``[3, 3]``, as CARLA (Unreal) composes it."""
    cp, sp = math.cos(math.radians(pose.pitch)), math.sin(math.radians(pose.pitch))
    cy, sy = math.cos(math.radians(pose.yaw)), math.sin(math.radians(pose.yaw))
    cr, sr = math.cos(math.radians(pose.roll)), math.sin(math.radians(pose.roll))
    return np.array(
        [
            [cp * cy, cy * sp * sr - sy * cr, -cy * sp * cr - sy * sr],
            [cp * sy, sy * sp * sr + cy * cr, -sy * sp * cr + cy * sr],
            [sp, -cp * sr, cp * cr],
        ]
    )


def _upright(pose: PoseView) -> NDArray[np.float64]:
    """What LMDrive gives for an actor without a bounding box of its own."""
    return np.array([[pose.x, pose.y, pose.z], [0.5, 0.5, 2.0]])


def _distance(a: PoseView, b: PoseView) -> float:
    return math.dist((a.x, a.y, a.z), (b.x, b.y, b.z))


def _control(control: ControlView) -> Mapping[str, float]:
    return {"steer": control.steer, "throttle": control.throttle, "brake": control.brake}
