# SPDX-License-Identifier: Apache-2.0
"""Which vehicles there are and how each kind drives; no SUMO in here.

Shares and driver parameters are for town traffic: mostly cars, some vans and trucks, bicycles.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from flad_sim.catalogue import VEHICLES, VehicleSpec

# class: share of the population
_SHARES = {"car": 0.74, "van": 0.09, "truck": 0.06, "motorcycle": 0.04, "bicycle": 0.07}
# class: SUMO class, acceleration, deceleration (m/s^2), top speed (m/s), minimum gap (m)
_DRIVING = {
    "car": ("passenger", 2.2, 4.0, 42.0, 2.3),
    "van": ("passenger", 1.9, 4.0, 36.0, 2.3),
    "truck": ("passenger", 1.3, 3.8, 25.0, 2.6),
    "bus": ("passenger", 1.2, 3.8, 25.0, 2.6),
    "motorcycle": ("passenger", 2.8, 4.5, 42.0, 2.0),
    "bicycle": ("bicycle", 1.1, 3.0, 6.5, 1.2),
}
_MAX_LENGTH_M = 9.0  # longer ones do not get round the corners of small towns
_MAX_WIDTH_M = 2.75  # wider ones overhang the pavement in a bend of a 3.5 m lane
_TOO_SPECIAL = frozenset({"emergency"})


@dataclass(frozen=True, kw_only=True, slots=True)
class VehicleKind:
    """A blueprint as SUMO has to know it."""

    spec: VehicleSpec
    sumo_class: str
    accel: float
    decel: float
    top_speed_mps: float
    min_gap_m: float

    @property
    def cycles(self) -> bool:
        """Whether it is ridden by muscle, and keeps off fast roads."""
        return self.sumo_class == "bicycle"

    @property
    def type_id(self) -> str:
        """Name of the SUMO vehicle type."""
        return f"type_{self.spec.blueprint}"


def all_kinds() -> dict[str, VehicleKind]:
    """Every blueprint that takes part in traffic, by id."""
    return {
        spec.blueprint: _kind(spec)
        for spec in VEHICLES.values()
        if spec.base_type in _SHARES
        and 2.0 * spec.extent[0] <= _MAX_LENGTH_M
        and 2.0 * spec.extent[1] <= _MAX_WIDTH_M
        and spec.special_type not in _TOO_SPECIAL
    }


def _kind(spec: VehicleSpec) -> VehicleKind:
    sumo_class, accel, decel, top, gap = _DRIVING[spec.base_type]
    return VehicleKind(
        spec=spec,
        sumo_class=sumo_class,
        accel=accel,
        decel=decel,
        top_speed_mps=top,
        min_gap_m=gap,
    )


def draw_kind(rng: random.Random, kinds: dict[str, VehicleKind]) -> VehicleKind:
    """One vehicle of the mix."""
    classes = list(_SHARES)
    wanted = rng.choices(classes, [_SHARES[c] for c in classes])[0]
    fitting = [k for k in kinds.values() if k.spec.base_type == wanted]
    return rng.choice(fitting or list(kinds.values()))


def draw_color(rng: random.Random, spec: VehicleSpec) -> tuple[int, int, int]:
    """One of the blueprint's colours."""
    r, g, b = (int(v) for v in rng.choice(spec.colors).split(","))
    return (r, g, b)
