# SPDX-License-Identifier: Apache-2.0
"""Where the vehicles of a federation were when a round began, and who trained with whom.

Drawn as SWIFT's plans are (:mod:`flad_edge.swift.picture`); of vehicles that say their place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from flad_bringup.federate.story import Story, Turn
from flad_edge.mobility.traces import Coverage
from flad_edge.swift.picture import Drawn, map_svg

_ROOM = 1.15
_LEAST_M = 20.0


@dataclass(frozen=True, kw_only=True)
class MapPicture:
    """Of one round."""

    round: int
    svg: str


def map_picture(story: Story) -> MapPicture | None:
    """The round with the most clusters; None if nobody said where it was."""
    rounds: dict[int, dict[str, Turn]] = {}
    for turn in story.turns:
        if turn.places_m:
            rounds.setdefault(turn.round, {}).setdefault(turn.client, turn)
    if not rounds:
        return None
    number = max(rounds, key=lambda n: (len(rounds[n]), -n))
    firsts = list(rounds[number].values())
    places_m = {name: place for turn in firsts for name, place in turn.places_m.items()}
    clusters = [
        Drawn(
            order=turn.pipelines[0],
            members=turn.vehicles,
            words=f"{turn.client}: {len(turn.vehicles)} vehicles",
        )
        for turn in firsts
        if len(turn.vehicles) > 1
    ]
    alone = [turn.vehicles[0] for turn in firsts if len(turn.vehicles) == 1]
    return MapPicture(round=number, svg=map_svg(clusters, alone, places_m, _around(places_m)))


def _around(places_m: dict[str, tuple[float, float]]) -> Coverage:
    """A circle around everybody."""
    xs, ys = zip(*places_m.values(), strict=True)
    x_m, y_m = (min(xs) + max(xs)) / 2.0, (min(ys) + max(ys)) / 2.0
    reach_m = max(math.hypot(x - x_m, y - y_m) for x, y in places_m.values())
    return Coverage(x_m=x_m, y_m=y_m, radius_m=max(_LEAST_M, _ROOM * reach_m))
