# SPDX-License-Identifier: Apache-2.0
"""Scores over routes and repetitions, as the cards of the report show them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from flad_carla.report.run_file import RunRecord


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A mean, and how far single values lie from it."""

    mean: float
    std: float | None  # sample standard deviation; None with one value
    values: tuple[float, ...]  # one per repetition, or per route if there is one repetition


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Figures of all runs together; ``over`` says what the spreads are over."""

    driving_score: Spread
    route_completion: Spread
    infraction_penalty: Spread
    num_infractions: int
    infractions_per_km: float
    driven_km: float
    duration_s: float
    duration_system_s: float
    num_runs: int
    num_requested: int
    over: str


def summarize(runs: Sequence[RunRecord], num_requested: int | None = None) -> Summary:
    """Summarize runs; a run that was asked for and is missing counts as zero.

    With several repetitions the spread is over the mean of each repetition, otherwise over routes.

    Raises:
        ValueError: if there is no run, or more runs than were asked for.
    """
    if not runs:
        raise ValueError("a report needs at least one run, got none")
    requested = len(runs) if num_requested is None else num_requested
    if requested < len(runs):
        raise ValueError(f"{len(runs)} runs were given, but only {requested} were asked for")
    repetitions = sorted({run.info.repetition for run in runs})
    over = "repetitions" if len(repetitions) > 1 else "routes"
    per_group = requested / len(repetitions)

    def spread(score: str) -> Spread:
        total = sum(float(getattr(run.result, score)) for run in runs)
        if over == "repetitions":
            values = [
                sum(float(getattr(run.result, score)) for run in runs if run.info.repetition == rep)
                / per_group
                for rep in repetitions
            ]
        else:
            values = [float(getattr(run.result, score)) for run in runs]
            values += [0.0] * (requested - len(runs))
        return Spread(
            mean=total / requested,
            std=statistics.stdev(values) if len(values) > 1 else None,
            values=tuple(values),
        )

    num_infractions = sum(count_infractions(run) for run in runs)
    driven_km = sum(driven_m(run) for run in runs) / 1000.0
    return Summary(
        driving_score=spread("driving_score"),
        route_completion=spread("route_completion"),
        infraction_penalty=spread("infraction_penalty"),
        num_infractions=num_infractions,
        infractions_per_km=num_infractions / max(driven_km, 0.001),
        driven_km=driven_km,
        duration_s=sum(run.result.duration_s for run in runs),
        duration_system_s=sum(run.result.duration_system_s for run in runs),
        num_runs=len(runs),
        num_requested=requested,
        over=over,
    )


def count_infractions(run: RunRecord) -> int:
    """How many events the results book for a run."""
    return sum(len(events) for events in run.result.infractions.values())


def driven_m(run: RunRecord) -> float:
    """Metres of the route that were driven: route completion times length, as LB2.x counts."""
    return run.result.route_length_m * run.result.route_completion / 100.0
