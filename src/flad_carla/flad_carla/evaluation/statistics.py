# SPDX-License-Identifier: Apache-2.0
"""Scores of routes and of a whole run, in the shape of CARLA leaderboard's results JSON.

The file itself (atomic writing, resuming) is ``checkpoint``; the formulas are ``protocol``.
"""

from __future__ import annotations

import statistics as py_statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flad_carla.evaluation.protocol import PenaltyEvent, Protocol

Json = dict[str, Any]

LABELS = (
    "Avg. driving score",
    "Avg. route completion",
    "Avg. infraction penalty",
    "Collisions with pedestrians",
    "Collisions with vehicles",
    "Collisions with layout",
    "Red lights infractions",
    "Stop sign infractions",
    "Off-road infractions",
    "Route deviations",
    "Route timeouts",
    "Agent blocked",
    "Yield emergency vehicles infractions",
    "Scenario timeouts",
    "Min speed infractions",
)
_LABEL_KINDS = (
    "collisions_pedestrian",
    "collisions_vehicle",
    "collisions_layout",
    "red_light",
    "stop_infraction",
    "outside_route_lanes",
    "route_dev",
    "route_timeout",
    "vehicle_blocked",
    "yield_emergency_vehicle_infractions",
    "scenario_timeouts",
    "min_speed_infractions",
)

# Reasons in a "Failed - ..." status.
DEVIATED = "Agent deviated from the route"
BLOCKED = "Agent got blocked"
TIMED_OUT = "Agent timed out"
CRASHED = "Agent crashed"
NOT_SET_UP = "Agent couldn't be set up"
BAD_SENSORS = "Agent's sensors were invalid"
SIMULATION_CRASHED = "Simulation crashed"
FAILURES = (DEVIATED, BLOCKED, TIMED_OUT, CRASHED, NOT_SET_UP, BAD_SENSORS, SIMULATION_CRASHED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One infraction, as a criterion books it."""

    kind: str  # key of the results JSON's infractions
    message: str
    x: float = 0.0
    y: float = 0.0
    sim_time_s: float = 0.0
    percentage: float = 0.0  # outside_route_lanes: of the route; min speed: of the traffic
    outside_m: float = 0.0  # outside_route_lanes only
    actor_id: int = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class RouteOutcome:
    """What is known when one route run ends."""

    route_id: str  # as in the file
    index: int
    repetition: int = 0
    town: str = ""
    completion: float = 0.0  # percent
    reached: bool = False  # the end of the route was reached
    events: Sequence[Event] = ()
    failure: str = ""  # one of FAILURES, empty for none
    detail: str = ""  # what went wrong, for a human
    route_length_m: float = 0.0  # dense
    duration_game_s: float = 0.0
    duration_system_s: float = 0.0
    meta: Mapping[str, Any] = field(default_factory=dict)


def route_record(outcome: RouteOutcome, protocol: Protocol) -> Json:
    """One entry of ``_checkpoint.records``."""
    completion = min(max(outcome.completion, 0.0), 100.0)
    penalty = protocol.penalty(
        [PenaltyEvent(kind=e.kind, percentage=e.percentage) for e in outcome.events]
    )
    composed = max(completion * penalty, 0.0)
    if protocol.version == 2:
        completion, penalty, composed = (round(v, 6) for v in (completion, penalty, composed))
    infractions: dict[str, list[str]] = {kind: [] for kind in protocol.infractions}
    for event in outcome.events:
        if event.kind in infractions:
            infractions[event.kind].append(event.message)
    record: Json = {
        "route_id": _record_id(outcome, protocol),
        "index": outcome.index,
        "status": _status(outcome, protocol, composed),
        "infractions": infractions,
        "scores": {
            "score_route": completion,
            "score_penalty": penalty,
            "score_composed": composed,
        },
        "meta": {
            "route_length": outcome.route_length_m,
            "duration_game": outcome.duration_game_s,
            "duration_system": outcome.duration_system_s,
            "town": outcome.town,
            "repetition": outcome.repetition,
            "outside_route_lanes_m": sum(e.outside_m for e in outcome.events),
            **({"detail": outcome.detail} if outcome.detail else {}),
            **outcome.meta,
        },
    }
    if protocol.version == 2:
        record["num_infractions"] = sum(len(v) for v in infractions.values())
    return record


def global_record(records: Sequence[Json], num_asked: int, protocol: Protocol) -> Json:
    """``_checkpoint.global_record``: means over the routes that were asked for (unrun is 0).

    Infractions are counts per km driven over all routes together (leaderboard 2.x's definition:
    the per-km figures of 1.0 are sums of per-route rates, which nobody can compare);
    ``outside_route_lanes`` is the km outside per km driven.
    """
    count = max(num_asked, 1)
    names = ("score_route", "score_penalty", "score_composed")
    columns = {n: [float(r["scores"][n]) for r in records] for n in names}
    means = {n: sum(v) / count for n, v in columns.items()}
    spread = {n: py_statistics.stdev(v) if len(v) > 1 else 0.0 for n, v in columns.items()}
    driven_km = sum(
        r["scores"]["score_route"] / 100.0 * r["meta"]["route_length"] / 1000.0 for r in records
    )
    counts = {k: sum(len(r["infractions"].get(k, ())) for r in records) for k in _LABEL_KINDS}
    outside_km = sum(r["meta"]["outside_route_lanes_m"] for r in records) / 1000.0
    per_km = {k: n / max(driven_km, 0.001) for k, n in counts.items() if k in protocol.infractions}
    per_km["outside_route_lanes"] = outside_km / max(driven_km, 0.001)
    if protocol.version == 2:
        means, spread, per_km = (
            {k: round(v, 6) for k, v in d.items()} for d in (means, spread, per_km)
        )
    failed = [r for r in records if r["status"].startswith("Failed")]
    complete = len(records) == num_asked
    result: Json = {
        "index": -1,
        "route_id": -1,
        "status": "Failed" if failed else ("Completed" if complete else "Started"),
        "infractions": {k: per_km[k] for k in protocol.infractions},
        ("scores_mean" if protocol.version == 2 else "scores"): means,
        "scores_std_dev": spread,
        "meta": {
            "total_length": sum(r["meta"]["route_length"] for r in records),
            "duration_game": sum(r["meta"]["duration_game"] for r in records),
            "duration_system": sum(r["meta"]["duration_system"] for r in records),
            "exceptions": [[r["route_id"], r["index"], r["status"]] for r in failed],
            "protocol": protocol.name,
            "driven_km": driven_km,
            "infraction_counts": counts,
            "infractions_unit": "counts per km driven, all routes together",
        },
    }
    return result


def values_and_labels(record: Json, protocol: Protocol) -> tuple[list[str], list[str]]:
    """The ``values`` and ``labels`` columns of the results file."""
    scores = record["scores_mean" if protocol.version == 2 else "scores"]
    numbers = [scores["score_composed"], scores["score_route"], scores["score_penalty"]]
    kinds = [k for k in _LABEL_KINDS if k in protocol.infractions]
    numbers += [record["infractions"][k] for k in kinds]
    return [f"{n:.3f}" for n in numbers], list(LABELS[: 3 + len(kinds)])


def _record_id(outcome: RouteOutcome, protocol: Protocol) -> str:
    name = f"RouteScenario_{outcome.route_id}"
    if protocol.version == 2 or outcome.repetition:
        name += f"_rep{outcome.repetition}"
    return name


def _status(outcome: RouteOutcome, protocol: Protocol, composed: float) -> str:
    if outcome.failure:
        return f"Failed - {outcome.failure}"
    if not outcome.reached:
        return "Failed"
    if protocol.version == 2 and composed >= 100.0 and not outcome.events:
        return "Perfect"
    return "Completed"
