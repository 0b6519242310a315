# SPDX-License-Identifier: Apache-2.0
"""One moment of the world as plain values: what targets are made of (:mod:`.targets`).

A recording and a live world both become a :class:`Scene`, so both give the same targets. Its world
is right-handed (ROS): LMDrive's and CARLA's with y mirrored and yaw counter-clockwise, which is
what :func:`world_from_carla` does.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

Point = tuple[float, float]
LightState = Literal["none", "red", "yellow", "green"]

VEHICLE, WALKER = 0, 1


@dataclass(frozen=True, slots=True)
class Pose:
    """Where something is on the ground: metres, radians counter-clockwise from x."""

    x_m: float
    y_m: float
    yaw_rad: float

    def to_local(self, point: Point) -> Point:
        """``(forward, left)`` of a point of the world, seen from here."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        dx, dy = point[0] - self.x_m, point[1] - self.y_m
        return (c * dx + s * dy, -s * dx + c * dy)

    def local_yaw_rad(self, yaw_rad: float) -> float:
        """A heading of the world seen from here, in (-pi, pi]."""
        turned = math.remainder(yaw_rad - self.yaw_rad, 2.0 * math.pi)
        return math.pi if turned == -math.pi else turned


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneActor:
    """A vehicle or walker as an upright box on the ground."""

    actor_id: int
    kind: int
    """VEHICLE or WALKER."""
    pose: Pose
    """Of the box's centre, in the world."""
    half_length_m: float
    half_width_m: float
    speed_mps: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What is true at one tick, in the world's frame."""

    ego: Pose
    speed_mps: float
    actors: tuple[SceneActor, ...]
    """Without the ego; further ones than the grid reaches do no harm."""
    red_light_stops: bool
    """Whether a red light makes the expert stop (its list of such lights is not empty)."""
    stop_sign: bool
    """Whether a stop sign still asks for a stop."""
    light_state: LightState = "none"
    """Of the light that affects the ego next."""
    light_distance_m: float = math.nan
    """From the ego to that light's stop line; NaN without one."""
    future_m: tuple[Point, ...] = ()
    """Where the ego will be, one per waypoint step; fewer where the run ends before."""
    route_m: tuple[Point, ...] = ()
    """The route ahead, from about here on; empty where it is not known."""
    route_commands: tuple[int, ...] = ()
    """LMDrive's command at each point of the route: 1 turn left, 2 turn right, others go on."""
    far_node_m: Point | None = None
    """The next far node of the route; without one the ego's own place is meant."""


def world_from_carla(x_m: float, y_m: float, yaw_deg: float = 0.0) -> Pose:
    """A place in CARLA's world (y right, yaw clockwise) in the world of a scene."""
    return Pose(x_m, -y_m, -math.radians(yaw_deg))


def a_red_light_stops(held_by: Collection[int], next_light: int, next_state: LightState) -> bool:
    """Whether a light that is not green holds the vehicle.

    Recordings have named the next light also when it was green and there was no room behind it.

    Example:
        >>> a_red_light_stops([7], 7, "green"), a_red_light_stops([7, 8], 7, "green")
        (False, True)
    """
    return any(light != next_light or next_state != "green" for light in held_by)
