# SPDX-License-Identifier: Apache-2.0
"""From front bumpers to poses of boxes: smooth, on the road, with velocities.

SUMO turns a vehicle at once where a lane's polyline bends. Here the rear axle is drawn behind the
front bumper like a trailer (a tractrix), so heading and its rate are continuous and a standing
vehicle does not turn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flad_sim.catalogue import VehicleSpec
from flad_sim.opendrive import RoadNetwork
from flad_sim.types import FloatArray, Pose, Transform, Vec3

_JUMP_M = 3.0  # per step: SUMO has put the vehicle elsewhere
_ACCELERATION_BLEND = 0.25  # of the newest difference; SUMO's speeds have steps


@dataclass(slots=True)
class Body:
    """A vehicle's box on the road."""

    pull_m: float  # front bumper to rear axle
    half_length_m: float
    center_x_m: float  # of the box, ahead of the actor's origin
    rear_x: float
    rear_y: float
    pose: Pose
    last: Pose  # one simulation step earlier


def new_body(spec: VehicleSpec, front_x: float, front_y: float, yaw_deg: float) -> Body:
    """A body whose bumper has just appeared at a place."""
    half = spec.extent[0]
    pull = half + spec.wheelbase_m / 2.0  # axles lie about symmetric to the middle
    c, s = math.cos(math.radians(yaw_deg)), math.sin(math.radians(yaw_deg))
    start = Pose(Transform(front_x - half * c, front_y - half * s, 0.0, yaw=_wrap(yaw_deg)))
    return Body(
        pull, half, spec.box.center[0], front_x - pull * c, front_y - pull * s, start, start
    )


def move_bodies(
    bodies: list[Body],
    fronts: FloatArray,
    yaws_deg: list[float],
    speeds_mps: list[float],
    fresh: list[bool],
    network: RoadNetwork,
    step_s: float,
) -> None:
    """Draw the bodies behind their bumpers ``fronts`` ``[N, 2]`` and set their poses.

    ``yaws_deg`` counts only for bodies that are ``fresh`` or have jumped.
    """
    if not bodies:
        return
    headings = [
        _pull(body, float(front[0]), float(front[1]), yaw, new, step_s)
        for body, front, yaw, new in zip(bodies, fronts, yaws_deg, fresh, strict=True)
    ]
    cos = np.cos(headings)
    sin = np.sin(headings)
    half = np.array([b.half_length_m for b in bodies])
    near = np.array([b.pose.transform.z for b in bodies])
    direction = np.stack([cos, sin], axis=1)
    centers = fronts - half[:, None] * direction
    ends = np.concatenate(
        [centers + 0.6 * half[:, None] * direction, centers - 0.6 * half[:, None] * direction]
    )
    z = network.heights(ends, np.concatenate([near, near]))
    z = np.where(np.isnan(z), np.concatenate([near, near]), z)
    z_front, z_rear = z[: len(bodies)], z[len(bodies) :]
    pitches = np.degrees(np.arctan2(z_front - z_rear, 1.2 * half))
    for i, body in enumerate(bodies):
        origin = centers[i] - body.center_x_m * direction[i]
        here = Transform(
            float(origin[0]),
            float(origin[1]),
            float(z_front[i] + z_rear[i]) / 2.0,
            pitch=float(pitches[i]),
            yaw=_wrap(math.degrees(headings[i])),
        )
        if fresh[i]:
            s = speeds_mps[i]
            body.pose = Pose(here, (s * float(cos[i]), s * float(sin[i]), 0.0))
            body.last = body.pose
        else:
            body.last = body.pose
            body.pose = _moved(body.pose, here, step_s)


def between(body: Body, share: float) -> Pose:
    """The pose at ``share`` of the last step: 0 its start, 1 its end."""
    return interpolated(body.last, body.pose, share)


def interpolated(last: Pose, now: Pose, share: float) -> Pose:
    """A pose between two; velocities are those of the step between them."""
    if share >= 1.0:
        return now
    a, b = last.transform, now.transform
    turn = (b.yaw - a.yaw + 180.0) % 360.0 - 180.0
    here = Transform(
        a.x + share * (b.x - a.x),
        a.y + share * (b.y - a.y),
        a.z + share * (b.z - a.z),
        pitch=a.pitch + share * (b.pitch - a.pitch),
        yaw=_wrap(a.yaw + share * turn),
    )
    return Pose(here, now.velocity, now.angular_velocity, now.acceleration)


def _pull(body: Body, x: float, y: float, yaw_deg: float, new: bool, step_s: float) -> float:
    """Heading (radians) after the bumper has moved to ``(x, y)``."""
    dx, dy = x - body.rear_x, y - body.rear_y
    distance = math.hypot(dx, dy)
    if new or abs(distance - body.pull_m) > _JUMP_M:
        heading = math.radians(yaw_deg)
    else:
        heading = math.atan2(dy, dx)
    body.rear_x = x - body.pull_m * math.cos(heading)
    body.rear_y = y - body.pull_m * math.sin(heading)
    return heading


def _moved(before: Pose, here: Transform, step_s: float) -> Pose:
    a = before.transform
    velocity = ((here.x - a.x) / step_s, (here.y - a.y) / step_s, (here.z - a.z) / step_s)
    turn = ((here.yaw - a.yaw + 180.0) % 360.0 - 180.0) / step_s
    raw = tuple((v - w) / step_s for v, w in zip(velocity, before.velocity, strict=True))
    return Pose(here, velocity, (0.0, 0.0, turn), _blend(before.acceleration, raw))


def _blend(old: Vec3, new: tuple[float, ...]) -> Vec3:
    k = _ACCELERATION_BLEND
    return (
        old[0] + k * (new[0] - old[0]),
        old[1] + k * (new[1] - old[1]),
        old[2] + k * (new[2] - old[2]),
    )


def _wrap(angle: float) -> float:
    return (angle + 180.0) % 360.0 - 180.0
