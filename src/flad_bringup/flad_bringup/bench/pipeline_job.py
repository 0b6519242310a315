# SPDX-License-Identifier: Apache-2.0
"""Pipelines that benchmarks run on emulated vehicles: what is run, and the processes that do it.

A process for each vehicle (:mod:`flad_bringup.bench.pipeline_member`), over DDS; the model, data
and losses are those of the exactness bench.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flad_bringup.bench.exactness_case import Plan
from flad_bringup.environment import child_environment
from flad_bringup.workspace import Workspace
from flad_carla.evaluation.domain import own_domain
from flad_common.error_codes import NODE_DIED, FladError
from flad_common.supervision import Supervisor
from flad_pipeline.partition import Partition, partition_from_json


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training: pipelines in turn, units handed over between them."""

    name: str
    partitions: tuple[Partition, ...]
    num_micro_batches: int
    num_steps: int = 1
    """In each of the pipelines."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Runs, one after the other, on the same processes."""

    vehicles: tuple[str, ...]
    runs: tuple[Run, ...]
    config: str
    seed: int
    micro_batch: int
    testbed: str = ""
    """JSON of the emulated testbed; empty: as fast as this computer is."""
    work_scale: float = 1.0
    extra_in_flight: int = 0
    measures_memory: bool = False

    def plan(self, run: Run) -> Plan:
        """What the exactness bench's case needs."""
        return Plan(
            config=self.config,
            seed=self.seed,
            micro_batch=self.micro_batch,
            num_micro_batches=run.num_micro_batches,
            phases=(),
        )

    def as_json(self) -> str:
        """For :func:`read_job` in another process."""
        values = dataclasses.asdict(self)
        for run, written in zip(self.runs, values["runs"], strict=True):
            written["partitions"] = [partition.as_json() for partition in run.partitions]
        return json.dumps(values)


def read_job(text: str) -> Job:
    """What :meth:`Job.as_json` wrote."""
    values = json.loads(text)
    runs = []
    for run in values.pop("runs"):
        partitions = [partition_from_json(json.dumps(p)) for p in run.pop("partitions")]
        runs.append(Run(partitions=tuple(partitions), **run))
    return Job(vehicles=tuple(values.pop("vehicles")), runs=tuple(runs), **values)


def report_file(folder: Path, vehicle: str) -> Path:
    """What a member reports: JSON, by the names of the runs."""
    return folder / f"report_{vehicle}.json"


def run_job(job: Job, workspace: Workspace, deadline_s: float) -> dict[str, dict[str, Any]]:
    """The reports of all vehicles, by run and vehicle.

    Raises:
        FladError: if a member died or did not end; it says its last lines.
    """
    reports: dict[str, dict[str, Any]] = {run.name: {} for run in job.runs}
    with (
        TemporaryDirectory() as scratch,
        own_domain() as domain_id,
        Supervisor(Path(scratch) / "logs") as supervisor,
    ):
        folder = Path(scratch)
        (folder / "job.json").write_text(job.as_json(), encoding="utf-8")
        module = "flad_bringup.bench.pipeline_member"
        environment = child_environment(
            workspace, None, OMP_NUM_THREADS="1", ROS_DOMAIN_ID=str(domain_id)
        )
        children = [
            supervisor.start(
                name,
                [sys.executable, "-m", module, str(folder), name],
                environment=environment,
            )
            for name in job.vehicles
        ]
        for child in children:
            if status := supervisor.wait(child, deadline_s=deadline_s):
                raise FladError(NODE_DIED, f"{child.name} ended with {status}\n{child.tail()}")
        for name in job.vehicles:
            report = json.loads(report_file(folder, name).read_text(encoding="utf-8"))
            for run, figures in report.items():
                reports[run][name] = figures
    return reports
