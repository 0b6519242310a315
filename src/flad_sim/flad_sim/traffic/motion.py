# SPDX-License-Identifier: Apache-2.0
"""From front bumpers to poses of boxes: smooth, on the road, with velocities.

SUMO turns a vehicle at once where a lane's polyline bends. Here the rear axle follows the trail
that the front bumper has left, so heading and its rate are continuous, a standing vehicle does not
turn, and a long one does not cut corners.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from flad_sim.opendrive import RoadNetwork
from flad_sim.traffic.simulation import SumoVehicle
from flad_sim.types import FloatArray, Pose, Transform

_JUMP_M = 3.0  # per step: SUMO has put the vehicle elsewhere
_ACCELERATION_BLEND = 0.25  # of the newest difference; SUMO's speeds have steps
_STEP_M = 0.02  # differences below this and `_STEP_SHARE` are the lane's own length factor
_STEP_SHARE = 0.05
_FADE_M = 10.0
_STEEPEST = 0.9  # metres aside per metre ahead: a bumper at full lock
_TRAIL_POINTS = 48  # every 0.2 m at least: enough for the longest vehicle
_AXLES_AT = 0.6  # of half the length: where the road's height is felt


BoolArray = NDArray[np.bool_]


class Bodies:
    """The boxes of all of SUMO's vehicles; row i belongs to ``keys[i]``."""

    def __init__(self, network: RoadNetwork) -> None:
        self._network = network
        self.keys: list[str] = []
        self._rows: dict[str, int] = {}
        self.half = np.empty((0, 2))  # half length, half width
        self._pull = np.empty(0)  # front bumper to rear axle
        self._center_x = np.empty(0)  # of the box, ahead of the actor's origin
        self._trail = np.empty((0, _TRAIL_POINTS, 2))  # of the bumper, newest first
        self._shown = np.empty((0, 2))  # bumpers as they are drawn
        self._told = np.empty((0, 2))  # bumpers as SUMO has them
        self._offset = np.empty(0)  # metres that SUMO's bumpers are ahead of ours
        self.now = np.empty((0, 5))  # x, y, z, pitch, yaw of the actor's origin, degrees
        self._last = np.empty((0, 5))
        self._velocity = np.empty((0, 3))
        self._acceleration = np.empty((0, 3))
        self._yaw_rate = np.empty(0)

    def row(self, key: str) -> int | None:
        """Where a vehicle's numbers stand, nothing for one that has just gone or come."""
        return self._rows.get(key)

    def rows(self, keys: list[str]) -> NDArray[np.int64]:
        """Rows of vehicles that are known to be there."""
        return np.array([self._rows[key] for key in keys], dtype=np.int64)

    def centers(self) -> FloatArray:
        """Middles of the boxes on the ground, ``[N, 3]``."""
        yaw = np.radians(self.now[:, 4])
        offset = self._center_x[:, None] * np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
        return np.column_stack([self.now[:, :2] + offset, self.now[:, 2]])

    def step(self, vehicles: dict[str, SumoVehicle], step_s: float) -> None:
        """Draw all bodies behind their bumpers' new places."""
        fresh = self._keep(vehicles)
        if not self.keys:
            return
        everyone = vehicles.values()
        front = np.array([(v.x, v.y) for v in everyone])
        told = np.radians(np.array([v.yaw_deg for v in everyone]))
        speeds = np.array([v.speed_mps for v in everyone])
        front = self._steered(fresh, self._without_jerks(fresh, front, told, speeds, step_s))
        heading = _follow(self._trail, fresh, front, told, self._pull)
        ahead = np.stack([np.cos(heading), np.sin(heading)], axis=1)
        half = self.half[:, :1]
        center = front - half * ahead
        old_z = np.where(fresh, np.nan, self.now[:, 2])
        axles = np.concatenate(
            [center + _AXLES_AT * half * ahead, center - _AXLES_AT * half * ahead]
        )
        z = self._network.heights(axles, np.concatenate([old_z, old_z]))
        z = np.where(np.isnan(z), np.nan_to_num(np.concatenate([old_z, old_z])), z)
        z_front, z_rear = z[: len(center)], z[len(center) :]
        pitch = np.degrees(np.arctan2(z_front - z_rear, 2.0 * _AXLES_AT * self.half[:, 0]))
        origin = center - self._center_x[:, None] * ahead
        yaw = (np.degrees(heading) + 180.0) % 360.0 - 180.0
        now = np.column_stack([origin, (z_front + z_rear) / 2.0, pitch, yaw])
        self._last = np.where(fresh[:, None], now, self.now)
        self.now = now
        self._differentiate(fresh, ahead, [v.speed_mps for v in everyone], step_s)

    def pose(self, row: int, share: float) -> Pose:
        """A pose at ``share`` of the last step: 0 its start, 1 its end."""
        x, y, z, pitch, yaw = self.now[row].tolist()
        vx, vy, vz = self._velocity[row].tolist()
        ax, ay, az = self._acceleration[row].tolist()
        now = Pose(
            Transform(x, y, z, pitch=pitch, yaw=yaw),
            (vx, vy, vz),
            (0.0, 0.0, float(self._yaw_rate[row])),
            (ax, ay, az),
        )
        if share >= 1.0:
            return now
        x, y, z, pitch, yaw = self._last[row].tolist()
        return interpolated(Pose(Transform(x, y, z, pitch=pitch, yaw=yaw)), now, share)

    def _without_jerks(
        self, fresh: BoolArray, told: FloatArray, yaw: FloatArray, speed: FloatArray, step_s: float
    ) -> FloatArray:
        """Bumper places without the steps that SUMO makes along the road when a lane is changed.

        Neighbouring lanes of a bend differ in length, but share one length in SUMO; a vehicle that
        changes lanes is set forward or back by up to half a metre. The step is spread over the
        next metres.
        """
        ahead = np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
        moved = np.sum((told - self._told) * ahead, axis=1)
        step = moved - speed * step_s
        sudden = ~fresh & (np.abs(step) > _STEP_M + _STEP_SHARE * np.abs(moved))
        sudden &= np.abs(step) < _JUMP_M
        fade = np.exp(-np.abs(moved) / _FADE_M)
        self._offset = (self._offset + np.where(sudden, step, 0.0)) * fade
        self._offset[fresh] = 0.0
        self._told = told
        placed: FloatArray = told - self._offset[:, None] * ahead
        return placed

    def _steered(self, fresh: BoolArray, front: FloatArray) -> FloatArray:
        """Bumper places without sliding: SUMO goes on changing lanes while a vehicle stands."""
        yaw = np.radians(self.now[:, 4])
        ahead = np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
        aside = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)
        d = front - self._shown
        forward = np.sum(d * ahead, axis=1)
        most = _STEEPEST * np.maximum(forward, 0.0)
        side = np.clip(np.sum(d * aside, axis=1), -most, most)
        steered = self._shown + forward[:, None] * ahead + side[:, None] * aside
        free = fresh | (np.hypot(d[:, 0], d[:, 1]) > 2.0 * _JUMP_M)
        self._shown = np.where(free[:, None], front, steered)
        return self._shown

    def _differentiate(
        self, fresh: BoolArray, ahead: FloatArray, speeds: list[float], step_s: float
    ) -> None:
        velocity = (self.now[:, :3] - self._last[:, :3]) / step_s
        told = np.column_stack([np.array(speeds)[:, None] * ahead, np.zeros(len(speeds))])
        velocity = np.where(fresh[:, None], told, velocity)
        change = np.where(fresh[:, None], 0.0, (velocity - self._velocity) / step_s)
        self._acceleration += _ACCELERATION_BLEND * (change - self._acceleration)
        self._velocity = velocity
        turn = (self.now[:, 4] - self._last[:, 4] + 180.0) % 360.0 - 180.0
        self._yaw_rate = turn / step_s

    def _keep(self, vehicles: dict[str, SumoVehicle]) -> BoolArray:
        """Make the rows those of ``vehicles``; tell which are new."""
        keys = list(vehicles)
        if keys == self.keys:
            return np.zeros(len(keys), dtype=np.bool_)
        source = np.array([self._rows.get(k, -1) for k in keys], dtype=np.int64)
        fresh = source < 0
        specs = [v.kind.spec for v in vehicles.values()]
        self.half = np.array([s.extent[:2] for s in specs]).reshape(-1, 2)
        # axles lie about symmetric to the middle
        self._pull = np.array([s.extent[0] + s.wheelbase_m / 2.0 for s in specs])
        self._center_x = np.array([s.box.center[0] for s in specs])
        for name in (
            "_trail",
            "_told",
            "_shown",
            "_offset",
            "now",
            "_last",
            "_velocity",
            "_acceleration",
            "_yaw_rate",
        ):
            old: FloatArray = getattr(self, name)
            new = np.zeros((len(keys), *old.shape[1:]))
            new[~fresh] = old[source[~fresh]]
            setattr(self, name, new)
        self.keys = keys
        self._rows = {k: i for i, k in enumerate(keys)}
        return fresh


@njit(cache=True, error_model="numpy")
def _follow(
    trail: FloatArray, fresh: BoolArray, front: FloatArray, told: FloatArray, pull: FloatArray
) -> FloatArray:
    """Lengthen the trails and return the headings ``[N]`` from rear axles to bumpers."""
    headings = np.empty(len(front))
    count = trail.shape[1]
    for n in range(len(front)):
        x, y = front[n, 0], front[n, 1]
        gone = math.hypot(x - trail[n, 0, 0], y - trail[n, 0, 1])
        if fresh[n] or gone > 3.0:
            c, s = math.cos(told[n]), math.sin(told[n])
            for k in range(count):
                trail[n, k, 0] = x - k * 0.2 * c
                trail[n, k, 1] = y - k * 0.2 * s
            headings[n] = told[n]
            continue
        if gone > 0.2:
            for k in range(count - 1, 0, -1):
                trail[n, k, 0] = trail[n, k - 1, 0]
                trail[n, k, 1] = trail[n, k - 1, 1]
            trail[n, 0, 0] = x
            trail[n, 0, 1] = y
        px, py = x, y
        near = 0.0
        for k in range(count):
            qx, qy = trail[n, k, 0], trail[n, k, 1]
            far = math.hypot(x - qx, y - qy)
            if far >= pull[n] or k == count - 1:
                share = 1.0 if far <= near else min(1.0, (pull[n] - near) / (far - near))
                px += share * (qx - px)
                py += share * (qy - py)
                break
            px, py, near = qx, qy, far
        headings[n] = math.atan2(y - py, x - px)
    return headings


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


def _wrap(angle: float) -> float:
    return math.fmod(math.fmod(angle + 180.0, 360.0) + 360.0, 360.0) - 180.0
