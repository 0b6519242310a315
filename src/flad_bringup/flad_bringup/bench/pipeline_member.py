# SPDX-License-Identifier: Apache-2.0
"""One vehicle of a :class:`flad_bringup.bench.pipeline_job.Job`; a process of its own.

``python -m flad_bringup.bench.pipeline_member FOLDER VEHICLE``
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from flad_bringup.bench.exactness_case import case_graph, case_loss, make_optimizer, micro_batches
from flad_bringup.bench.pipeline_job import Job, Run, read_job, report_file
from flad_common.profiling.child import allocated_peak_bytes
from flad_perception.profiling.encoder import FORMULAS
from flad_pipeline.graph.costs import unit_costs
from flad_pipeline.graph.units import UnitGraph
from flad_pipeline.group.deadlines import TransportConfig
from flad_pipeline.group.link import Link
from flad_pipeline.group.process_group import joined
from flad_pipeline.group.transport import Transport
from flad_pipeline.memory.allocator import give_back_freed
from flad_pipeline.memory.manager import MemoryConfig, MemoryManager
from flad_pipeline.memory.readings import live_tensor_bytes, process_bytes, reset_peak
from flad_pipeline.partition import Partition
from flad_pipeline.ros.dds_transport import DdsLink, DdsLinkConfig
from flad_pipeline.stages.handover import hand_over
from flad_pipeline.stages.pipeline import PipelineTrainer
from flad_pipeline.stages.unit_store import UnitStore
from flad_pipeline.testbed.pace import Pace
from flad_pipeline.testbed.shaped_link import ShapedLink
from flad_pipeline.testbed.testbed import Testbed, read_testbed

_MATCH_S = 120.0
_WAIT_S = 600.0
_LEASE_S = 10.0


class Member:
    """Runs what the job says. Single-threaded but for the heads' thread.

    Args:
        job: the same on all members.
        vehicle: which one this is.
        transport: reaches all of them.
        shaped: its link, where it is an emulated one.
        testbed: what is emulated, if anything.
    """

    def __init__(
        self,
        job: Job,
        vehicle: str,
        transport: Transport,
        shaped: ShapedLink | None,
        testbed: Testbed | None,
    ) -> None:
        self._job, self._vehicle, self._transport = job, vehicle, transport
        self._shaped, self._testbed = shaped, testbed
        self._epoch = 0
        self._memory = MemoryManager()

    def run(self, run: Run) -> dict[str, Any]:
        """Train; figures of this vehicle."""
        job = self._job
        graph = case_graph(job.plan(run))
        pace, costs = None, None
        if self._testbed is not None:
            pace = Pace(self._testbed, self._vehicle, work_scale=job.work_scale)
            costs = unit_costs(graph, _flat(graph, job, run), formulas=FORMULAS)
        _warm_up(graph, job, run)
        self._memory.reclaim()
        reset_peak()
        before_bytes, before_tensors = process_bytes(), live_tensor_bytes()
        units = run.partitions[0].units_of(self._vehicle)
        store = UnitStore(graph, make_optimizer, units)
        sent_before = self._sent()
        phases = []
        for number, partition in enumerate(run.partitions):
            names = [span.vehicle for span in partition.stages]
            following = run.partitions[number + 1 : number + 2]
            if self._vehicle in names:
                self._epoch += 1
                with joined(self._transport, epoch=self._epoch, members=names) as group:
                    trainer = PipelineTrainer(
                        store,
                        partition,
                        self._vehicle,
                        group,
                        case_loss,
                        dataclasses.replace(
                            job.plan(run).step_config, extra_in_flight=job.extra_in_flight
                        ),
                        deadline_s=_WAIT_S,
                        pace=pace.of(costs, partition, self._vehicle) if pace and costs else None,
                    )
                    phases.append(self._phase(run, number, partition, trainer, before_tensors))
                    dist.barrier()
                    began_s = time.monotonic()
                    moved = 0
                    if following:
                        moved = hand_over(
                            store, partition, following[0], self._vehicle, group, names, step=number
                        )
                        dist.barrier()
                    phases[-1] |= {
                        "hand_over_s": time.monotonic() - began_s,
                        "hand_over_bytes": moved,
                    }
        sent = self._sent()
        return {
            "phases": phases,
            "pace": dataclasses.asdict(pace.report()) if pace else {},
            "link": {name: sent[name] - sent_before[name] for name in sent},
            "growth_bytes": max((p.get("process_bytes", 0) for p in phases), default=0)
            - before_bytes,
        }

    def _phase(
        self,
        run: Run,
        number: int,
        partition: Partition,
        trainer: PipelineTrainer,
        before_tensors: int,
    ) -> dict[str, Any]:
        figures: dict[str, Any] = {"steps_s": []}
        for i in range(run.num_steps):
            step = number * run.num_steps + i
            is_owner = self._vehicle == partition.owner
            held_bytes = live_tensor_bytes() - before_tensors
            batches = micro_batches(self._job.plan(run), self._vehicle, step) if is_owner else []
            dist.barrier()
            began_s = time.monotonic()
            if self._job.measures_memory and i == run.num_steps - 1:
                figures["tensor_bytes"] = held_bytes + allocated_peak_bytes(
                    lambda step=step, batches=batches: trainer.step(step, batches)  # type: ignore[misc]
                )
            else:
                trainer.step(step, batches)
                figures["process_bytes"] = process_bytes(peak=True)
            dist.barrier()
            figures["steps_s"].append(time.monotonic() - began_s)
        return figures

    def _sent(self) -> dict[str, float]:
        if self._shaped is None:
            counts = self._transport.counts()
            return {"num_bytes": counts.get("bytes_sent", 0)}
        return {
            "num_bytes": self._shaped.num_bytes,
            "num_packets": self._shaped.num_packets,
            "num_lost": self._shaped.num_lost,
            "channel_s": self._shaped.channel_s,
        }


def _flat(graph: UnitGraph, job: Job, run: Run) -> list[torch.Tensor]:
    batch = micro_batches(dataclasses.replace(job.plan(run), num_micro_batches=1), "v0", 0)[0]
    return graph.traced.flatten(batch.args, batch.kwargs)


def _warm_up(graph: UnitGraph, job: Job, run: Run) -> None:
    """Once through everything: libraries load and kernels are made at the first use."""
    for output in graph.traced.module(*_flat(graph, job, run)):
        if isinstance(output, torch.Tensor) and output.requires_grad:
            output.sum().backward(retain_graph=True)
    graph.traced.module.zero_grad(set_to_none=True)


def main() -> None:
    """All runs, then the report."""
    folder, vehicle = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    give_back_freed(mapped_from_bytes=MemoryConfig().mapped_from_bytes)  # as the worker's node
    job = read_job((folder / "job.json").read_text(encoding="utf-8"))
    testbed = read_testbed(job.testbed) if job.testbed else None
    config = TransportConfig(timeout_s=_WAIT_S, silent_after_s=0.0)
    if testbed is not None:
        config = testbed.transport_config(config)
    dds = DdsLink(vehicle, job.vehicles, DdsLinkConfig(lease_s=_LEASE_S, transport=config))
    shaped = ShapedLink(dds, testbed, folder / "air", job.seed) if testbed else None
    link: Link = shaped or dds
    transport = Transport(link, config)
    dds.wait_until_matched(_MATCH_S)
    member = Member(job, vehicle, transport, shaped, testbed)
    report = {run.name: member.run(run) for run in job.runs}
    report_file(folder, vehicle).write_text(json.dumps(report), encoding="utf-8")
    transport.close()
    os._exit(0)  # DDS ends its threads in its own time


if __name__ == "__main__":
    main()
