# SPDX-License-Identifier: Apache-2.0
"""Units: every cut is possible, and what runs unit by unit is the model."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest
import torch
from nasty_model import NastyModel, nasty_batch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import flad_perception.torchvision_ops  # noqa: F401  (before torchvision)
from flad_common.profiling.formulas import fused_attention, no_products
from flad_common.profiling.record import record
from flad_common.profiling.trace import scalar_loss
from flad_edge.swift.units import units_from_json
from flad_perception.config import load_encoder_config
from flad_perception.model.pillars import decorate, scatter_max
from flad_perception.model.transformer import attend
from flad_perception.profiling.encoder import build_case
from flad_pipeline.graph.costs import in_order, unit_costs
from flad_pipeline.graph.trace import trace_model
from flad_pipeline.graph.units import UnitGraph, unit_graph
from flad_pipeline.stages.unit_module import unit_module

from torchvision.models import VisionTransformer, resnet50, vit_b_16  # isort: skip

Case = tuple[nn.Module, Any]
FORMULAS = {attend: fused_attention, decorate: no_products, scatter_max: no_products}


def nasty() -> Case:
    return NastyModel().train(), nasty_batch(4)


def small_encoder() -> Case:
    return build_case(load_encoder_config("small"), 2, 1)


def resnet() -> Case:
    return resnet50().train(), (torch.randn(2, 3, 48, 48),)


def vision_transformer() -> Case:
    """ViT-B/16 with an eighth of its width, for few pixels."""
    narrow = VisionTransformer(
        image_size=32, patch_size=16, num_layers=12, num_heads=12, hidden_dim=96, mlp_dim=384
    )
    return narrow.train(), (torch.randn(2, 3, 32, 32),)


@functools.cache
def made(case: Callable[[], Case]) -> tuple[nn.Module, Any, UnitGraph]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, batch = case()
        return model, batch, unit_graph(model, batch)


CASES = pytest.mark.parametrize(
    "case", [nasty, small_encoder, resnet, vision_transformer], ids=lambda c: c.__name__
)


@CASES
def test_units_hold_every_operation_and_parameter_once_and_in_order(case: Any) -> None:
    model, _, graph = made(case)
    operations = [name for unit in graph.units for name in unit.operations]
    place = {name: i for i, name in enumerate(operations)}
    assert sorted(operations) == sorted(graph.dag) and len(place) == len(operations)
    assert nx.is_directed_acyclic_graph(graph.dag)
    assert all(place[a] < place[b] for a, b in graph.dag.edges)
    parameters = [name for unit in graph.units for name in unit.parameters]
    assert sorted(parameters) == sorted(name for name, _ in model.named_parameters())
    assert len(graph.units) <= 60
    for unit in graph.units:
        for name in unit.takes:
            assert any(name in earlier.makes for earlier in graph.units[: unit.index])


@CASES
def test_unit_by_unit_is_the_model_forward_and_backward(case: Any) -> None:
    model, batch, graph = made(case)
    values = dict(
        zip(
            [n.name for n in graph.traced.module.graph.nodes if n.op == "placeholder"],
            graph.traced.flatten(batch),
            strict=True,
        )
    )
    model.zero_grad()
    modules = [unit_module(graph, unit) for unit in graph.units]
    torch.manual_seed(1)
    expected = model(*batch)
    scalar_loss(expected).backward()
    torch.manual_seed(1)
    for unit, module in zip(graph.units, modules, strict=True):
        results = module(*(values[name] for name in (*unit.inputs, *unit.takes)))
        values.update(zip(unit.makes, results, strict=True))
        kept = {*graph.live(unit.index), *graph.raw, *graph.outputs}
        values = {
            n: v
            for n, v in values.items()
            if n in kept or n not in graph.tensors or any(n in u.inputs for u in graph.units)
        }
    found = graph.traced.outputs.nest([values[name] for name in graph.outputs])
    scalar_loss(found).backward()
    for e, f in zip(pytree.tree_leaves(expected), pytree.tree_leaves(found), strict=True):
        torch.testing.assert_close(f, e, rtol=1e-5, atol=1e-6)
    gradients = {n: p.grad for m in modules for n, p in m.named_parameters()}
    for name, parameter in model.named_parameters():
        scale = parameter.grad.abs().max().clamp_min(1e-6)
        torch.testing.assert_close(
            gradients[name] / scale, parameter.grad / scale, rtol=1e-4, atol=1e-4, msg=name
        )
    model.zero_grad()


@CASES
def test_nothing_raw_and_nothing_of_a_changing_shape_crosses_a_cut(case: Any) -> None:
    _, _, graph = made(case)
    inputs = {n.name for n in graph.traced.module.graph.nodes if n.op == "placeholder"}
    for i in range(len(graph.units) - 1):
        assert not inputs & set(graph.live(i)) and not graph.raw & set(graph.live(i))
        assert all(name in graph.tensors for name in graph.live(i))  # one tensor, of one shape


def test_the_narrow_transformer_has_the_operations_of_the_real_one() -> None:
    with torch.device("meta"):
        real = vit_b_16(image_size=32).train()
    traced = trace_model(real, (torch.randn(2, 3, 32, 32),))
    _, _, graph = made(vision_transformer)
    names = [node.name for node in traced.module.graph.nodes]
    assert names == [node.name for node in graph.traced.module.graph.nodes]


def test_the_papers_encoder_is_cut_where_the_small_one_is() -> None:
    model, batch = build_case(load_encoder_config("paper"), 1, 1)
    graph = unit_graph(model, batch, verify=False)  # too large to run beside its trace
    assert 30 <= len(graph.units) <= 60
    (unit,) = [u for u in graph.units if "decorate" in u.operations]
    assert "scatter_max" in unit.operations and unit.index < graph.min_first_units(graph.first_head)
    for i in range(len(graph.units) - 1):
        assert not graph.raw & set(graph.live(i))
    trained = sum(p.numel() for p in model.parameters())
    held = {n: p.numel() for n, p in model.named_parameters()}
    assert sum(held[n] for u in graph.units for n in u.parameters) == trained


def test_points_are_on_their_canvas_before_anything_crosses() -> None:
    _, _, graph = made(small_encoder)
    (unit,) = [u for u in graph.units if "decorate" in u.operations]
    assert "scatter_max" in unit.operations
    # Pictures and points are read by few operations: the owner's least part is a small one.
    least = graph.min_first_units(graph.first_head)
    owners = [u.flops for u in (*graph.units[:least], *graph.units[graph.first_head :])]
    assert sum(owners) < 0.15 * sum(u.flops for u in graph.units)
    heads = {name for unit in graph.units[graph.first_head :] for name in unit.parameters}
    assert {"light.weight", "stop.weight", "detection.out.weight", "waypoints.out.weight"} <= heads


def test_a_module_that_is_used_twice_is_in_one_unit() -> None:
    _, _, graph = made(nasty)
    for layer in ("first", "twice"):
        (unit,) = [u for u in graph.units if f"{layer}.weight" in u.parameters]
        assert {layer, f"{layer}_1"} <= set(unit.operations)


def test_constant_buffers_are_each_units_own() -> None:
    _, _, graph = made(nasty)
    holders = [u for u in graph.units if "shift" in dict(unit_module(graph, u).named_buffers())]
    assert len(holders) == 2


def test_costs_are_those_of_the_profile_and_the_planner_reads_them() -> None:
    _, batch, graph = made(small_encoder)
    inputs = graph.traced.flatten(batch)
    costs = unit_costs(graph, inputs, formulas=FORMULAS)
    whole = record(in_order(graph), inputs, repeats=0, formulas=FORMULAS)
    for way in ("forward", "backward"):
        counted = sum(getattr(o.flops_counted, way) for o in whole.operations)
        assert sum(getattr(u, f"flops_{way}") for u in costs.units) == counted
    assert sum(u.parameter_bytes for u in costs.units) == sum(
        p.numel() * 4 for p in graph.traced.module.parameters()
    )
    assert all(u.optimizer_bytes >= 2 * u.parameter_bytes for u in costs.units)
    assert all(u.peak_bytes >= u.saved_bytes for u in costs.units)
    for cut in costs.cuts:
        facts = [graph.tensors[name] for name in cut.tensors]
        assert cut.forward_bytes == sum(
            torch.Size(f.shape).numel() * f.dtype.itemsize for f in facts
        )
        assert cut.backward_bytes <= cut.forward_bytes
    read = units_from_json(json.loads(json.dumps(costs.as_json())))
    assert len(read) == len(graph.units) and read.batch_size == 2


def test_the_digest_tells_structures_apart_and_not_weights_or_batches() -> None:
    _, _, graph = made(nasty)
    again = unit_graph(NastyModel().train(), nasty_batch(6, seed=3))
    assert again.digest == graph.digest
    assert unit_graph(NastyModel(width=6).train(), nasty_batch(4)).digest != graph.digest
    assert unit_graph(NastyModel().train(), nasty_batch(4), max_units=3).digest != graph.digest


def test_units_do_not_depend_on_an_example_in_which_a_part_has_nothing_to_do() -> None:
    model, (sensors, speed), graph = made(nasty)
    with torch.no_grad():
        nothing = torch.linalg.lstsq(model.first.weight, -9.0 - model.first.bias[:, None])[0].T
    assert not (model.first(nothing.expand(4, -1))[:, 0] > 0.0).any()  # no row is kept
    idle = ({**sensors, "front": nothing.repeat(4, 1)}, speed)
    assert unit_graph(model, idle).digest == graph.digest


@pytest.mark.parametrize("max_units", [1, 2, 5])
def test_there_are_as_many_units_as_asked_for(max_units: int) -> None:
    model, batch, _ = made(nasty)
    assert len(unit_graph(model, batch, max_units=max_units).units) == max_units


def test_writing_in_place_stays_with_what_is_written() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            before = self.b(y)  # reads y before it is written
            y.mul_(2.0)
            return self.c(y) + before

    model = InPlace()
    graph = unit_graph(model, (torch.randn(3, 4),))
    place = {n: u.index for u in graph.units for n in u.operations}
    assert place["a"] == place["mul_"]
    assert graph.dag.has_edge("b", "mul_") and graph.dag.has_edge("mul_", "c")
