# SPDX-License-Identifier: Apache-2.0
"""The expert in a CARLA world: the map's lanes and lights go in, ``ExpertView``s come out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import carla

from flad_carla.evaluation.road import LanePoint, Road
from flad_carla.evaluation.world_view import WorldState, WorldView
from flad_carla.expert.config import ExpertConfig
from flad_carla.expert.driver import STEP_S, Decision, Expert
from flad_carla.expert.passing import Side, SideLane
from flad_carla.expert.scene import (
    Light,
    Scene,
    StopBox,
    StopLine,
    agents_from_bodies,
    ego_from_body,
)
from flad_carla.route_planner import RoadOption, RoutePoint
from flad_carla.run_log import ExpertView, PlanView

_SPARSE_M = 50.0
_NEAR_NODE_M, _FAR_NODE_M = 4.0, 7.5
_NO_LIMIT_MPS = 50.0 / 3.6  # a simulator that knows no limit here says 0


class MapExpert:
    """An expert for one route in one world."""

    def __init__(
        self,
        town_map: carla.Map,
        route: Sequence[RoutePoint],
        view: WorldView,
        config: ExpertConfig | None = None,
    ) -> None:
        self._route = route
        self._config = config or ExpertConfig()
        self._road = road = Road(town_map)
        self.stop_lines: dict[int, tuple[LanePoint, ...]] = {
            light.actor_id: road.stop_lines(light.trigger)
            for light in view.lights
            if light.trigger is not None
        }
        lines = [
            StopLine(light_id, p.x, p.y, math.radians(p.yaw))
            for light_id, points in self.stop_lines.items()
            for p in points
        ]
        self._sides: dict[int, tuple[SideLane, SideLane]] = {}
        boxes = [b for sign in view.stop_signs if (b := _stop_box(sign, road)) is not None]
        self.driver = Expert(route, lines, boxes, self._side_lanes, self._config)
        self._sparse = _sparse(route)

    def decide(self, state: WorldState, time_s: float) -> Decision:
        """The expert's answer to one tick."""
        ego = ego_from_body(state.ego)
        limit = state.speed_limit_mps if state.speed_limit_mps > 0.5 else _NO_LIMIT_MPS
        scene = Scene(
            time_s=time_s,
            ego=ego,
            agents=agents_from_bodies(state.actors, ego, self._config.sight_m),
            speed_limit_mps=limit,
            lights={light.actor_id: Light(light.state) for light in state.lights},
        )
        return self.driver.step(scene)

    def explain(self, decision: Decision, state: WorldState, stamp_s: float) -> ExpertView:
        """The decision in the words of LMDrive's records."""
        ego = state.ego
        near = self._node(decision.ego_s + _NEAR_NODE_M)
        far = next(
            (p for p in self._sparse if p.distance > decision.ego_s + _FAR_NODE_M), self._route[-1]
        )
        plan = PlanView.from_vehicle_frame(
            ego.pose,
            decision.forward,
            decision.left,
            stamp_s=stamp_s,
            step_s=STEP_S,
            source="expert",
        )
        return ExpertView(
            target_speed_mps=decision.target_speed_mps,
            plan=plan,
            command=int(far.option),
            near_command=int(near.option),
            near_node=(near.x, near.y),
            far_node=(far.x, far.y),
            is_junction=decision.is_junction,
            vehicles=tuple(dict.fromkeys((*decision.lane_vehicles, *decision.junction_vehicles))),
            bikes=decision.bikes,
            lane_vehicles=decision.lane_vehicles,
            junction_vehicles=decision.junction_vehicles,
            pedestrians=decision.pedestrians,
            red_lights=decision.red_lights,
            stop_signs=decision.stop_signs,
            affected_light_id=decision.affected_light,
            should_slow=decision.accel_mps2 < -0.3,
            should_brake=decision.target_speed_mps < 0.1,
            reason=decision.reason,
        )

    def _node(self, s: float) -> RoutePoint:
        return self.driver.path.point(s)

    def _side_lanes(self, index: int) -> tuple[SideLane, SideLane]:
        if index not in self._sides:
            p = self._route[index]
            here = self._road.lane_at(p.x, p.y, p.z)
            self._sides[index] = (_side(self._road, here, -1), _side(self._road, here, 1))
        return self._sides[index]


def _side(road: Road, here: LanePoint | None, sign: int) -> SideLane:
    beside = None if here is None else road.beside(here, sign)
    if beside is None:
        return SideLane(Side.NONE, 0.0)
    return SideLane(Side.OPPOSITE if beside.is_opposite else Side.SAME, beside.d)


def _stop_box(sign: Any, road: Road) -> StopBox | None:
    box = sign.trigger
    lane = road.lane_at(*box.center)
    if lane is None:
        return None
    turn = math.radians(lane.yaw - box.yaw)
    c, s = abs(math.cos(turn)), abs(math.sin(turn))
    along = box.extent[0] * c + box.extent[1] * s
    across = box.extent[0] * s + box.extent[1] * c
    return StopBox(
        sign.actor_id, box.center[0], box.center[1], math.radians(lane.yaw), along, across
    )


def _sparse(route: Sequence[RoutePoint]) -> list[RoutePoint]:
    """The leaderboard's sparse route: where the command changes, and every 50 m."""
    points: list[RoutePoint] = []
    last = RoadOption.VOID
    since = 0.0
    for before, point in zip([route[0], *route], route, strict=False):
        since += point.distance - before.distance
        if point.option != last or since >= _SPARSE_M:
            points.append(point)
            since = 0.0
        last = point.option
    return [*points, route[-1]]
