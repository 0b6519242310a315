# SPDX-License-Identifier: Apache-2.0
"""A round's end at the edge: updates go through the gate, one client at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from flad_common.error_codes import FladError
from flad_edge.federate.client_run import ClientRun
from flad_pipeline.aggregation.gate import UpdateGate
from flad_pipeline.aggregation.keys import KeyRing
from flad_pipeline.aggregation.layout import ClientState, State
from flad_pipeline.aggregation.norms import NormHistory
from flad_pipeline.aggregation.ticket import ClientTicket, RoundTicket
from flad_pipeline.aggregation.units import ticket_parts
from flad_pipeline.aggregation.update import SignedUpdate
from flad_pipeline.round.task import TrainingTask


class Collected:
    """Clients that count; :meth:`clients` reads them from disk, one after the other."""

    def __init__(self, gate: UpdateGate, runs: Sequence[ClientRun], folder: Path) -> None:
        self._gate, self._runs, self._folder = gate, runs, folder
        self.counted: dict[str, int] = {}
        """Samples of the clients that were let in so far."""
        self.refused: dict[str, str] = {}

    def clients(self) -> Iterator[ClientState]:
        """Every client whose whole update is sound."""
        for run in self._runs:
            whole = None
            try:
                for vehicle in run.order.vehicles:
                    data = (self._folder / f"{vehicle}.update").read_bytes()
                    whole = self._gate.admit(SignedUpdate.from_bytes(data))
            except (FladError, OSError) as error:
                self.refused[run.client] = str(error).splitlines()[0]
                continue
            if whole is not None:
                self.counted[run.client] = whole.num_samples
                yield whole


def collect(
    task: TrainingTask,
    start: State,
    announced: RoundTicket,
    runs: Sequence[ClientRun],
    folder: Path,
    ring: KeyRing,
    norms: NormHistory,
) -> Collected:
    """The gate of a round, for the pipelines that the clients ended with."""
    tickets = tuple(
        ClientTicket(
            client=run.client,
            parts=ticket_parts(run.order.pipeline(run.order.end_step), task.graph, task.layout),
            max_samples=run.order.end_step * task.samples_per_step,
        )
        for run in runs
    )
    ticket = dataclasses.replace(announced, clients=tickets)
    return Collected(UpdateGate(task.layout, start, ticket, ring, norms), runs, folder)
