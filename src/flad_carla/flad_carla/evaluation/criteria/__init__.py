# SPDX-License-Identifier: Apache-2.0
"""What is watched while a route is driven, one criterion per file.

All of them work on plain values (``base.Situation``), in CARLA's frame, with the geometry of
scenario_runner's atomic criteria.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flad_carla.evaluation.criteria.base import Collision, Criterion, LaneMap, Situation
from flad_carla.evaluation.criteria.blocked import Blocked
from flad_carla.evaluation.criteria.collision import CollisionCriterion
from flad_carla.evaluation.criteria.deviation import Deviation
from flad_carla.evaluation.criteria.lanes import OutsideLanes
from flad_carla.evaluation.criteria.min_speed import MinSpeed
from flad_carla.evaluation.criteria.progress import RouteProgress
from flad_carla.evaluation.criteria.red_light import RedLight
from flad_carla.evaluation.criteria.stop_sign import StopSign
from flad_carla.evaluation.criteria.timeout import Timeout
from flad_carla.evaluation.protocol import Protocol
from flad_carla.evaluation.road import LanePoint
from flad_carla.route_planner import RoutePoint

__all__ = [
    "Collision",
    "Criterion",
    "RouteProgress",
    "Situation",
    "make_criteria",
]


def make_criteria(
    protocol: Protocol,
    route: Sequence[RoutePoint],
    lanes: LaneMap,
    stop_lines: Mapping[int, Sequence[LanePoint]],
    progress: RouteProgress,
) -> list[Criterion]:
    """The criteria of ``protocol`` besides progress, in the order in which they end a route."""
    criteria: list[Criterion] = [
        CollisionCriterion(protocol.version),
        RedLight(lanes, stop_lines, protocol.stop_line_scale),
        StopSign(lanes, protocol.version),
        OutsideLanes(route, lanes, protocol.lane_slack_m),
        Deviation(route),
        Blocked(),
        Timeout(protocol, progress),
    ]
    if protocol.version == 2:
        criteria.append(MinSpeed(progress))
    return criteria
