# SPDX-License-Identifier: Apache-2.0
"""The scoring protocols: which events cost what, and which limits end a route.

Three official formulas are in use: ``lb1.0`` and ``lb2.0`` multiply, ``lb2.1`` divides by one plus
a sum. The numbers are those of CARLA leaderboard's branches of these names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Keys of the results JSON, in its order.
INFRACTIONS_LB1 = (
    "collisions_pedestrian",
    "collisions_vehicle",
    "collisions_layout",
    "red_light",
    "stop_infraction",
    "outside_route_lanes",
    "route_dev",
    "route_timeout",
    "vehicle_blocked",
)
INFRACTIONS_LB2 = (
    "collisions_layout",
    "collisions_pedestrian",
    "collisions_vehicle",
    "red_light",
    "stop_infraction",
    "outside_route_lanes",
    "min_speed_infractions",
    "yield_emergency_vehicle_infractions",
    "scenario_timeouts",
    "route_dev",
    "vehicle_blocked",
    "route_timeout",
)

_MULTIPLIED = {
    "collisions_pedestrian": 0.50,
    "collisions_vehicle": 0.60,
    "collisions_layout": 0.65,
    "red_light": 0.70,
    "stop_infraction": 0.80,
}
_ADDED = {
    "collisions_pedestrian": 1.00,
    "collisions_vehicle": 0.70,
    "collisions_layout": 0.60,
    "red_light": 0.40,
    "stop_infraction": 0.25,
    "scenario_timeouts": 0.40,
    "yield_emergency_vehicle_infractions": 0.40,
}
_MULTIPLIED_LB2 = {
    **_MULTIPLIED,
    "scenario_timeouts": 0.70,
    "yield_emergency_vehicle_infractions": 0.70,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PenaltyEvent:
    """What the formula needs of an event: ``percentage`` is of off-lane route or traffic speed."""

    kind: str
    percentage: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """One protocol's coefficients and limits."""

    name: str
    version: int  # 1 or 2: layout of records, geometry of criteria
    coefficients: Mapping[str, float]
    additive: bool
    min_speed_weight: float  # 0: not scored
    infractions: tuple[str, ...]
    lane_slack_m: float  # beyond half the lane before it counts as outside
    stop_line_scale: float  # half width of the stop line in lane widths
    timeout_per_m_s: float  # lb1.0: whole budget; lb2: 0, the budget grows on the way
    timeout_base_s: float

    def penalty(self, events: Sequence[PenaltyEvent]) -> float:
        """The infraction penalty P in 0..1.

        ``lb1.0``, ``lb2.0``: the product of the coefficients. ``lb2.1``: the product of the
        off-lane factors times ``1 / (1 + sum of the coefficients)``.

        Example:
            >>> two = [PenaltyEvent(kind="red_light"), PenaltyEvent(kind="red_light")]
            >>> round(PROTOCOLS["lb2.0"].penalty(two), 2), round(PROTOCOLS["lb2.1"].penalty(two), 3)
            (0.49, 0.556)
        """
        product, total = 1.0, 0.0
        for event in events:
            if event.kind == "outside_route_lanes":
                product *= 1.0 - event.percentage / 100.0
            elif event.kind == "min_speed_infractions":
                cost = self.min_speed_weight * (1.0 - event.percentage / 100.0)
                product, total = (
                    (product, total + cost) if self.additive else (product * (1.0 - cost), total)
                )
            elif event.kind in self.coefficients:
                weight = self.coefficients[event.kind]
                if self.additive:
                    total += weight
                else:
                    product *= weight
        return product / (1.0 + total)

    def timeout_s(self, route_length_m: float) -> float:
        """Game seconds at the start of a route of this length."""
        return float(int(self.timeout_per_m_s * route_length_m + self.timeout_base_s))


PROTOCOLS: Mapping[str, Protocol] = {
    "lb1.0": Protocol(
        name="lb1.0",
        version=1,
        coefficients=_MULTIPLIED,
        additive=False,
        min_speed_weight=0.0,
        infractions=INFRACTIONS_LB1,
        lane_slack_m=1.3,
        stop_line_scale=0.4,
        timeout_per_m_s=0.8,
        timeout_base_s=5.0,
    ),
    "lb2.0": Protocol(
        name="lb2.0",
        version=2,
        coefficients=_MULTIPLIED_LB2,
        additive=False,
        min_speed_weight=0.3,
        infractions=INFRACTIONS_LB2,
        lane_slack_m=0.5,
        stop_line_scale=0.6,
        timeout_per_m_s=0.0,
        timeout_base_s=300.0,
    ),
    "lb2.1": Protocol(
        name="lb2.1",
        version=2,
        coefficients=_ADDED,
        additive=True,
        min_speed_weight=0.4,
        infractions=INFRACTIONS_LB2,
        lane_slack_m=0.5,
        stop_line_scale=0.6,
        timeout_per_m_s=0.0,
        timeout_base_s=300.0,
    ),
}
