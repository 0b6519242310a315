# SPDX-License-Identifier: Apache-2.0
"""What the expert sees in one tick. Who fills it from a simulator: ``flad_carla.expert_carla``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from flad_carla.run_log import BodyView

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Kind(IntEnum):
    """What an agent is, as far as the rules care."""

    VEHICLE = 0
    BICYCLE = 1
    WALKER = 2
    OBSTACLE = 3  # props: they never move


class Light(IntEnum):
    """State of a traffic light, with CARLA's numbers."""

    RED = 0
    YELLOW = 1
    GREEN = 2
    OFF = 3
    UNKNOWN = 4


@dataclass(frozen=True, slots=True)
class EgoState:
    """The car itself; the position is its box's centre."""

    x: float
    y: float
    yaw: float
    speed: float
    half_length: float
    half_width: float


@dataclass(frozen=True, slots=True)
class Agents:
    """Everybody else, one row each ([N])."""

    ids: IntArray
    kind: IntArray
    x: FloatArray
    y: FloatArray
    yaw: FloatArray
    vx: FloatArray
    vy: FloatArray
    yaw_rate: FloatArray
    half_length: FloatArray
    half_width: FloatArray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def speed(self) -> FloatArray:
        """Length of the velocity, [N]."""
        return np.hypot(self.vx, self.vy)

    def where(self, mask: NDArray[np.bool_]) -> Agents:
        """Only the rows of ``mask``."""
        return Agents(*(getattr(self, name)[mask] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class StopLine:
    """Where one lane ends before a light's junction."""

    light_id: int
    x: float
    y: float
    yaw: float


@dataclass(frozen=True, slots=True)
class StopBox:
    """The ground on which a stop sign holds: an oriented box."""

    sign_id: int
    x: float
    y: float
    yaw: float
    half_length: float
    half_width: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One tick."""

    time_s: float
    ego: EgoState
    agents: Agents
    speed_limit_mps: float
    lights: Mapping[int, Light] = field(default_factory=dict)  # by light id


def ego_from_body(body: BodyView) -> EgoState:
    """The ego as the rules take it."""
    yaw = math.radians(body.pose.yaw)
    x, y = body.pose.to_world(body.center[0], body.center[1])
    forward = body.velocity[0] * math.cos(yaw) + body.velocity[1] * math.sin(yaw)
    return EgoState(x, y, yaw, forward, body.extent[0], body.extent[1])


def agents_from_bodies(bodies: Sequence[BodyView], ego: EgoState, within_m: float) -> Agents:
    """The bodies within ``within_m`` of the ego, sorted by id so that runs repeat."""
    rows = []
    for body in sorted(bodies, key=lambda b: b.actor_id):
        pose = body.pose
        if math.hypot(pose.x - ego.x, pose.y - ego.y) > within_m + body.extent[0]:
            continue
        x, y = pose.to_world(body.center[0], body.center[1])
        rows.append(
            (
                body.actor_id,
                int(_kind(body)),
                x,
                y,
                math.radians(pose.yaw),
                body.velocity[0],
                body.velocity[1],
                math.radians(body.angular_velocity[2]),
                max(body.extent[0], 0.15),
                max(body.extent[1], 0.15),
            )
        )
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 10)
    ids, kinds = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64)
    return Agents(ids, kinds, *(table[:, i] for i in range(2, 10)))


def _kind(body: BodyView) -> Kind:
    if body.type_id.startswith("walker"):
        return Kind.WALKER
    if not body.type_id.startswith("vehicle"):
        return Kind.OBSTACLE
    # CARLA's bicycles and motorcycles are the only vehicles narrower than a metre
    return Kind.BICYCLE if body.extent[1] < 0.5 else Kind.VEHICLE
