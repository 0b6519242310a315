# SPDX-License-Identifier: Apache-2.0
"""A street without a simulator: a bicycle model driven by the expert through the real planner law.

CARLA's frame: x forward, y right. The car is a plain kinematic bicycle, so that a test says
something about the expert and not about anybody's tyres.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from flad_carla.expert.config import ExpertConfig
from flad_carla.expert.driver import STEP_S, Decision, Expert
from flad_carla.expert.lane_use import no_side_lanes
from flad_carla.expert.scene import Agents, EgoState, Light, Scene
from flad_carla.route_planner import RoadOption, RoutePoint
from flad_planner.geometry import Pose2
from flad_planner.plan import RawPlan
from flad_planner.planner import Ego, Planner, PlannerConfig
from flad_planner.pursuit import PursuitConfig

DT_S = 0.05
HALF_LENGTH, HALF_WIDTH = 2.45, 0.92
_WHEELBASE_M, _FULL_STEER_RAD = 2.85, math.radians(70.0)
_FULL_THROTTLE_MPS2, _FULL_BRAKE_MPS2, _DRAG_PER_S = 5.0, 8.0, 0.06


def straight(length_m: int = 200, junction: tuple[int, int] = (-1, -1)) -> list[RoutePoint]:
    """A route along +x, with a junction between two distances."""
    return [
        RoutePoint(
            float(i),
            0.0,
            0.0,
            0.0,
            RoadOption.LANE_FOLLOW,
            (1, 0, -1),
            3.5,
            7 if junction[0] <= i <= junction[1] else -1,
            float(i),
        )
        for i in range(length_m + 1)
    ]


def corner(radius_m: float, sign: int = 1, lead_m: float = 60.0) -> list[RoutePoint]:
    """Straight, a quarter circle to the right (or left, ``sign`` -1), straight."""
    arc = radius_m * math.pi / 2
    points = []
    for s in np.arange(0.0, 2 * lead_m + arc, 1.0):
        bend = min(max(s - lead_m, 0.0), arc) / radius_m
        x = min(s, lead_m) + radius_m * math.sin(bend)
        y = radius_m * (1.0 - math.cos(bend)) + max(s - lead_m - arc, 0.0)
        points.append((x, sign * y, sign * math.degrees(bend)))
    return [
        RoutePoint(x, y, 0.0, yaw, RoadOption.LANE_FOLLOW, (1, 0, -1), 3.5, -1, float(i))
        for i, (x, y, yaw) in enumerate(points)
    ]


@dataclass(frozen=True, kw_only=True)
class Other:
    """Somebody else at one moment; angles in radians."""

    agent_id: int = 1
    kind: int = 0
    x: float = 0.0
    y: float = 0.0
    yaw: float = 0.0
    speed: float = 0.0
    half_length: float = 2.3
    half_width: float = 0.9


def agents(others: Sequence[Other]) -> Agents:
    """The others as the expert takes them."""

    def column(values):
        return np.array(list(values), dtype=np.float64)

    return Agents(
        np.array([o.agent_id for o in others], dtype=np.int64),
        np.array([o.kind for o in others], dtype=np.int64),
        column(o.x for o in others),
        column(o.y for o in others),
        column(o.yaw for o in others),
        column(o.speed * math.cos(o.yaw) for o in others),
        column(o.speed * math.sin(o.yaw) for o in others),
        column(0.0 for _ in others),
        column(o.half_length for o in others),
        column(o.half_width for o in others),
    )


@dataclass
class Drive:
    """What happened, one row per tick."""

    time_s: list[float] = field(default_factory=list)
    ego: list[EgoState] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    gaps_m: list[float] = field(default_factory=list)  # to the nearest other, edge to edge

    @property
    def speeds(self) -> np.ndarray:
        """Speed per tick."""
        return np.array([e.speed for e in self.ego])

    @property
    def xs(self) -> np.ndarray:
        """Place per tick."""
        return np.array([e.x for e in self.ego])

    @property
    def sides(self) -> np.ndarray:
        """Sideways place per tick, right positive; on a straight street."""
        return np.array([e.y for e in self.ego])


def drive(
    route: Sequence[RoutePoint],
    *,
    duration_s: float = 30.0,
    others: Callable[[float, EgoState], Sequence[Other]] = lambda t, ego: (),
    lights: Callable[[float], dict[int, Light]] = lambda t: {},
    start: EgoState | None = None,
    side_lanes=no_side_lanes,
    limit_mps: float = 20.0,
    **expert_parts,
) -> Drive:
    """Drive; ``others(t, ego)`` and ``lights(t)`` tell the world at each moment."""
    expert = Expert(route, side_lanes=side_lanes, config=ExpertConfig(), **expert_parts)
    full_steer_deg = math.degrees(_FULL_STEER_RAD)
    car = PursuitConfig(understeer=0.0, wheelbase_m=_WHEELBASE_M, full_steer_deg=full_steer_deg)
    planner = Planner(PlannerConfig(pursuit=car))
    yaw = math.radians(route[0].yaw)
    ego = start or EgoState(route[0].x, route[0].y, yaw, 0.0, HALF_LENGTH, HALF_WIDTH)
    log = Drive()
    for tick in range(round(duration_s / DT_S)):
        t = tick * DT_S
        present = agents(others(t, ego))
        stamp_ns = round(t * 1e9)
        pose = Pose2(ego.x, -ego.y, -ego.yaw)
        planner.observe(Ego(stamp_ns, pose, ego.speed))
        if tick % 2 == 0:
            decision = expert.step(
                Scene(
                    time_s=t, ego=ego, agents=present, speed_limit_mps=limit_mps, lights=lights(t)
                )
            )
            planner.receive(RawPlan(stamp_ns, decision.forward, decision.left, STEP_S))
        control = planner.decide(t).control
        log.time_s.append(t)
        log.ego.append(ego)
        log.decisions.append(decision)
        log.gaps_m.append(_gap(ego, present))
        ego = _moved(ego, control.throttle, control.brake, control.steer)
    return log


def _moved(ego: EgoState, throttle: float, brake: float, steer: float) -> EgoState:
    accel = throttle * _FULL_THROTTLE_MPS2 - brake * _FULL_BRAKE_MPS2 - _DRAG_PER_S * ego.speed
    speed = max(0.0, ego.speed + accel * DT_S)
    way = 0.5 * (ego.speed + speed) * DT_S
    wheel = math.tan(steer * _FULL_STEER_RAD)
    slip = math.atan(0.5 * wheel)  # of the middle of the car, where its place is told
    yaw = ego.yaw + way * math.cos(slip) * wheel / _WHEELBASE_M
    x, y = ego.x + way * math.cos(yaw + slip), ego.y + way * math.sin(yaw + slip)
    return replace(ego, x=x, y=y, yaw=yaw, speed=speed)


def _gap(ego: EgoState, present: Agents) -> float:
    """Distance between the ego's box and the nearest other's, by their outlines."""
    if len(present) == 0:
        return math.inf
    mine = _outline(ego.x, ego.y, ego.yaw, ego.half_length, ego.half_width)
    best = math.inf
    for i in range(len(present)):
        theirs = _outline(
            present.x[i],
            present.y[i],
            present.yaw[i],
            present.half_length[i],
            present.half_width[i],
        )
        best = min(best, mine.distance(theirs))
    return best


def _outline(x, y, yaw, half_length, half_width):
    from shapely import Polygon

    c, s = math.cos(yaw), math.sin(yaw)
    corners = [(1, 1), (1, -1), (-1, -1), (-1, 1)]
    return Polygon(
        [
            (
                x + c * i * half_length - s * j * half_width,
                y + s * i * half_length + c * j * half_width,
            )
            for i, j in corners
        ]
    )
