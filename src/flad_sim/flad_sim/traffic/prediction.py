# SPDX-License-Identifier: Apache-2.0
"""Where the things that SUMO does not move will be in the next seconds.

A client's vehicle outside junctions is taken to follow its lane; in junctions, and off the road,
it keeps its turn rate for a while. It is taken to stop at a light that is not green if it still
can. Walkers go straight on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flad_sim.opendrive import RoadNetwork
from flad_sim.opendrive.sections import is_driving
from flad_sim.types import ClientVehicle, FloatArray

NUM_TIMES = 17
TIME_STEP_S = 0.2  # 3.2 s ahead
_TURN_KEPT_S = 1.6  # few manoeuvres hold a turn rate for longer
_STEADY_DEG_S = 4.0  # turn rates below this are lane keeping, not turning
_ON_LANE_DEG = 25.0
_BRAKES_FROM = -0.5  # m/s^2; weaker braking is not extrapolated
_LIGHT_BRAKING = 6.0  # m/s^2 that a driver would use to stop at a light
_LIGHT_AHEAD_M = 30.0


@dataclass(frozen=True, slots=True)
class Obstacles:
    """``O`` moving boxes: positions over time, sizes; see `RoadUsers.predict`."""

    track: FloatArray  # [O, T, 3]: x, y, yaw (radians) of the box's centre
    z: FloatArray  # [O]
    half: FloatArray  # [O, 2]: half length, half width
    speed: FloatArray  # [O]
    horizon_s: FloatArray  # [O]: how far ahead the track is to be believed


class RoadUsers:
    """Predicts; built once per town."""

    def __init__(self, network: RoadNetwork) -> None:
        self._network = network
        self._centers = {}
        self._runs = {}
        for i, strip in enumerate(network.lanes):
            if is_driving(strip.lane_type) and strip.junction_id < 0:
                center = ((strip.left + strip.right) / 2.0)[:, :2]
                steps = np.linalg.norm(np.diff(center, axis=0), axis=1)
                self._centers[i] = center
                self._runs[i] = np.concatenate(([0.0], np.cumsum(steps)))

    def predict(
        self,
        vehicles: Sequence[ClientVehicle],
        walkers: Sequence[ClientVehicle],
        stop_lines: FloatArray,
    ) -> Obstacles:
        """Tracks of all; ``stop_lines`` ``[S, 3]`` (x, y, yaw radians) are those not green now."""
        bodies = [*vehicles, *walkers]
        track = np.empty((len(bodies), NUM_TIMES, 3))
        speed = np.empty(len(bodies))
        for i, body in enumerate(bodies):
            v = body.pose.velocity
            speed[i] = math.hypot(v[0], v[1])
            track[i] = (
                self._drive(body, float(speed[i]), stop_lines)
                if i < len(vehicles)
                else _straight(body)
            )
        return Obstacles(
            track=track,
            z=np.array([b.pose.transform.z for b in bodies]),
            half=np.array([b.extent[:2] for b in bodies]).reshape(-1, 2),
            speed=speed,
            horizon_s=np.array([3.2] * len(vehicles) + [1.6] * len(walkers)),
        )

    def _drive(self, body: ClientVehicle, speed: float, stop_lines: FloatArray) -> FloatArray:
        t = body.pose.transform
        yaw = math.radians(t.yaw)
        forward = body.pose.velocity[0] * math.cos(yaw) + body.pose.velocity[1] * math.sin(yaw)
        travel = _travel(body, max(0.0, forward), yaw)
        limit = _red_light_m(t.x, t.y, yaw, body.extent[0], stop_lines)
        if limit is not None and speed * speed / (2.0 * _LIGHT_BRAKING) < limit + 1.0:
            travel = np.minimum(travel, max(0.0, limit))
        if forward < -0.1:
            return _reverse(t.x, t.y, yaw, forward)
        along = self._along_lane(t.x, t.y, t.z, t.yaw, travel)
        return along if along is not None else _turning(body, yaw, travel)

    def _along_lane(
        self, x: float, y: float, z: float, yaw_deg: float, travel: FloatArray
    ) -> FloatArray | None:
        strip = int(self._network.under(np.array([[x, y]]), np.array([z])).strip[0])
        center, run = self._centers.get(strip), self._runs.get(strip)
        if center is None or run is None or run[-1] < 1.0:
            return None
        here = np.array([x, y])
        a, d = center[:-1], np.diff(center, axis=0)
        share = np.clip(np.sum((here - a) * d, axis=1) / np.sum(d * d, axis=1), 0.0, 1.0)
        i = int(np.argmin(np.linalg.norm(a + share[:, None] * d - here, axis=1)))
        heading = math.degrees(math.atan2(d[i, 1], d[i, 0]))
        if abs((yaw_deg - heading + 180.0) % 360.0 - 180.0) > _ON_LANE_DEG:
            return None
        s0 = float(run[i] + share[i] * (run[i + 1] - run[i]))
        foot = a[i] + share[i] * d[i]
        normal = np.array([-d[i, 1], d[i, 0]]) / math.hypot(d[i, 0], d[i, 1])
        lateral = float((here - foot) @ normal)
        s = s0 + travel
        headings = np.arctan2(d[:, 1], d[:, 0])
        piece = np.clip(np.searchsorted(run, s, side="right") - 1, 0, len(d) - 1)
        turn = headings[piece]
        cos, sin = np.cos(turn), np.sin(turn)
        over = s - run[piece]
        px = center[piece, 0] + over * cos - lateral * sin
        py = center[piece, 1] + over * sin + lateral * cos
        return np.stack([px, py, turn], axis=1)


def _travel(body: ClientVehicle, forward: float, yaw: float) -> FloatArray:
    """Metres driven by each time, at the present speed or braking as now."""
    times: FloatArray = np.arange(NUM_TIMES, dtype=np.float64) * TIME_STEP_S
    ax, ay, _ = body.pose.acceleration
    along = ax * math.cos(yaw) + ay * math.sin(yaw)
    if along < _BRAKES_FROM:
        times = np.minimum(times, np.float64(forward / -along))
    else:
        along = 0.0
    travel: FloatArray = forward * times + 0.5 * along * times * times
    return travel


def _red_light_m(
    x: float, y: float, yaw: float, half_length: float, stop_lines: FloatArray
) -> float | None:
    """Metres from the bumper to the next stop line with a light that is not green."""
    if len(stop_lines) == 0:
        return None
    dx, dy = stop_lines[:, 0] - x, stop_lines[:, 1] - y
    along = dx * math.cos(yaw) + dy * math.sin(yaw)
    lateral = dy * math.cos(yaw) - dx * math.sin(yaw)
    turn = np.abs((stop_lines[:, 2] - yaw + math.pi) % (2.0 * math.pi) - math.pi)
    ahead = along - half_length
    ours = (ahead > -1.0) & (ahead < _LIGHT_AHEAD_M) & (np.abs(lateral) < 1.8) & (turn < 0.5)
    return float(ahead[ours].min()) if ours.any() else None


def _turning(body: ClientVehicle, yaw: float, travel: FloatArray) -> FloatArray:
    rate = body.pose.angular_velocity[2]
    rate = math.radians(rate) if abs(rate) > _STEADY_DEG_S else 0.0
    times = np.minimum(np.arange(NUM_TIMES) * TIME_STEP_S, _TURN_KEPT_S)
    headings = yaw + rate * times
    steps = np.diff(travel, prepend=0.0)
    middle = headings - 0.5 * np.diff(headings, prepend=yaw)
    t = body.pose.transform
    return np.stack(
        [
            t.x + np.cumsum(steps * np.cos(middle)),
            t.y + np.cumsum(steps * np.sin(middle)),
            headings,
        ],
        axis=1,
    )


def _reverse(x: float, y: float, yaw: float, forward: float) -> FloatArray:
    travel = forward * np.arange(NUM_TIMES) * TIME_STEP_S
    return np.stack(
        [x + travel * math.cos(yaw), y + travel * math.sin(yaw), np.full(NUM_TIMES, yaw)], axis=1
    )


def _straight(body: ClientVehicle) -> FloatArray:
    times = np.arange(NUM_TIMES) * TIME_STEP_S
    t, v = body.pose.transform, body.pose.velocity
    yaw = np.full(NUM_TIMES, math.radians(t.yaw))
    return np.stack([t.x + v[0] * times, t.y + v[1] * times, yaw], axis=1)
