# SPDX-License-Identifier: Apache-2.0
"""Every byte that leaves the owner of the data in a u-shaped step: none of it is data or answer."""

from __future__ import annotations

import functools
import struct
from typing import Any

import pytest
import torch
import torch.distributed as dist
from member_threads import with_dds
from torch import Tensor

from flad_bringup.bench.exactness_case import (
    Plan,
    case_graph,
    case_loss,
    case_targets,
    make_optimizer,
    micro_batches,
)
from flad_pipeline.graph.units import UnitGraph
from flad_pipeline.group.link import LinkEvents
from flad_pipeline.group.memory_link import MemoryLink, MemoryNetwork
from flad_pipeline.group.packet import Packet
from flad_pipeline.group.transport import Transport
from flad_pipeline.partition import Partition
from flad_pipeline.stages.pipeline import PipelineTrainer
from flad_pipeline.stages.stage_module import crossing
from flad_pipeline.stages.trainer import input_names
from flad_pipeline.stages.unit_store import UnitStore

PLAN = Plan(config="small", seed=5, micro_batch=2, num_micro_batches=3, phases=())
OWNER, OTHER = "vehicle_0", "vehicle_1"
WINDOW_BYTES = 16


class Ear:
    """A link that keeps all that is sent over it."""

    def __init__(self, link: MemoryLink) -> None:
        self._link = link
        self.heard = bytearray()

    @property
    def name(self) -> str:
        return self._link.name

    @property
    def blocks(self) -> bool:
        return False

    def open(self, events: LinkEvents) -> None:
        self._link.open(events)

    def send(self, packet: Packet) -> None:
        self.heard += packet.data.tobytes()
        self.heard += f"{packet.subject} {packet.text}".encode()
        self._link.send(packet)

    def close(self) -> None:
        self._link.close()


@functools.cache
def graph() -> UnitGraph:
    return case_graph(PLAN)


def step(heads_from: int) -> tuple[dict[str, list[Tensor]], bytes, bytes]:
    """What the loss saw and gave, and what left the owner and the other one."""
    network = MemoryNetwork()
    ears = [Ear(network.link(name)) for name in (OWNER, OTHER)]
    transports = [Transport(ear) for ear in ears]
    partition = Partition.even(graph(), [OWNER, OTHER], heads_from=heads_from)
    seen: dict[str, list[Tensor]] = {"results": [], "losses": [], "inputs": [], "labels": []}
    batches = micro_batches(PLAN, OWNER, 0)
    for batch in batches:
        flat = graph().traced.flatten(batch.args, batch.kwargs)
        seen["inputs"] += [t for t in flat if t.numel() * t.element_size() >= 4 * WINDOW_BYTES]

    def loss(result: Any, target: int) -> Tensor:
        value = case_loss(result, target)
        fields = [getattr(result, name) for name in ("detection", "waypoints_m", "light_logits")]
        seen["results"] += [tensor.detach().clone() for tensor in fields]
        seen["losses"].append(value.detach().clone())
        targets = case_targets(result, target)
        seen["labels"] += [targets.detection, targets.waypoints_m]
        return value

    def member(rank: int) -> None:
        vehicle = (OWNER, OTHER)[rank]
        store = UnitStore(graph(), make_optimizer, partition.units_of(vehicle))
        group = dist.group.WORLD
        assert group is not None
        trainer = PipelineTrainer(store, partition, vehicle, group, loss, PLAN.step_config)
        trainer.step(0, batches if rank == 0 else ())

    with_dds(transports, 1, member)
    for transport in transports:
        transport.close()
    return seen, bytes(ears[0].heard), bytes(ears[1].heard)


def found(tensor: Tensor, heard: bytes) -> int:
    """How many windows of a tensor's memory, of 40 spread over it, are among the bytes."""
    memory = tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    size = tensor.element_size()
    last = max(0, len(memory) - WINDOW_BYTES) // size
    starts = {size * (last * k // 39) for k in range(40)}
    windows = {memory[s : s + WINDOW_BYTES] for s in starts}
    telling = [w for w in windows if len(w) >= 8 and len(set(w)) > 3]  # zeros are everywhere
    return sum(window in heard for window in telling)


@pytest.fixture(scope="module")
def u_shaped() -> tuple[dict[str, list[Tensor]], bytes, bytes]:
    return step(graph().first_head)


def test_no_raw_sample_and_no_answer_leaves_its_owner(u_shaped):
    seen, from_owner, _ = u_shaped
    assert len(from_owner) > 1_000_000
    assert len(seen["losses"]) == PLAN.num_micro_batches
    for name in ("inputs", "results"):
        assert [found(tensor, from_owner) for tensor in seen[name]] == [0] * len(seen[name]), name


def test_no_loss_leaves_its_owner(u_shaped):
    seen, from_owner, _ = u_shaped
    values = [float(loss) for loss in seen["losses"]]
    for value in (*values, sum(values) / len(values), sum(values)):
        for written in (struct.pack("<f", value), struct.pack("<d", value), repr(value).encode()):
            assert written not in from_owner


def test_no_label_leaves_its_owner(u_shaped):
    seen, from_owner, from_other = u_shaped
    assert len(seen["labels"]) == 2 * PLAN.num_micro_batches
    for tensor in seen["labels"]:
        assert found(tensor, from_owner) == 0
        assert found(tensor, from_other) == 0


def test_the_ear_hears_features_that_do_cross(u_shaped):
    """Else the tests above would pass on an ear that hears nothing."""
    _, from_owner, _ = u_shaped
    store = UnitStore(graph(), make_optimizer)
    first = Partition.even(graph(), [OWNER, OTHER], heads_from=graph().first_head).stages[0]
    names = crossing(graph(), first.last).names
    stage = store.stage(first.units, takes=input_names(store), gives=names, seed=PLAN.seed)
    stage.begin_step(0)
    batch = micro_batches(PLAN, OWNER, 0)[0]
    features = stage(*graph().traced.flatten(batch.args, batch.kwargs))
    large = [t for t in features if t.is_floating_point() and t.numel() > 1000]
    assert large
    assert all(found(tensor, from_owner) > 10 for tensor in large)
