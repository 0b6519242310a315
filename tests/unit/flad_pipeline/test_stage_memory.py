# SPDX-License-Identifier: Apache-2.0
"""What a stage is planned to need, against what PyTorch's allocator sees it hold."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from flad_common.profiling.child import allocated_peak_bytes
from flad_perception.config import load_encoder_config
from flad_perception.profiling.encoder import FORMULAS, build_case
from flad_pipeline.graph.costs import UnitCosts, unit_costs
from flad_pipeline.graph.units import UnitGraph, unit_graph
from flad_pipeline.partition import Partition, Span, stage_bytes
from flad_pipeline.stages.packing import packed
from flad_pipeline.stages.stage_module import crossing
from flad_pipeline.stages.unit_store import UnitStore


@functools.cache
def encoder() -> tuple[UnitGraph, UnitCosts]:
    model, inputs = build_case(load_encoder_config("small"), 4, 1)
    graph = unit_graph(model, inputs, verify=False)
    return graph, unit_costs(graph, graph.traced.flatten(inputs), formulas=FORMULAS)


def middle(first: int, last: int) -> Partition:
    graph, _ = encoder()
    spans = [(0, first - 1), (first, last), (last + 1, graph.first_head - 1)]
    return Partition(
        digest=graph.digest,
        num_units=len(graph.units),
        heads_from=graph.first_head,
        stages=tuple(Span(vehicle=f"v{i}", first=a, last=b) for i, (a, b) in enumerate(spans)),
    )


@pytest.mark.parametrize(("first", "last"), [(6, 20), (10, 26), (27, 46)])
def test_the_middle_stage_of_three_holds_what_was_planned(first: int, last: int) -> None:
    graph, costs = encoder()
    # With 1F1B and u-shape the second of three stages has three micro-batches in flight.
    planned = stage_bytes(middle(first, last), costs, num_micro_batches=4)["v1"]
    units = range(first, last + 1)
    store = UnitStore(graph, lambda p: torch.optim.AdamW(list(p.values()), foreach=False), units)
    enters, leaves = crossing(graph, first - 1), crossing(graph, last)
    stage = store.stage(units, takes=enters.names, gives=leaves.names)
    returns = [torch.zeros(f.shape) for f in leaves.facts if f.requires_grad]
    received = [[_like(f.empty("cpu")) for f in enters.facts] for _ in range(4)]

    def step() -> None:
        # As PyTorch's 1F1B: what was sent last is held until the next is sent.
        passed = {i: stage(*received[i]) for i in range(3)}
        held = {"sent": packed(passed[2])}
        for i, inputs in enumerate(received):
            torch.autograd.backward([t for t in passed.pop(i) if t.requires_grad], returns)
            held["sent back"] = packed(t.grad for t in inputs if t.grad is not None)
            for tensor in inputs:
                tensor.grad = None
            if i == 0:
                passed[3] = stage(*received[3])
                held["sent"] = packed(passed[3])
        store.step(1.0, 0.0)

    step()  # afterwards AdamW's moments are there
    tensors = [t for u in units for t in store.state_of(u, 0).tensors.values()]
    buffers = [t for inputs in received for t in inputs] + 4 * returns
    resident = sum(t.numel() * t.element_size() for t in (*tensors, *buffers))
    measured = resident + allocated_peak_bytes(step)
    assert measured == pytest.approx(planned, rel=0.10)


def _like(empty: Tensor) -> Tensor:
    if not empty.dtype.is_floating_point:
        return torch.ones_like(empty)
    return torch.ones_like(empty).requires_grad_(empty.requires_grad)
