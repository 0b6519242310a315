# SPDX-License-Identifier: Apache-2.0
"""Decides which instruction applies, from views of the route ahead.

An instruction holds until what it asks for is done; nothing else replaces it but a manoeuvre that
comes up, another route, or a request about the speed. Draws depend on the seed and on how many
instructions there were, so how often the navigator is asked changes nothing but what falls on an
edge between two steps.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, fields
from enum import Enum

from flad_common.config import knob
from flad_planner.language.kinds import KINDS, MAX_METRES, Instruction, Kind
from flad_planner.language.route_view import (
    LANE_CHANGES,
    SIGHT_M,
    Manoeuvre,
    Place,
    Request,
    RoadCommand,
    RouteView,
)

_SLOW = Kind.SLOW_DOWN
_STANDING_MPS = 0.5
_STOPPED_MPS = 0.1
_WAYS = {RoadCommand.LEFT: "LEFT", RoadCommand.RIGHT: "RIGHT", RoadCommand.STRAIGHT: "STRAIGHT"}


@dataclass(frozen=True, kw_only=True)
class NavigatorConfig:
    """When something is said, and how often in which form."""

    announce_min_m: float = knob(8.0, unit="m", doc="Nearest that a manoeuvre is announced.")
    announce_max_m: float = knob(35.0, unit="m", doc="Farthest that a manoeuvre is announced.")
    junction_m: float = knob(
        12.0, unit="m", doc="How far before the junction 'until the next junction' ends."
    )
    distance_probability: float = knob(
        0.5, unit="1", doc="Share of manoeuvres announced with their distance, where far enough."
    )
    light_probability: float = knob(
        0.7, unit="1", doc="Share of turns at lights that are told by the lights."
    )
    pair_probability: float = knob(
        0.5, unit="1", doc="Share of close turns that are told two at once."
    )
    pair_gap_m: float = knob(30.0, unit="m", doc="Most road between two turns told at once.")
    follow_for_probability: float = knob(
        0.4, unit="1", doc="Share of 'follow' that ends after a stated distance."
    )
    point_probability: float = knob(
        0.2, unit="1", doc="Share of those that name a point instead of a distance."
    )
    follow_min_m: float = knob(12.0, unit="m", doc="Shortest stated distance to follow.")
    follow_max_m: float = knob(45.0, unit="m", doc="Longest stated distance to follow.")
    straight_deg: float = knob(10.0, unit="deg", doc="Most bend of a road that is called straight.")
    start_speed_mps: float = knob(6.0, unit="m/s", doc="Speed at which a start is over.")
    start_m: float = knob(25.0, unit="m", doc="Distance after which a start is over.")
    slow_factor: float = knob(0.7, unit="1", doc="Share of its speed a slowed vehicle keeps.")
    slow_m: float = knob(40.0, unit="m", doc="Distance after which slowing down is given up.")

    def __post_init__(self) -> None:
        for knob_field in fields(self):
            value = getattr(self, knob_field.name)
            most = 1.0 if knob_field.metadata["unit"] == "1" else math.inf
            if not 0.0 <= value <= most:
                raise ValueError(f"{knob_field.name} must be in 0..{most:g}, got {value}")
        if not 2.0 <= self.announce_min_m <= self.announce_max_m:
            raise ValueError(
                "2 <= announce_min_m <= announce_max_m must hold, got "
                f"{self.announce_min_m} and {self.announce_max_m}"
            )
        if not 2.0 <= self.follow_min_m <= self.follow_max_m <= SIGHT_M - self.announce_max_m:
            raise ValueError(
                "2 <= follow_min_m <= follow_max_m <= sight - announce_max_m must hold, got "
                f"{self.follow_min_m}, {self.follow_max_m} and {SIGHT_M:g} - {self.announce_max_m}"
            )


class Ending(Enum):
    """How an instruction ended."""

    DONE = "done"  # what its words ask for has happened
    REPLACED = "replaced"  # another took its place: it had no end of its own, or was cut short


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """The instruction that applies now."""

    number: int  # counts instructions from 0; the same number is the same order
    instruction: Instruction
    ended: Ending | None = None  # set in the one step that replaced an order: how that one ended


@dataclass(frozen=True, kw_only=True, slots=True)
class _Active:
    instruction: Instruction
    until_m: float = math.inf  # over when this far along
    faster_than_mps: float = math.inf  # or when this fast
    slower_than_mps: float = -1.0  # or when this slow
    yields: bool = False  # to the announcement of a manoeuvre
    straight: bool = False  # only while the road is
    num_manoeuvres: int = 0  # how many it covers,
    done_m: float = -math.inf  # and where the last of them ends


class Navigator:
    """One vehicle's navigator; not for several threads.

    >>> from flad_planner.language.route_view import OutlinePoint, RouteOutline
    >>> points = [OutlinePoint(float(x), 0.0, 3 if 60 <= x < 80 else 4) for x in range(200)]
    >>> outline, navigator = RouteOutline(points), Navigator(NavigatorConfig(), seed=1)
    >>> navigator.step(outline.view(0.0, 0.0)).instruction.kind.name
    'START'
    """

    def __init__(self, config: NavigatorConfig, seed: int) -> None:
        self._config = config
        self._seed = seed
        self._number = -1
        self.reset()

    def reset(self) -> None:
        """Forget the route; the next view starts afresh. Orders are counted on."""
        self._active: _Active | None = None
        self._route_id: int | None = None
        self._done_m = -math.inf  # manoeuvres that end up to here are dealt with
        self._num_done = 0
        self._announce_now_m: float | None = None
        self._may_start = True
        self._request = Request.DRIVE

    def step(self, view: RouteView) -> Order:
        """The order for this moment."""
        ended = None
        if self._route_id is not None and view.route_id != self._route_id:
            ended = Ending.REPLACED if self._active is not None else None
            self.reset()
        self._route_id = view.route_id
        is_asked = view.request is not self._request
        self._request = view.request
        if self._active is not None:
            ended = self._ending(self._active, view, is_asked)
            if ended is None:
                return Order(number=self._number, instruction=self._active.instruction)
            self._finish(self._active, view)
        before, self._active = self._active, None
        chosen = self._choose(view, random.Random(f"{self._seed}/{self._number + 1}"), is_asked)
        self._active = chosen
        self._may_start = chosen.instruction.kind is Kind.STOP
        if before is not None and not _has_end(before) and before.instruction == chosen.instruction:
            return Order(number=self._number, instruction=chosen.instruction)
        self._number += 1
        return Order(number=self._number, instruction=chosen.instruction, ended=ended)

    def _ending(self, active: _Active, view: RouteView, is_asked: bool) -> Ending | None:
        is_over = (
            view.along_m >= active.until_m
            or view.speed_mps >= active.faster_than_mps
            or view.speed_mps <= active.slower_than_mps
        )
        if active.instruction.kind is Kind.STOP:  # a vehicle that stands stays told to
            if view.request is Request.STOP:
                return None
            return Ending.DONE if is_over else Ending.REPLACED
        if is_over:
            return Ending.DONE if _has_end(active) else Ending.REPLACED
        if is_asked and (view.request is not Request.DRIVE or active.instruction.kind is _SLOW):
            return Ending.REPLACED
        if active.instruction.kind is Kind.DRIVE_FREELY and view.has_route:
            return Ending.REPLACED
        if active.yields and self._is_announced(view):
            reached = active.instruction.kind in (Kind.UNTIL_JUNCTION, Kind.UNTIL_JUNCTION_IN)
            return Ending.DONE if reached else Ending.REPLACED
        if active.straight and abs(view.bend_deg) > 2.0 * self._config.straight_deg:
            return Ending.REPLACED
        return None

    def _finish(self, active: _Active, view: RouteView) -> None:
        if active.num_manoeuvres and view.along_m >= active.until_m:
            self._done_m = active.done_m
            self._num_done += active.num_manoeuvres
            self._announce_now_m = None

    def _choose(self, view: RouteView, rng: random.Random, is_asked: bool) -> _Active:
        c = self._config
        if view.request is Request.STOP:
            return _Active(
                instruction=Instruction(Kind.STOP),
                slower_than_mps=_STOPPED_MPS,
            )
        is_fast = view.speed_mps > _STANDING_MPS
        if view.request is Request.SLOW_DOWN and is_asked and is_fast:
            return _Active(
                instruction=Instruction(_SLOW),
                slower_than_mps=c.slow_factor * view.speed_mps,
                until_m=view.along_m + c.slow_m,
            )
        if not view.has_route:
            return _Active(instruction=Instruction(Kind.DRIVE_FREELY))
        if self._is_announced(view, c.follow_min_m):  # no room for anything before it
            return self._manoeuvre(view, rng)
        if self._may_start and view.speed_mps < _STANDING_MPS:
            return _Active(
                instruction=Instruction(Kind.START),
                faster_than_mps=c.start_speed_mps,
                until_m=view.along_m + c.start_m,
                yields=True,
            )
        return self._follow(view, rng)

    def _ahead(self, view: RouteView) -> list[Manoeuvre]:
        return [m for m in view.manoeuvres if m.end_m > max(self._done_m, view.along_m)]

    def _announce_m(self) -> float:
        """How far before its start the next manoeuvre is announced."""
        if self._announce_now_m is not None:
            return self._announce_now_m
        rng = random.Random(f"{self._seed}/announce/{self._num_done}")
        return rng.uniform(self._config.announce_min_m, self._config.announce_max_m)

    def _is_announced(self, view: RouteView, early_m: float = 0.0) -> bool:
        ahead = self._ahead(view)
        return bool(ahead) and ahead[0].start_m - view.along_m <= self._announce_m() + early_m

    def _manoeuvre(self, view: RouteView, rng: random.Random) -> _Active:
        first, *others = self._ahead(view)
        c = self._config
        second = others[0] if others else None
        says_pair, says_light, says_distance = (rng.random() for _ in range(3))
        distance_m = round(first.start_m - view.along_m)
        has_distance = says_distance < c.distance_probability and (
            c.announce_min_m <= distance_m <= MAX_METRES
        )
        num, until_m = 1, first.end_m
        if second is not None and says_pair < c.pair_probability and self._is_pair(first, second):
            name = f"{_WAYS[first.command]}_THEN_{_WAYS[second.command]}"
            instruction = Instruction(Kind[name])
            num, until_m = 2, second.end_m
        else:
            name = self._name(first, says_light < c.light_probability)
            if name == "KEEP_STRAIGHT":
                distance_m = min(MAX_METRES, max(2, round(first.end_m - view.along_m)))
            instruction = _instruction(name, distance_m if has_distance else None)
        return _Active(
            instruction=instruction,
            until_m=min(until_m, view.along_m + view.remaining_m - 0.5),
            num_manoeuvres=num,
            done_m=until_m,
        )

    def _is_pair(self, first: Manoeuvre, second: Manoeuvre) -> bool:
        gap_m = second.start_m - first.end_m
        both_turn = first.command in _WAYS and second.command in _WAYS
        is_plain = Place.ROUNDABOUT not in (first.facts.place, second.facts.place)
        return both_turn and is_plain and gap_m <= self._config.pair_gap_m

    def _name(self, manoeuvre: Manoeuvre, says_light: bool) -> str:
        """The kind's name without ``_IN``."""
        facts, command = manoeuvre.facts, manoeuvre.command
        if command in LANE_CHANGES:
            side = "LEFT" if command is RoadCommand.CHANGE_LANE_LEFT else "RIGHT"
            return f"CHANGE_{side}"
        if facts.place is Place.HIGHWAY_ENTRY:
            return "ENTER_HIGHWAY"
        if facts.place is Place.HIGHWAY_EXIT:
            return "EXIT_HIGHWAY"
        if facts.place is Place.ROUNDABOUT and facts.exit_number in (1, 2, 3):
            return f"ROUNDABOUT_EXIT_{facts.exit_number}"
        way = _WAYS[command]
        if facts.has_light and says_light:
            return f"LIGHT_{way}"
        if facts.place is Place.CROSSING:
            return f"CROSSING_{way}"
        if facts.place is Place.T_JUNCTION:
            return f"T_JUNCTION_{way}"
        return "KEEP_STRAIGHT" if way == "STRAIGHT" else f"TURN_{way}"

    def _follow(self, view: RouteView, rng: random.Random) -> _Active:
        c = self._config
        ahead = self._ahead(view)
        gap_m = ahead[0].start_m - view.along_m if ahead else math.inf
        free_m = min(gap_m - self._announce_m(), view.remaining_m - 1.0, c.follow_max_m)
        is_straight = abs(view.bend_deg) <= c.straight_deg
        is_junction = bool(ahead) and ahead[0].command not in LANE_CHANGES
        says_distance, says_point = rng.random(), rng.random()
        if says_distance < c.follow_for_probability and free_m >= c.follow_min_m:
            if says_point < c.point_probability and (active := self._point(view, free_m)):
                return active
            distance_m = round(rng.uniform(c.follow_min_m, free_m))
            name = "FOLLOW_HIGHWAY" if view.on_highway else "FOLLOW_ROAD"
            if is_straight and not view.on_highway and rng.random() < 0.5:
                name = "KEEP_STRAIGHT"
            return _Active(
                instruction=Instruction(Kind[f"{name}_FOR"], {"distance_m": distance_m}),
                until_m=view.along_m + distance_m,
                yields=True,
            )
        if view.on_highway:
            return self._open(Kind.FOLLOW_HIGHWAY, view)
        choices = [Kind.FOLLOW_ROAD]
        if is_straight:
            choices.append(Kind.KEEP_STRAIGHT)
        if is_junction and gap_m > c.junction_m + c.follow_min_m:
            choices.append(Kind.UNTIL_JUNCTION)
        kind = rng.choice(choices)
        if kind is not Kind.UNTIL_JUNCTION:
            return self._open(kind, view)
        self._announce_now_m = c.junction_m
        said_m = round(gap_m) if rng.random() < c.distance_probability else None
        return _Active(instruction=_instruction(kind.name, said_m), yields=True)

    def _open(self, kind: Kind, view: RouteView) -> _Active:
        return _Active(
            instruction=Instruction(kind),
            yields=True,
            straight=kind is Kind.KEEP_STRAIGHT,
        )

    def _point(self, view: RouteView, free_m: float) -> _Active | None:
        """An order to reach the view's target, if nothing has to be said on the way there."""
        if view.target is None:
            return None
        forward_m, left_m = view.target
        length_m = math.hypot(forward_m, left_m)
        if length_m > free_m or round(forward_m) < 2:
            return None
        arguments: dict[str, int | str] = {
            "ahead_m": round(forward_m),
            "side_m": round(abs(left_m)),
            "side": "left" if left_m > 0.0 else "right",
        }
        return _Active(
            instruction=Instruction(Kind.GO_TO_POINT, arguments),
            until_m=view.along_m + length_m,
            yields=True,
        )


def _has_end(active: _Active) -> bool:
    return KINDS[active.instruction.kind].has_end


def _instruction(name: str, distance_m: int | None) -> Instruction:
    """The kind of this name, in its form with a distance if there is one and it has such a form."""
    for form in (f"{name}_IN", f"{name}_FOR"):
        if distance_m is not None and form in Kind.__members__:
            return Instruction(Kind[form], {"distance_m": distance_m})
    return Instruction(Kind[name])
