# SPDX-License-Identifier: Apache-2.0
"""Where the vehicles of a federation are and how long they stay, as they say on ``edge/fleet``.

What a word of a vehicle is: :class:`flad_edge.swift.fleet.Member`. A vehicle that says nothing of
its place trains all the same: nothing is then known of who is near it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flad_common.config import knob
from flad_edge.swift.cluster import Floats
from flad_edge.swift.fleet import Heard, Member, straight_on
from flad_edge.swift.problem import Bools

Places = Mapping[str, Member]
"""What vehicles said of themselves, by name."""


@dataclass(frozen=True, kw_only=True)
class PlacesConfig:
    """What an edge makes of places and stays."""

    radius_m: float = knob(150.0, unit="m", doc="R_v: how far a vehicle's radio reaches.")
    horizon_s: float = knob(30.0, unit="s", doc="Over which stability is looked at (Eq. 5).")
    lost_s: float = knob(3.0, unit="s", doc="A place counts for so long.")
    least_stay_s: float = knob(
        10.0, unit="s", doc="Who says that it stays shorter than this is put into no client."
    )
    leave_s: float = knob(
        3.0,
        unit="s",
        doc="So long before a member's stay ends, and the time of a turn before that, its cluster "
        "is told to go on without it.",
    )

    def __post_init__(self) -> None:
        for name in ("radius_m", "horizon_s", "lost_s"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("least_stay_s", "leave_s"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Nearness:
    """Of ``n`` vehicles to each other."""

    stability: Floats
    """``[n, n]``: Eq. 5, 0 where one of the two has said no place."""
    reachable: Bools
    """``[n, n]``: false where both have, and are too far apart."""


def nearness(names: Sequence[str], places: Places, config: PlacesConfig) -> Nearness:
    """Of these vehicles, from where they are and where they are going."""
    n = len(names)
    stability, reachable = np.zeros((n, n)), ~np.eye(n, dtype=np.bool_)
    known = [i for i, name in enumerate(names) if name in places]
    members = [places[names[i]] for i in known]
    if members:
        both = np.ix_(known, known)
        stability[both] = straight_on(config.radius_m, config.horizon_s)(members)
        at_m = np.array([[m.x_m, m.y_m] for m in members])
        apart_m = np.linalg.norm(at_m[:, None] - at_m[None, :], axis=2)
        reachable[both] &= apart_m <= config.radius_m
    return Nearness(stability=stability, reachable=reachable)


class Whereabouts:
    """The newest word of every vehicle. Single-threaded."""

    def __init__(self, config: PlacesConfig) -> None:
        self.config = config
        self._heard = Heard(config.lost_s)

    def hear(self, member: Member, now_s: float) -> None:
        """A vehicle has said where it is."""
        self._heard.take(member, now_s)

    def places(self, now_s: float) -> Places:
        """Of those who have spoken lately; their stay has run on since."""
        return {member.name: member for member in self._heard.present(now_s)}

    def leaving(self, vehicles: Collection[str], within_s: float, now_s: float) -> frozenset[str]:
        """Who of them says that it will be gone by then."""
        places = self.places(now_s)
        return frozenset(v for v in vehicles if v in places and places[v].dwell_s < within_s)

    def near(self, vehicle: str, members: Collection[str], now_s: float) -> bool:
        """Whether all members whose place is known are in reach of a vehicle."""
        names = [vehicle, *(m for m in members if m != vehicle)]
        reach = nearness(names, self.places(now_s), self.config).reachable
        return bool(np.all(reach[0, 1:]))
