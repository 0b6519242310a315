# SPDX-License-Identifier: Apache-2.0
"""One of the two processes that ``./flad bench transport`` measures; says its figures as JSON."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from flad_perception.config import load_encoder_config
from flad_perception.profiling.encoder import FORMULAS, build_case
from flad_pipeline.graph.costs import unit_costs
from flad_pipeline.graph.units import UnitGraph, unit_graph
from flad_pipeline.group.process_group import DdsProcessGroup, GroupOptions, join, leave
from flad_pipeline.group.transport import Transport
from flad_pipeline.partition import Partition, Span
from flad_pipeline.stages.pipeline import PipelineTrainer
from flad_pipeline.stages.trainer import MicroBatch, StepConfig
from flad_pipeline.stages.unit_store import UnitStore
from flad_pipeline.wire import Encoding

NAMES = ("vehicle_0", "vehicle_1")
_FORM_S = 60.0
_LEASE_S = 5.0
"""Of liveliness: nobody dies here, and a full link delays that word as it does all others."""


def main() -> None:
    """Measure what the arguments say; the first member writes the figures to a file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--backend", choices=["dds", "gloo", "tcp"], required=True)
    parser.add_argument("--host", default="127.0.0.1", help="of the first member")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--work", nargs="+", choices=["p2p", "1f1b", "gpipe", "form"], required=True
    )
    parser.add_argument("--mb", type=float, nargs="*", default=[])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--micro-batch", type=int, default=2)
    parser.add_argument("--encoding", choices=[e.name for e in Encoding], default="EXACT")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    figures = {"p2p": _over_tcp(args)} if args.backend == "tcp" else _in_a_group(args)
    if args.rank == 0:
        with open(args.out, "w", encoding="utf-8") as file:
            json.dump(figures, file)
    os._exit(0)  # DDS and gloo end their threads in their own time


def _in_a_group(args: argparse.Namespace) -> dict[str, Any]:
    """Figures by work."""
    # Built before the group: tracing takes a while, and nobody should wait for it in there.
    stage = _Stage(args) if {"1f1b", "gpipe"} & set(args.work) else None
    transport = None
    if args.backend == "gloo":
        where = f"tcp://{args.host}:{args.port}"
        dist.init_process_group("gloo", init_method=where, rank=args.rank, world_size=2)
    else:
        transport = _dds(args.rank)
        join(
            GroupOptions(
                transport=transport, epoch=1, members=NAMES, encoding=Encoding[args.encoding]
            )
        )
    figures: dict[str, Any] = {}
    for work in args.work:
        dist.barrier()
        if work == "p2p":
            figures[work] = _echoes(
                args,
                lambda tensor: dist.send(tensor, 1 - args.rank),
                lambda tensor: dist.recv(tensor, 1 - args.rank),
            )
        elif work == "form":
            assert transport is not None
            figures[work] = {"form_s": _form_again(transport)}
        else:
            assert stage is not None
            figures[work] = stage.measure(work)
    if transport is not None:
        figures["counts"] = transport.counts()
    dist.barrier()
    group = dist.group.WORLD
    if isinstance(group, DdsProcessGroup):
        group.drain()  # the other one's barrier needs what this one sent
    return figures


def _dds(rank: int) -> Transport:
    # Only here: gloo's and TCP's members need no ROS.
    from flad_pipeline.ros.dds_transport import DdsLink, DdsLinkConfig

    link = DdsLink(NAMES[rank], NAMES, DdsLinkConfig(max_members=2, lease_s=_LEASE_S))
    transport = Transport(link)
    link.wait_until_matched(_FORM_S)
    return transport


def _form_again(transport: Transport) -> float:
    """Median time from leaving a group to being in the next."""
    times_s = []
    for epoch in range(2, 22):
        group = dist.group.WORLD
        assert isinstance(group, DdsProcessGroup)
        group.drain()  # the other one's barrier needs what this one sent
        began_s = time.perf_counter()
        leave()
        join(GroupOptions(transport=transport, epoch=epoch, members=NAMES))
        times_s.append(time.perf_counter() - began_s)
        dist.barrier()
    return statistics.median(times_s)


def _echoes(
    args: argparse.Namespace, send: Callable[[Tensor], Any], receive: Callable[[Tensor], Any]
) -> dict[str, Any]:
    """Median time of a tensor there and one number back, by megabytes."""
    figures = {}
    word = torch.zeros(1)
    for mb in args.mb:
        tensor = torch.randn(int(mb * 250_000))
        times_s = []
        for _ in range(args.repeats + 2):
            began_s = time.perf_counter()
            if args.rank == 0:
                send(tensor)
                receive(word)
            else:
                receive(tensor)
                send(word)
            times_s.append(time.perf_counter() - began_s)
        figures[f"{mb:g}"] = statistics.median(times_s[2:])
    return figures


def _over_tcp(args: argparse.Namespace) -> dict[str, Any]:
    with socket.socket() as listener:
        if args.rank == 0:
            listener.bind((args.host, args.port))
            listener.listen()
            connection = listener.accept()[0]
        else:
            connection = _connected(args.host, args.port)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def receive(tensor: Tensor) -> None:
        view = tensor.numpy().data.cast("B")
        while len(view):
            view = view[connection.recv_into(view) :]

    return _echoes(args, lambda tensor: connection.sendall(tensor.numpy().data), receive)


def _connected(host: str, port: int) -> socket.socket:
    deadline_s = time.monotonic() + _FORM_S
    while True:
        try:
            return socket.create_connection((host, port), timeout=_FORM_S)
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)


class _Stage:
    """One of two stages of the encoder ``small``, cut where both have about as much to do."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        model, inputs = build_case(load_encoder_config("small"), args.micro_batch, 1)
        self._graph = unit_graph(model, inputs, verify=False)
        costs = unit_costs(self._graph, self._graph.traced.flatten(inputs), formulas=FORMULAS)
        self._config = StepConfig()
        work = [unit.flops_forward + unit.flops_backward for unit in costs.units]
        after = _best_cut(self._graph, work, [c.forward_bytes for c in costs.cuts], self._config)
        cut = costs.cuts[after]
        self._facts = {
            "cut_after": after,
            "stage_share": 1.0 - sum(work[after + 1 : self._graph.first_head]) / sum(work),
            "forward_bytes": self._config.num_micro_batches * cut.forward_bytes,
            "backward_bytes": self._config.num_micro_batches * cut.backward_bytes,
        }
        self._partition = _two_stages(self._graph, after)
        batch = MicroBatch(args=tuple(inputs), targets=torch.zeros(args.micro_batch))
        self._batches = [batch] * self._config.num_micro_batches

    def measure(self, schedule: str) -> dict[str, Any]:
        """Times of steps, the slower member's, and the gradient's norms."""
        config = dataclasses.replace(self._config, schedule=schedule)
        store = UnitStore(
            self._graph,
            lambda parameters: torch.optim.SGD(list(parameters.values()), lr=1e-4),
            self._partition.units_of(NAMES[self._args.rank]),
        )
        group = dist.group.WORLD
        assert group is not None
        trainer = PipelineTrainer(
            store, self._partition, NAMES[self._args.rank], group, _loss, config
        )
        times_s, norms, cpus_s = [], [], []
        for step in range(self._args.repeats + 1):
            dist.barrier()
            began_s, cpu_s = time.perf_counter(), time.process_time()
            result = trainer.step(step, self._batches if self._args.rank == 0 else ())
            dist.barrier()
            times_s.append(time.perf_counter() - began_s)
            cpus_s.append(time.process_time() - cpu_s)
            norms.append(result.gradient_norm)
        return {**self._facts, "steps_s": times_s[1:], "cpus_s": cpus_s[1:], "norms": norms}


def _loss(result: Any, targets: Tensor) -> Tensor:
    parts = [part for part in result if isinstance(part, Tensor) and part.requires_grad]
    return torch.stack([part.square().mean() for part in parts]).sum()


def _best_cut(
    graph: UnitGraph, work: Sequence[float], cut_bytes: Sequence[int], config: StepConfig
) -> int:
    """The unit after which both members are nearest to equal, where a megabyte crosses a step.

    The first one has the heads as well (u-shaped): raw values that they read stay there.
    """
    heads = graph.first_head
    allowed = [
        i
        for i in range(graph.min_first_units(heads) - 1, heads - 1)
        if cut_bytes[i] * config.num_micro_batches >= 1_000_000
    ]
    return min(allowed, key=lambda i: abs(2.0 * sum(work[i + 1 : heads]) - sum(work)))


def _two_stages(graph: UnitGraph, after: int) -> Partition:
    heads = graph.first_head
    return Partition(
        digest=graph.digest,
        num_units=len(graph.units),
        heads_from=heads,
        stages=(
            Span(vehicle=NAMES[0], first=0, last=after),
            Span(vehicle=NAMES[1], first=after + 1, last=heads - 1),
        ),
    )


if __name__ == "__main__":
    main()
