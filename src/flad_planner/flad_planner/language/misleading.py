# SPDX-License-Identifier: Apache-2.0
"""Misleading instructions: what cannot be done here, said on purpose and flagged.

A vehicle that is told so must drive on safely; clips and runs use them to teach and test that.
Only what is *known* to be impossible counts: where a view says None, nothing is made up.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from flad_common.config import knob
from flad_planner.language.kinds import Instruction, Kind
from flad_planner.language.navigator import Order
from flad_planner.language.route_view import (
    LANE_CHANGES,
    Manoeuvre,
    Place,
    RoadCommand,
    RouteView,
)

_CLEAR_M = 60.0  # a stretch without junctions is at least this long
_MOVING_MPS = 1.0
_WAYS = (RoadCommand.LEFT, RoadCommand.RIGHT, RoadCommand.STRAIGHT)
_PREFIX = {Place.CROSSING: "CROSSING", Place.T_JUNCTION: "T_JUNCTION"}


@dataclass(frozen=True, kw_only=True)
class MisleadingConfig:
    """How often and how long the vehicle is misled; never, unless asked for."""

    probability: float = knob(
        0.0, unit="1", doc="Share of orders without a distance that a wrong one precedes."
    )
    hold_s: float = knob(2.0, unit="s", doc="How long a wrong instruction stands.")

    def __post_init__(self) -> None:
        if not 0.0 <= self.probability <= 1.0:
            raise ValueError(f"probability must be in 0..1, got {self.probability}")
        if not self.hold_s > 0.0:
            raise ValueError(f"hold_s must be positive, got {self.hold_s}")


def impossible(view: RouteView) -> list[Instruction]:
    """Every instruction without distance that is known to be impossible here, by number."""
    kinds: set[Kind] = set()
    junction = next((m for m in view.manoeuvres if m.command not in LANE_CHANGES), None)
    if junction is None:
        if view.has_route and view.remaining_m >= _CLEAR_M:
            kinds |= {Kind.TURN_LEFT, Kind.TURN_RIGHT, Kind.CROSSING_LEFT, Kind.CROSSING_RIGHT}
            kinds |= {Kind.T_JUNCTION_LEFT, Kind.T_JUNCTION_RIGHT}
    else:
        kinds |= _missing_ways(junction)
    if view.has_left_lane is False:
        kinds.add(Kind.CHANGE_LEFT)
    if view.has_right_lane is False:
        kinds.add(Kind.CHANGE_RIGHT)
    if view.has_roundabout is False:
        kinds |= {Kind.ROUNDABOUT_EXIT_1, Kind.ROUNDABOUT_EXIT_2, Kind.ROUNDABOUT_EXIT_3}
    if view.has_highway is False:
        kinds |= {Kind.FOLLOW_HIGHWAY, Kind.ENTER_HIGHWAY, Kind.EXIT_HIGHWAY}
    if view.is_braking and view.speed_mps > _MOVING_MPS:
        kinds.add(Kind.START)  # "go" while something makes it brake
    return [Instruction(kind) for kind in sorted(kinds)]


def _missing_ways(junction: Manoeuvre) -> set[Kind]:
    facts = junction.facts
    if facts.exits is None:
        return set()
    kinds = set()
    for way in _WAYS:
        if way in facts.exits or way is junction.command:
            continue
        names = [f"TURN_{way.name}"]
        if facts.place in _PREFIX:
            names.append(f"{_PREFIX[facts.place]}_{way.name}")
        if facts.has_light:
            names.append(f"LIGHT_{way.name}")
        kinds |= {Kind[name] for name in names if name in Kind.__members__}
    return kinds


class Misleader:
    """Puts wrong instructions before some of the right ones, by seed."""

    def __init__(self, config: MisleadingConfig, seed: int) -> None:
        self._config = config
        self._seed = seed
        self._order_number: int | None = None
        self._instruction: Instruction | None = None
        self._until_s = 0.0

    def step(self, order: Order, view: RouteView, time_s: float) -> Instruction | None:
        """The wrong instruction that stands now, or None; drawn once for every new order.

        An order that states a distance is not delayed: it would no longer be true.
        """
        if order.number != self._order_number:
            self._order_number = order.number
            self._instruction = None
            if not order.instruction.arguments:
                self._instruction = self._draw(order.number, view)
            self._until_s = time_s + self._config.hold_s
        if time_s >= self._until_s:
            self._instruction = None
        return self._instruction

    def _draw(self, order_number: int, view: RouteView) -> Instruction | None:
        rng = random.Random(f"{self._seed}/misleading/{order_number}")
        if rng.random() >= self._config.probability:
            return None
        candidates = impossible(view)
        return rng.choice(candidates) if candidates else None
