# SPDX-License-Identifier: Apache-2.0
"""However the model is cut, moved or rolled back: the same weights to the last bit."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.distributed as dist
from member_threads import memory_transports, with_dds, with_gloo
from nasty_model import NastyModel, nasty_batch
from torch import Tensor, nn
from torch.nn import functional

from flad_pipeline.graph.units import UnitGraph, unit_graph
from flad_pipeline.partition import Partition, Span
from flad_pipeline.stages.handover import hand_over
from flad_pipeline.stages.pipeline import PipelineTrainer
from flad_pipeline.stages.trainer import LocalTrainer, MicroBatch, StepConfig, StepResult
from flad_pipeline.stages.unit_store import UnitStore

NUM_STEPS = 3
CONFIG = StepConfig(num_micro_batches=6, clip_norm=0.5, seed=7)


def loss(result: Any, targets: Tensor) -> Tensor:
    light, more = result
    return functional.cross_entropy(light, targets) + more["places"].square().mean()


def adam(parameters: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    decayed = [p for name, p in parameters.items() if p.ndim > 1]
    others = [p for name, p in parameters.items() if p.ndim == 1]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=1e-2,
    )


def model(dropout: float) -> NastyModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NastyModel(dropout=dropout).train()


@functools.cache
def graph(dropout: float = 0.3) -> UnitGraph:
    return unit_graph(model(dropout), nasty_batch(4))


def batches(step: int, vehicle: str = "v0") -> list[MicroBatch]:
    """Every vehicle has other data."""
    numbers = torch.Generator().manual_seed(1000 * step + int(vehicle[1:]))
    return [
        MicroBatch(
            args=nasty_batch(4, seed=int(torch.randint(10**6, (), generator=numbers))),
            targets=torch.randint(2, (4,), generator=numbers),
        )
        for _ in range(CONFIG.num_micro_batches)
    ]


def cut(*ends: int, heads_from: int | None = None, first: int = 0) -> Partition:
    """Stages that end before ``ends``; stage ``s`` is that of vehicle ``first + s``, around."""
    starts = (0, *ends[:-1])
    names = [f"v{(first + s) % len(ends)}" for s in range(len(ends))]
    return Partition(
        digest=graph().digest,
        num_units=len(graph().units),
        heads_from=heads_from,
        stages=tuple(
            Span(vehicle=v, first=a, last=b - 1)
            for v, a, b in zip(names, starts, ends, strict=True)
        ),
    )


def hashes(store: UnitStore, step: int) -> dict[int, str]:
    return {unit: store.state_of(unit, step).hash for unit in store.held}


@functools.cache
def alone(owners: tuple[str, ...]) -> tuple[dict[int, str], tuple[StepResult, ...]]:
    """One process, every step on the data of one vehicle."""
    store = UnitStore(graph(), adam)
    trainer = LocalTrainer(store, loss, CONFIG)
    results = [trainer.step(i, batches(i, owner)) for i, owner in enumerate(owners)]
    return hashes(store, len(owners)), tuple(results)


def run_stage(
    store: UnitStore, partition: Partition, rank: int, steps: Sequence[int], config: StepConfig
) -> list[StepResult]:
    vehicle = partition.stages[rank].vehicle
    trainer = PipelineTrainer(store, partition, vehicle, dist.group.WORLD, loss, config)
    needs_targets = partition.heads_from is None and rank == len(partition.stages) - 1
    has_data = rank == 0 or needs_targets
    return [trainer.step(i, batches(i, partition.owner) if has_data else ()) for i in steps]


CUTS = [
    (cut(3, 7), "1f1b"),
    (cut(3, 4, heads_from=4), "1f1b"),
    (cut(3, 5, 7), "gpipe"),
    (cut(3, 4, 5, heads_from=5), "gpipe"),
    (cut(3, 4, 6, 7), "1f1b"),
    (cut(3, 4, 5, 6, 7), "1f1b"),
]


@pytest.mark.parametrize(("partition", "schedule"), CUTS)
@pytest.mark.parametrize("backend", ["gloo", "dds"])
def test_stages_give_the_weights_of_one_process(
    partition: Partition, schedule: str, backend: str
) -> None:
    config = StepConfig(num_micro_batches=6, clip_norm=0.5, seed=7, schedule=schedule)
    expected, results = alone(("v0",) * NUM_STEPS)
    size = len(partition.stages)

    def member(rank: int) -> tuple[dict[int, str], list[StepResult]]:
        store = UnitStore(graph(), adam, partition.units_of(partition.stages[rank].vehicle))
        found = run_stage(store, partition, rank, range(NUM_STEPS), config)
        return hashes(store, NUM_STEPS), found

    if backend == "gloo":
        members = with_gloo(size, member)
    else:
        with memory_transports(size) as transports:
            members = with_dds(transports, 1, member)
    assert {u: h for held, _ in members for u, h in held.items()} == expected
    knows = 0 if partition.heads_from is not None else size - 1  # who has the labels
    for rank, (_, found) in enumerate(members):
        assert [r.gradient_norm for r in found] == [r.gradient_norm for r in results]
        assert [r.loss for r in found] == (
            [r.loss for r in results] if rank == knows else [None] * NUM_STEPS
        )


def test_rotation_moves_units_with_their_moments_and_uses_every_vehicles_data() -> None:
    pipelines = [cut(3, 4, 5, heads_from=5, first=j) for j in range(3)]
    owners = tuple(p.owner for p in pipelines)
    assert sorted(owners) == ["v0", "v1", "v2"]
    expected, _ = alone(owners)

    def member(rank: int) -> tuple[dict[int, str], int]:
        """One group for all pipelines: ranks are not stages."""
        name, members, moved = f"v{rank}", ("v0", "v1", "v2"), 0
        store = UnitStore(graph(), adam, pipelines[0].units_of(name))
        world = dist.group.WORLD
        for step, pipeline in enumerate(pipelines):
            trainer = PipelineTrainer(store, pipeline, name, world, loss, CONFIG, members=members)
            trainer.step(step, batches(step, name) if name == pipeline.owner else ())
            if step < 2:
                moved += hand_over(
                    store, pipeline, pipelines[step + 1], name, world, members, step=step + 1
                )
        return hashes(store, 3), moved

    with memory_transports(3) as transports:
        found = [with_gloo(3, member), with_dds(transports, 1, member)]
    for members in found:
        assert {u: h for held, _ in members for u, h in held.items()} == expected
        assert all(moved > 0 for _, moved in members)


def test_after_a_loss_the_rest_goes_on_from_the_last_cut_as_if_nothing_had_been() -> None:
    before, after = cut(3, 5, 7), cut(4, 7)
    expected, _ = alone(("v0",) * NUM_STEPS)
    stores = {v: UnitStore(graph(), adam, before.units_of(v)) for v in ("v0", "v1", "v2")}

    def step(partition: Partition, number: int) -> None:
        with_gloo(
            len(partition.stages),
            lambda rank: run_stage(
                stores[partition.stages[rank].vehicle], partition, rank, [number], CONFIG
            ),
        )

    step(before, 0)
    snapshots = {u: s.state_of(u, 1) for s in stores.values() for u in s.held}
    step(before, 1)  # lost: v2 is gone in the middle of it, nobody's step 1 counts
    del stores["v2"]
    for vehicle, store in stores.items():
        for unit in set(store.held) - set(after.units_of(vehicle)):
            store.take_unit(unit, 1)
        for unit in after.units_of(vehicle):
            store.give_unit(snapshots[unit])
    step(after, 1)
    step(after, 2)
    assert {u: h for s in stores.values() for u, h in hashes(s, 3).items()} == expected


def places_only(result: Any, targets: Tensor) -> Tensor:
    return result[1]["places"].square().mean()


def test_a_result_that_the_loss_ignores_trains_alike_wherever_it_is_made() -> None:
    partition = cut(3, 6, 7)  # the ignored head is a stage before the one that counts
    whole = UnitStore(graph(), adam)
    LocalTrainer(whole, places_only, CONFIG).step(0, batches(0))

    def member(rank: int) -> dict[int, str]:
        name = f"v{rank}"
        store = UnitStore(graph(), adam, partition.units_of(name))
        trainer = PipelineTrainer(store, partition, name, dist.group.WORLD, places_only, CONFIG)
        trainer.step(0, batches(0) if rank != 1 else ())
        return hashes(store, 1)

    assert {u: h for held in with_gloo(3, member) for u, h in held.items()} == hashes(whole, 1)


def test_units_alone_are_the_plain_model_trained_as_usual() -> None:
    plain = model(dropout=0.0)
    store = UnitStore(graph(0.0), adam)
    trainer = LocalTrainer(store, loss, CONFIG)
    optimizer = adam(dict(plain.named_parameters()))
    for i in range(NUM_STEPS):
        found = trainer.step(i, batches(i))
        optimizer.zero_grad()
        for batch in batches(i):
            (loss(plain(*batch.args), batch.targets) / CONFIG.num_micro_batches).backward()
        norm = nn.utils.clip_grad_norm_(plain.parameters(), CONFIG.clip_norm)
        assert found.gradient_norm == pytest.approx(float(norm), rel=1e-5)
        optimizer.step()
    states = {k: t for u in store.held for k, t in store.state_of(u, 3).tensors.items()}
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(states[f"weight/{name}"], parameter, rtol=1e-5, atol=1e-6)
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(states[f"buffer/{name}"], buffer, rtol=1e-5, atol=1e-6)
    assert states["buffer/norm.num_batches_tracked"].dtype == torch.int64


def test_a_part_that_is_frozen_stays_frozen() -> None:
    plain = model(dropout=0.0)
    plain.norm.eval()
    for parameter in plain.first.parameters():
        parameter.requires_grad_(False)
    store = UnitStore(unit_graph(plain, nasty_batch(4)), adam)
    before = {k: t for u in store.held for k, t in store.state_of(u, 0).tensors.items()}
    LocalTrainer(store, loss, CONFIG).step(0, batches(0))
    after = {k: t for u in store.held for k, t in store.state_of(u, 0).tensors.items()}
    for key in ("weight/first.weight", "buffer/norm.running_mean"):
        assert torch.equal(before[key], after[key])
    assert not torch.equal(before["weight/twice.weight"], after["weight/twice.weight"])


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    store = UnitStore(graph(), adam)
    before = {u: store.state_of(u, 0).tensors for u in store.held}
    poisoned = batches(0)
    poisoned[2].args[0]["front"][0, 0] = float("nan")
    assert not LocalTrainer(store, loss, CONFIG).step(0, poisoned).taken
    for unit in store.held:
        for key, tensor in store.state_of(unit, 0).tensors.items():
            if key.startswith("weight/"):
                assert torch.equal(tensor, before[unit][key])


def test_dropout_depends_on_step_and_micro_batch() -> None:
    trainer = LocalTrainer(UnitStore(graph(), adam), loss, CONFIG)
    stage = trainer._stage
    inputs = graph().traced.flatten(nasty_batch(4))
    stage.begin_step(0)
    first, second = stage(*inputs)[0], stage(*inputs)[0]
    stage.begin_step(0)
    again = stage(*inputs)[0]
    stage.begin_step(1)
    later = stage(*inputs)[0]
    stage.eval()
    assert torch.equal(stage(*inputs)[0], stage(*inputs)[0])
    stage.train()
    assert not torch.equal(first, second) and not torch.equal(first, later)
    assert torch.allclose(first, again)  # BatchNorm's running numbers have no part in training


MU = 0.7


def test_fedprox_is_the_penalty_in_the_loss_of_the_plain_model() -> None:
    plain = model(dropout=0.0)
    start = {name: p.detach().clone() for name, p in plain.named_parameters()}
    store = UnitStore(graph(0.0), adam, proximal_mu=MU)
    trainer = LocalTrainer(store, loss, CONFIG)
    optimizer = adam(dict(plain.named_parameters()))
    for i in range(NUM_STEPS):
        found = trainer.step(i, batches(i))
        optimizer.zero_grad()
        for batch in batches(i):
            away = sum((p - start[n]).square().sum() for n, p in plain.named_parameters())
            with_term = loss(plain(*batch.args), batch.targets) + 0.5 * MU * away
            (with_term / CONFIG.num_micro_batches).backward()
        norm = nn.utils.clip_grad_norm_(plain.parameters(), CONFIG.clip_norm)
        assert found.gradient_norm == pytest.approx(float(norm), rel=1e-5)
        optimizer.step()
    states = {k: t for u in store.held for k, t in store.state_of(u, 3).tensors.items()}
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(states[f"weight/{name}"], parameter, rtol=1e-5, atol=1e-6)
        assert torch.equal(states[f"anchor/{name}"], start[name])


def test_fedprox_pulls_to_the_rounds_begin_however_units_moved_and_went_back() -> None:
    pipelines = [cut(3, 4, 5, heads_from=5, first=j) for j in range(3)]
    whole = UnitStore(graph(), adam, proximal_mu=MU)
    trainer = LocalTrainer(whole, loss, CONFIG)
    for i, pipeline in enumerate(pipelines):
        trainer.step(i, batches(i, pipeline.owner))
    expected = hashes(whole, 3)
    members = ("v0", "v1", "v2")

    def member(rank: int) -> dict[int, str]:
        name, world = f"v{rank}", dist.group.WORLD
        store = UnitStore(graph(), adam, pipelines[0].units_of(name), proximal_mu=MU)
        for step, pipeline in enumerate(pipelines):
            trainer = PipelineTrainer(store, pipeline, name, world, loss, CONFIG, members=members)
            mine = batches(step, name) if name == pipeline.owner else ()
            snapshots = [store.state_of(unit, step) for unit in store.held]
            trainer.step(step, mine)  # lost
            for state in snapshots:
                store.give_unit(state)
            PipelineTrainer(store, pipeline, name, world, loss, CONFIG, members=members).step(
                step, mine
            )
            if step < 2:
                hand_over(store, pipeline, pipelines[step + 1], name, world, members, step=step + 1)
        return hashes(store, 3)

    found = with_gloo(3, member)
    assert {u: h for held in found for u, h in held.items()} == expected


def test_a_unit_without_an_anchor_begins_a_round() -> None:
    store = UnitStore(graph(), adam, proximal_mu=MU)
    LocalTrainer(store, loss, CONFIG).step(0, batches(0))
    state = store.state_of(0, 1)
    weights = {k: t for k, t in state.tensors.items() if k.startswith(("weight/", "buffer/"))}
    store.give_unit(dataclasses.replace(state, tensors=weights))
    anew = store.state_of(0, 0).tensors
    assert all(
        torch.equal(anew[key], anew[key.replace("anchor/", "weight/")])
        for key in anew
        if key.startswith("anchor/")
    )
    assert any(key.startswith("anchor/") for key in anew)
