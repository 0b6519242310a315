# SPDX-License-Identifier: Apache-2.0
"""What the vehicle is told on a route, live: instruction and notice in words."""

from __future__ import annotations

import random
import zlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace

from flad_carla.evaluation.language_driver import SPLITS, LanguageDriver
from flad_carla.evaluation.road import LanePoint
from flad_carla.evaluation.turn_watch import Turn, TurnWatch
from flad_carla.evaluation.world_view import WorldState
from flad_carla.expert.driver import Decision
from flad_carla.route_planner import RoutePlanner, RoutePoint
from flad_carla.route_view import RouteViewer
from flad_carla.run_log import ExpertView
from flad_planner.language.bank import load_bank
from flad_planner.language.narrator import Narrator, NarratorConfig, Voice, Words
from flad_planner.language.notices import LightColour, Surroundings
from flad_planner.language.route_view import LANE_CHANGES, Manoeuvre, RoadCommand, RouteView

_HARD_BRAKE_MPS2 = 4.0  # as in recordings: flad_planner.language.recorded
_LOOK_BACK_S = 1.0
_WAYS = frozenset((RoadCommand.LEFT, RoadCommand.RIGHT, RoadCommand.STRAIGHT))


class RouteNarration:
    """Speaks along one route, as recordings were told; ask it at every plan. Single-threaded.

    Args:
        planner: that planned the route.
        trace: the route.
        stop_lines: of all traffic lights.
        option: which words.
        seed: of the run; with the route's name it draws the words.
        route_id: the route's name.
    """

    def __init__(
        self,
        planner: RoutePlanner,
        trace: Sequence[RoutePoint],
        stop_lines: Iterable[LanePoint],
        option: LanguageDriver,
        *,
        seed: int,
        route_id: str,
    ) -> None:
        self._viewer = RouteViewer(planner, trace, stop_lines)
        self._option = option
        drawn = zlib.crc32(f"{seed}/{route_id}".encode())
        manoeuvres = self._viewer.outline.manoeuvres
        self._told = {
            m.start_m: _another_way(m, random.Random(f"{drawn}/wrong/{i}"))
            if option.wrong_turns
            else m
            for i, m in enumerate(manoeuvres)
        }
        self.turns = TurnWatch(
            [
                _turn(planner, m, self._told[m.start_m], trace)
                for m in manoeuvres
                if m.command not in LANE_CHANGES
            ]
        )
        self._narrator = Narrator(NarratorConfig(), drawn)
        self._voice = Voice(load_bank(), drawn, SPLITS[option.phrasings])
        self._speeds: deque[tuple[float, float]] = deque()  # time and speed of the last second

    def step(
        self, decision: Decision, expert: ExpertView, state: WorldState, time_s: float
    ) -> Words:
        """What is told at this moment; ``time_s`` never goes back."""
        speed_mps = state.ego.speed_mps
        view = self._viewer.view(decision.ego_s, speed_mps, is_braking=expert.should_brake)
        view = replace(view, manoeuvres=tuple(self._told[m.start_m] for m in view.manoeuvres))
        words = self._voice.say(
            self._narrator.step(view, self._surroundings(view, expert, state, time_s), time_s)
        )
        return Words(
            instruction=self._option.instruction or words.instruction,
            notice=words.notice if self._option.notice else None,
        )

    def _surroundings(
        self, view: RouteView, expert: ExpertView, state: WorldState, time_s: float
    ) -> Surroundings:
        states = {light.actor_id: light.state for light in state.lights}
        light = states.get(expert.affected_light_id)
        lit = next((m for m in view.manoeuvres if m.facts.has_light), None)
        self._speeds.append((time_s, view.speed_mps))
        while self._speeds[0][0] < time_s - _LOOK_BACK_S - 1e-6:
            self._speeds.popleft()
        before_s, before_mps = self._speeds[0]
        loss_mps = before_mps - view.speed_mps
        is_hard = time_s > before_s and loss_mps / (time_s - before_s) >= _HARD_BRAKE_MPS2
        return Surroundings(
            light=LightColour(light) if light in tuple(LightColour) else None,
            light_m=None if lit is None else max(0.0, lit.start_m - view.along_m),
            has_pedestrian=bool(expert.pedestrians),
            has_cyclist=bool(expert.bikes),
            has_sudden_stop=is_hard and bool(expert.lane_vehicles),
        )


def _another_way(manoeuvre: Manoeuvre, rng: random.Random) -> Manoeuvre:
    """The same junction with another of its exits; itself where it has none."""
    if manoeuvre.command in LANE_CHANGES or manoeuvre.facts.exits is None:
        return manoeuvre
    others = sorted((manoeuvre.facts.exits & _WAYS) - {manoeuvre.command})
    return replace(manoeuvre, command=rng.choice(others)) if others else manoeuvre


def _turn(
    planner: RoutePlanner, planned: Manoeuvre, told: Manoeuvre, trace: Sequence[RoutePoint]
) -> Turn:
    begin = min(trace, key=lambda p: abs(p.distance - planned.start_m))
    before = [p for p in trace if p.distance < begin.distance and p.junction < 0]
    ways = planner.ways(before[-1].lane) if before else []
    return Turn(
        planned=planned.command,
        told=told.command,
        x=begin.x,
        y=begin.y,
        yaw_deg=begin.yaw,
        ways=tuple((RoadCommand(int(option)), degrees) for option, degrees in ways),
    )
