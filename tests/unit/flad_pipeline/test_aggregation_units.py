# SPDX-License-Identifier: Apache-2.0
"""A cluster as one client: each stage signs the units it trained, together they are the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from nasty_model import NastyModel, nasty_batch
from torch import Tensor
from torch.nn import functional

from flad_common.error_codes import FladError
from flad_pipeline.aggregation.gate import UpdateGate
from flad_pipeline.aggregation.keys import KeyRing, VehicleKey
from flad_pipeline.aggregation.layout import ModelLayout, state_hash
from flad_pipeline.aggregation.norms import GateConfig, NormHistory
from flad_pipeline.aggregation.ticket import ClientTicket, RoundTicket
from flad_pipeline.aggregation.units import part_of, ticket_parts, unit_tensors
from flad_pipeline.aggregation.update import signed_update
from flad_pipeline.graph.units import unit_graph
from flad_pipeline.partition import Partition
from flad_pipeline.stages.trainer import LocalTrainer, MicroBatch, StepConfig
from flad_pipeline.stages.unit_store import UnitStore

VEHICLES = ["v0", "v1", "v2"]


def loss(result: Any, targets: Tensor) -> Tensor:
    light, more = result
    return functional.cross_entropy(light, targets) + more["places"].square().mean()


def adam(parameters):
    return torch.optim.AdamW(parameters.values(), lr=1e-2)


@pytest.fixture(scope="module")
def trained():
    """The model before, its graph, and a store that has taken two steps."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = NastyModel(dropout=0.1).train()
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layout = ModelLayout.of(model)
    graph = unit_graph(model, nasty_batch(4))
    store = UnitStore(graph, adam)
    trainer = LocalTrainer(store, loss, StepConfig(num_micro_batches=2))
    for step in range(2):
        batches = [
            MicroBatch(args=nasty_batch(4, seed=10 * step + i), targets=torch.tensor([0, 1, 1, 0]))
            for i in range(2)
        ]
        trainer.step(step, batches)
    return start, layout, graph, store


@pytest.mark.parametrize("is_u", [False, True])
def test_the_stages_parts_are_the_model_each_tensor_once(trained, is_u):
    _, layout, graph, _ = trained
    heads = len(graph.units) - 1 if is_u else None
    parts = ticket_parts(Partition.even(graph, VEHICLES, heads_from=heads), graph, layout)

    assert list(parts) == VEHICLES
    assert all(parts.values())
    assert sorted(name for names in parts.values() for name in names) == sorted(layout.tensors)
    of_unit = unit_tensors(graph, layout)
    assert of_unit[-1] <= parts["v0" if is_u else "v2"]


def test_a_cluster_that_signs_stage_by_stage_is_one_client(trained):
    start, layout, graph, store = trained
    partition = Partition.even(graph, VEHICLES)
    parts = ticket_parts(partition, graph, layout)
    keys = {name: VehicleKey.generate() for name in VEHICLES}
    ring = KeyRing()
    for name, key in keys.items():
        ring = ring.enrol(name, key.public, today="2026-11-22")
    client = ClientTicket(client="cluster_0", parts=parts, max_samples=16)
    ticket = RoundTicket(round=1, start_hash=state_hash(start), clients=(client,))

    def signed(vehicle, units_of):
        states = [store.state_of(unit, 2) for unit in partition.units_of(units_of)]
        return signed_update(
            keys[vehicle],
            part_of(states, start, parts[units_of]),
            vehicle=vehicle,
            client="cluster_0",
            round_number=1,
            round_id=ticket.round_id,
            start_hash=ticket.start_hash,
            num_samples=16,
        )

    gate = UpdateGate(layout, start, ticket, ring, NormHistory(GateConfig()))
    with pytest.raises(FladError, match="UPDATE_WRONG_SHAPE"):
        gate.admit(signed("v1", units_of="v0"))  # may not sign what another has trained
    assert [gate.admit(signed(v, units_of=v)) for v in VEHICLES[:2]] == [None, None]
    whole = gate.admit(signed("v2", units_of="v2"))

    assert whole is not None
    held = {
        key.split("/", 1)[1]: tensor
        for unit in store.held
        for key, tensor in store.state_of(unit, 2).tensors.items()
        if not key.startswith("optimizer/")
    }
    for name, tensor in whole.tensors.items():
        assert torch.equal(tensor, held.get(name, start[name]))
    moved = [n for n in layout.names("trained") if not torch.equal(whole.tensors[n], start[n])]
    assert {v for v, names in parts.items() if names & set(moved)} == set(VEHICLES)
