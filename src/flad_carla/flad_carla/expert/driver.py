# SPDX-License-Identifier: Apache-2.0
"""The expert: one scene in, five waypoints out.

Its speed is the least of what the terms allow (intelligent driver model on each): who drives
ahead, who will cross, lights, stop signs, bends. Its path is the route, shifted sideways to pass
what blocks the lane. See ``hazards`` (others), ``rules`` (lights, signs), ``lane_use`` (lanes).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flad_carla.expert.config import ExpertConfig
from flad_carla.expert.hazards import Corridor, InPath, Meeting, agents_in_path, meetings
from flad_carla.expert.idm import Lead
from flad_carla.expert.lane_use import LaneUse, Places, SideLanes, no_side_lanes
from flad_carla.expert.passing import bend_speed
from flad_carla.expert.path import RoutePath, speed_envelope
from flad_carla.expert.profile import Profile, Roller, resting_speed
from flad_carla.expert.rules import Rules, RuleView, held_by_lights
from flad_carla.expert.scene import Agents, EgoState, FloatArray, Kind, Scene, StopBox, StopLine
from flad_carla.route_planner import RoutePoint

STEP_S = 0.5
NUM_POINTS = 5
_BACK_M = 12.0  # the corridor starts this far behind
_WALKER_HEADWAY_S = 0.3
_CROSSING_HEADWAY_S = 0.3
_LEAVE_BEND_M = 4.0


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the expert wants, and why."""

    forward: tuple[float, ...]  # waypoints in the ego's frame, metres
    left: tuple[float, ...]
    target_speed_mps: float  # in 0.75 s: what the planner's law will ask for
    accel_mps2: float
    reason: str
    ego_s: float
    side_m: float  # of the ego from its path, right positive
    is_junction: bool
    lane_vehicles: tuple[int, ...] = ()  # ids of those that slow it down
    junction_vehicles: tuple[int, ...] = ()
    bikes: tuple[int, ...] = ()
    pedestrians: tuple[int, ...] = ()
    red_lights: tuple[int, ...] = ()
    stop_signs: tuple[int, ...] = ()
    affected_light: int = -1
    source: str = "expert"  # who decided, as plans say it


class Expert:
    """Drives one route; call :meth:`step` once per plan, in order of time. Single-threaded."""

    def __init__(
        self,
        route: Sequence[RoutePoint],
        stop_lines: Sequence[StopLine] = (),
        stop_boxes: Sequence[StopBox] = (),
        side_lanes: SideLanes = no_side_lanes,
        config: ExpertConfig | None = None,
    ) -> None:
        self._config = config or ExpertConfig()
        self.path = RoutePath(route)
        self._lines = tuple(stop_lines)
        self._rules = Rules(self.path, stop_lines, stop_boxes, self._config)
        self._roller = Roller(self._config)
        self._lanes = LaneUse(self.path, side_lanes, self._config)
        self._s = 0.0
        self._side = 0.0
        self._time_s: float | None = None
        self._stood_s = 0.0

    def step(self, scene: Scene) -> Decision:
        """Decide for one tick."""
        dt_s = 0.0 if self._time_s is None else max(0.0, scene.time_s - self._time_s)
        first = self._time_s is None
        self._time_s = scene.time_s
        ego, agents, c = scene.ego, scene.agents, self._config
        self._s, self._side = self.path.project(ego.x, ego.y, None if first else self._s)
        self._stood_s = self._stood_s + dt_s if ego.speed < c.stopped_mps else 0.0
        front_s = self._s + ego.half_length
        lanes = self._lanes
        lanes.move_on(agents, scene.time_s, self._s, self._stood_s)

        corridor = self._corridor()
        in_path = agents_in_path(corridor, agents, ego, self._s, c)
        room = self._room(in_path, front_s)
        rules = self._rules.look(front_s, ego.speed, scene.lights, room, 2 * ego.half_length)
        place = Places.of(corridor, agents)
        blocked = lanes.pass_blockers(in_path, agents, place, ego, rules)
        if blocked.replanned:
            corridor = self._corridor()
            in_path = agents_in_path(corridor, agents, ego, self._s, c)
            place = Places.of(corridor, agents)
        leads = self._followed(in_path, agents, front_s, blocked.waiting_for)
        leads += list(rules.leads)
        leads += lanes.change(agents, place, ego)

        envelope = self._envelope(scene)
        free = self._roller.roll(
            ego.speed, envelope, leads, horizon_s=c.forecast_s, step_s=c.forecast_step_s
        )
        meets = self._meetings(corridor, scene, free, in_path)
        lanes.evade(agents, place, ego, dt_s)
        crossing = [self._meeting_lead(m, agents) for m in meets]
        profile = self._roller.roll(
            ego.speed, envelope, [*leads, *crossing], horizon_s=STEP_S * NUM_POINTS, step_s=0.1
        )
        return self._decision(ego, agents, profile, in_path, meets, rules)

    # --- the path -------------------------------------------------------------------------------

    def _corridor(self) -> Corridor:
        s = np.arange(self._s - _BACK_M, self._s + self._config.sight_m, 1.0)
        d = self._lanes.offset(s)
        x, y, yaw = self.path.at(s, d)
        yaw = yaw + np.arctan(np.gradient(d, s))
        return Corridor(s, x, y, yaw)

    def _envelope(self, scene: Scene) -> FloatArray:
        c = self._config
        s = self._s + np.arange(0.0, c.sight_m, 1.0)
        curvature = np.interp(s, self.path.s, self.path.curvature)
        top = min(c.max_speed_mps, c.limit_share * scene.speed_limit_mps)
        envelope = speed_envelope(
            curvature, 1.0, c.lateral_mps2, c.bend_braking_mps2, c.min_bend_mps
        )
        # the planner speeds up for where the car will be: do not leave a bend before its end
        envelope = np.minimum(envelope, np.interp(s - _LEAVE_BEND_M, s, envelope))
        shift = self._lanes.shift
        if shift is not None:
            swerve = (s > shift.s0 - 2.0) & (s < shift.s3)
            envelope = np.where(swerve, np.minimum(envelope, bend_speed(shift, c)), envelope)
        return np.asarray(np.minimum(envelope, max(top, 1.0)))

    # --- others ---------------------------------------------------------------------------------

    def _room(self, in_path: Sequence[InPath], front_s: float) -> float:
        """Free road up to the next slow vehicle."""
        slow = [hit.s - front_s for hit in in_path if hit.speed_along_mps < 1.0]
        return min(slow, default=math.inf)

    def _followed(
        self, in_path: Sequence[InPath], agents: Agents, front_s: float, waiting_for: frozenset[int]
    ) -> list[Lead]:
        c = self._config
        leads = []
        for hit in in_path:
            agent_id = int(agents.ids[hit.row])
            kind = Kind(int(agents.kind[hit.row]))
            if kind == Kind.WALKER:
                s0, headway, speed = (
                    c.gap_walker_m,
                    _WALKER_HEADWAY_S,
                    min(hit.speed_along_mps, 0.0),
                )
            else:
                s0, headway = c.gap_vehicle_m, c.headway_s
                speed = hit.speed_along_mps
                if abs(hit.aligned) < 0.5:  # across our path: it may stop there
                    speed = min(max(speed, 0.0), 1.0)
            if agent_id in waiting_for:
                s0 = max(s0, min(c.shift_m - 2.0, hit.s - front_s))  # room to swerve
            s0 = max(1.0, s0 - 0.1 * max(0.0, self._stood_s - c.patience_s))
            word = {Kind.WALKER: "pedestrian", Kind.BICYCLE: "bicycle"}.get(kind, "vehicle")
            leads.append(Lead(hit.s - front_s, speed, s0, headway, f"{word} ahead", agent_id))
        return leads

    def _meetings(
        self, corridor: Corridor, scene: Scene, free: Profile, in_path: Sequence[InPath]
    ) -> list[Meeting]:
        s = self._s + free.way_m
        fade = self._side_fade(free.way_m)
        x, y, yaw = self.path.at(s, self._lanes.offset(s) + fade)
        yaw = yaw + np.arctan(
            np.gradient(self._lanes.offset(s) + fade, np.maximum(s, 0.0) + 1e-6 * np.arange(len(s)))
        )
        yaw[0] = scene.ego.yaw
        skip = [h.row for h in in_path if h.aligned > 0.8 and h.speed_along_mps >= 0.0]
        limit = held_by_lights(scene.agents, self._lines, scene.lights)
        return meetings(
            corridor,
            scene.agents,
            scene.ego,
            np.stack([x, y, yaw], axis=1),
            free.way_m,
            free.times_s,
            limit,
            skip,
            self._config,
        )

    def _meeting_lead(self, meeting: Meeting, agents: Agents) -> Lead:
        c = self._config
        agent_id = int(agents.ids[meeting.row])
        kind = Kind(int(agents.kind[meeting.row]))
        relax = 0.05 * max(0.0, self._stood_s - c.patience_s)
        if kind == Kind.WALKER:
            gap = max(meeting.way_m - 0.3, 0.0)
            return Lead(
                gap,
                0.0,
                max(0.5, c.gap_walker_m - relax),
                _WALKER_HEADWAY_S,
                "pedestrian",
                agent_id,
            )
        speed = meeting.speed_along_mps
        word = "oncoming vehicle" if meeting.oncoming else "crossing vehicle"
        speed = 0.0 if meeting.oncoming else max(0.0, speed)
        return Lead(
            max(meeting.way_m - 0.3, 0.0),
            speed,
            max(0.5, c.gap_crossing_m - relax),
            _CROSSING_HEADWAY_S,
            word if speed < 1.0 else "vehicle cutting in",
            agent_id,
        )

    # --- the answer -----------------------------------------------------------------------------

    def _side_fade(self, way_m: FloatArray) -> FloatArray:
        """The sideways error, corrected over some metres."""
        here = float(self._lanes.offset(np.array([self._s]))[0])
        return np.asarray((self._side - here) * np.exp(-way_m / self._config.recover_m))

    def _decision(
        self,
        ego: EgoState,
        agents: Agents,
        profile: Profile,
        in_path: Sequence[InPath],
        meets: Sequence[Meeting],
        rules: RuleView,
    ) -> Decision:
        times = STEP_S * np.arange(1, NUM_POINTS + 1)
        way = np.interp(times, profile.times_s, profile.way_m)
        s = self._s + way
        x, y, _ = self.path.at(s, self._lanes.offset(s) + self._side_fade(way))
        c, n = math.cos(ego.yaw), math.sin(ego.yaw)
        forward = c * (x - ego.x) + n * (y - ego.y)
        right = -n * (x - ego.x) + c * (y - ego.y)
        slows = profile.accel_mps2 < -0.1 or ego.speed < 0.5
        kinds = {int(agents.ids[r]): Kind(int(agents.kind[r])) for r in range(len(agents))}
        lead = profile.lead
        here = [int(agents.ids[h.row]) for h in in_path] if slows else []
        cross = [int(agents.ids[m.row]) for m in meets] if slows else []
        nearest = here[:1]
        reason = (
            f"{lead.reason} in {lead.gap_m:.1f} m" if lead is not None and slows else "free road"
        )
        return Decision(
            forward=tuple(float(v) for v in forward),
            left=tuple(float(-v) for v in right),
            target_speed_mps=resting_speed(profile, 0.75),
            accel_mps2=profile.accel_mps2,
            reason=reason,
            ego_s=self._s,
            side_m=self._side - float(self._lanes.offset(np.array([self._s]))[0]),
            is_junction=self.path.is_junction(self._s),
            lane_vehicles=tuple(i for i in nearest if kinds[i] in (Kind.VEHICLE, Kind.OBSTACLE)),
            junction_vehicles=tuple(i for i in cross if kinds[i] == Kind.VEHICLE),
            bikes=tuple(i for i in (*nearest, *cross) if kinds[i] == Kind.BICYCLE),
            pedestrians=tuple(i for i in (*nearest, *cross) if kinds[i] == Kind.WALKER),
            red_lights=rules.red_lights,
            stop_signs=rules.stop_signs,
            affected_light=rules.next_light,
        )
