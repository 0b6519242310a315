# SPDX-License-Identifier: Apache-2.0
"""What the edge knows of its federation, as it stands in the journal: model, numbers, the round.

Whatever is decided is written here before anybody hears of it, so that an edge that was killed
goes on. The journal's file is :mod:`flad_pipeline.round.journal`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flad_edge.federate.client_run import ClientRun
from flad_edge.federate.round_run import RoundRun
from flad_edge.federate.rounds import ConductorConfig, RoundOutcome, model_name
from flad_pipeline.aggregation.layout import ClientState, State, state_hash
from flad_pipeline.aggregation.norms import NormHistory
from flad_pipeline.aggregation.strategy import Aggregator
from flad_pipeline.round.journal import Journal
from flad_pipeline.round.task import TrainingTask


class Chronicle:
    """One federation's past. Single-threaded; goes on from the journal, if there is one.

    Args:
        task: the model.
        config: its rule and gate.
        folder: the journal's.
    """

    def __init__(self, task: TrainingTask, config: ConductorConfig, folder: Path) -> None:
        self._task = task
        self._journal = Journal(folder, task.graph.digest)
        self.norms = NormHistory(config.gate)
        self._aggregator = Aggregator(config.strategy, task.layout)
        self._rule: dict[str, Any] = {}
        self.model: State = task.start
        self.model_hash = state_hash(task.start)
        self.number = self.epoch = self.order = 0
        """Of the round that is under way or was the last, of the newest epoch and order."""
        self.round: RoundRun | None = None
        """The one that is under way."""
        self.last: RoundOutcome | None = None
        """How the last one ended."""
        self._resume()

    def new_order(self) -> int:
        """A number above all before."""
        self.order += 1
        return self.order

    def new_epoch(self) -> int:
        """Likewise."""
        self.epoch += 1
        return self.epoch

    def aggregate(self, clients: Iterator[ClientState]) -> None:
        """A new model by the rule.

        Raises:
            ValueError: if the rule needs more updates; the model is the old one then.
        """
        self.model = self._aggregator.aggregate(self.model, clients)
        self.model_hash = state_hash(self.model)

    def save_model(self) -> Path:
        """Publish the model of the round that ends."""
        return self._journal.save_model(model_name(self.number), self.model)

    def end_round(self, outcome: RoundOutcome) -> None:
        """The round is over."""
        self.last, self.round = outcome, None
        self._rule = self._saved_rule(self._aggregator.state_dict())

    def write(self) -> None:
        """All of it into the journal."""
        self._journal.write(
            {
                "round": self.number,
                "epoch": self.epoch,
                "order": self.order,
                "model_hash": self.model_hash,
                "model": model_name(self.number - (self.round is not None)),
                "norms": self.norms.state_dict(),
                "rule": self._rule,
                "last": None if self.last is None else dict(self.last.report),
                "running": None
                if self.round is None
                else {
                    "round_id": self.round.round_id,
                    "start_hash": self.round.start_hash,
                    "left_out": self.round.left_out,
                    "clients": [r.as_json() for r in self.round.clients.values()],
                },
            }
        )

    def _saved_rule(self, memory: dict[str, Any]) -> dict[str, Any]:
        """A rule's tensors go into a file of their own; the rest is JSON."""
        plain: dict[str, Any] = {}
        for key, value in memory.items():
            if isinstance(value, Mapping) and value:
                self._journal.save_model(f"rule_{key}", value)
                plain[key] = {"file": f"rule_{key}"}
            else:
                plain[key] = value
        return plain

    def _resume(self) -> None:
        values = self._journal.read()
        if values is None:
            self._journal.save_model(model_name(0), self.model)
            return
        self.number, self.epoch = int(values["round"]), int(values["epoch"])
        self.order, self.model_hash = int(values["order"]), str(values["model_hash"])
        self.model = self._journal.load_model(values["model"], self._task.layout, self.model_hash)
        self.norms.load_state_dict(values["norms"])
        self._rule = values["rule"]
        if self._rule:
            self._aggregator.load_state_dict(
                {
                    key: self._journal.load_tensors(value["file"])
                    if isinstance(value, dict) and "file" in value
                    else value
                    for key, value in self._rule.items()
                }
            )
        if values["last"] is not None:
            path = self._journal.model_file(model_name(values["last"]["round"]))
            self.last = RoundOutcome.of(values["last"], path)
        if (running := values["running"]) is not None:
            num_units = len(self._task.graph.units)
            runs = [ClientRun.from_json(v, num_units) for v in running["clients"]]
            self.round = RoundRun(
                number=self.number,
                round_id=running["round_id"],
                start_hash=running["start_hash"],
                began_s=0.0,
                deadline_s=float("inf"),
                clients={run.client: run for run in runs},
                left_out=running["left_out"],
            )
