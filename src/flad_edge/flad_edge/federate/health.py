# SPDX-License-Identifier: Apache-2.0
"""What the edge tells of its federation in its diagnostics: the round, its clients, every failure.

Values only; :mod:`flad_edge.ros.federation_report` makes messages of them. Each vehicle tells of
itself (:mod:`flad_pipeline.worker_node`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flad_edge.federate.client_run import ClientRun
from flad_edge.federate.round_run import RoundRun
from flad_edge.federate.rounds import RoundOutcome
from flad_pipeline.round.order import Status


@dataclass(frozen=True, kw_only=True)
class Health:
    """One thing that is watched."""

    name: str
    is_well: bool
    message: str
    values: dict[str, str]


def federation_health(
    number: int,
    round_: RoundRun | None,
    last: RoundOutcome | None,
    statuses: Sequence[Status],
    now_s: float,
) -> list[Health]:
    """The edge itself first, then every client of the round.

    Args:
        number: of the round that is under way or was the last.
        round_: the one that is under way.
        last: how the last one ended.
        statuses: of the vehicles that are there.
        now_s: by the clock that began the round.
    """
    runs = list(round_.clients.values()) if round_ is not None else []
    values = {
        "round": str(number),
        "vehicles": ", ".join(s.vehicle for s in statuses),
        "clients": str(len(runs)),
        "clients_done": str(sum(run.is_over and not run.dropped for run in runs)),
        "clients_dropped": str(sum(bool(run.dropped) for run in runs)),
        "recoveries": str(sum(len(run.recoveries) for run in runs)),
        "round_s": f"{round_.since_s(now_s):.1f}" if round_ is not None else "",
        "last_round": str(last.round) if last is not None else "",
        "last_model": last.model_hash if last is not None else "",
        "last_text": last.text if last is not None else "",
    }
    message = f"round {number} is under way" if round_ is not None else "no round is under way"
    edge = Health(name="edge/conductor", is_well=True, message=message, values=values)
    return [edge, *(_of_client(run, statuses) for run in runs)]


def _of_client(run: ClientRun, statuses: Sequence[Status]) -> Health:
    there = [s for s in statuses if s.vehicle in run.members and s.order == run.order.order]
    turn = run.order.pipeline(min((s.step for s in there), default=run.order.from_step))
    values = {
        "members": ", ".join(sorted(run.members)),
        "stages": ", ".join(f"{s.vehicle} {s.first}..{s.last}" for s in turn.stages),
        "epoch": str(run.order.epoch),
        "step": str(min((s.step for s in there), default=run.order.from_step)),
        "end_step": str(run.order.end_step),
        "samples_per_s": f"{min((s.samples_per_s for s in there), default=0.0):.3f}",
        "joining": ", ".join(sorted(run.joining)),
        "leaving": ", ".join(sorted(run.leaving)),
        "copied_bytes": str(run.copied_bytes),
        "recoveries": str(len(run.recoveries)),
        "lost_steps": str(sum(r["lost_steps"] for r in run.recoveries)),
    }
    if run.recoveries:
        newest = run.recoveries[-1]
        values |= {
            "failure": f"{', '.join(newest['gone']) or 'the group'}: {newest['why']}",
            "failure_at_s": str(newest["at_s"]),
        }
    waits = run.waiting_s is not None
    if run.dropped:
        message = f"does not count: {run.dropped}"
    elif waits:
        message = f"waits for somebody to come: {run.waiting_why}"
    else:
        message = "is done" if run.is_over else "trains"
    return Health(
        name=f"edge/{run.client}",
        is_well=not (run.dropped or waits),
        message=message,
        values=values,
    )
