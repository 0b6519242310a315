# SPDX-License-Identifier: Apache-2.0
"""Whole profiles: well-known models, the checks against measurement, the JSON."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

import flad_perception.torchvision_ops  # noqa: F401  (before torchvision)
from flad_common.profiling.check import Check
from flad_common.profiling.child import measure_step
from flad_common.profiling.profile import SCHEMA, SCHEMA_VERSION, Profile, profile_model
from flad_common.profiling.table import table
from flad_perception.config import EncoderConfig
from flad_perception.profiling.encoder import profile_encoder


def build_vision(name: str, **kwargs: Any) -> tuple[nn.Module, Sequence[Any]]:
    from torchvision import models

    return getattr(models, name)(num_classes=3, **kwargs).train(), (torch.randn(2, 3, 32, 32),)


def build_convolutions() -> tuple[nn.Module, Sequence[Any]]:
    layers: list[nn.Module] = []
    for _ in range(8):
        layers += [nn.Conv2d(8, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU()]
    return nn.Sequential(*layers), (torch.randn(4, 8, 64, 64),)


def build_broken() -> tuple[nn.Module, Sequence[Any]]:
    raise MemoryError("no such model")


def check(profile: Profile, name: str, by: str = "") -> Check:
    (found,) = [c for c in profile.checks if c.name == name and by in c.by]
    return found


@pytest.mark.parametrize(
    ("name", "kwargs", "parameters"),
    [
        # torchvision documents 25557032 and 86567656 with 1000 classes.
        ("resnet50", {}, 25557032 - 997 * (2048 + 1)),
        ("vit_b_16", {"image_size": 32}, 86567656 - 997 * (768 + 1) - (197 - 5) * 768),
    ],
)
def test_known_models_are_counted_exactly(
    name: str, kwargs: dict[str, Any], parameters: int
) -> None:
    build = functools.partial(build_vision, name, **kwargs)
    profile = profile_model(build, repeats=0, measure=False)
    assert profile.total().num_parameters == parameters
    assert profile.total().optimizer_bytes >= 8 * parameters
    for figure in ("forward FLOPs", "backward FLOPs", "saved bytes"):
        assert check(profile, figure).ratio == pytest.approx(1.0), figure
    assert all(o.by_formula for o in profile.recording.operations)


def test_the_encoder_is_counted_exactly(small: EncoderConfig) -> None:
    profile = profile_encoder(small, batch_size=2, repeats=0, measure=False)
    for figure in ("forward FLOPs", "backward FLOPs", "saved bytes"):
        assert check(profile, figure).ratio == pytest.approx(1.0), figure
    assert all(o.by_formula for o in profile.recording.operations)
    kinds = [o.kind for o in profile.recording.operations]
    assert kinds.count("decorate") == kinds.count("scatter_max") == 1
    parts = {"view_tokens", "lidar", "encoder", "decoder", "detection", "waypoints", "light"}
    assert parts <= profile.blocks(1).keys()
    # Its inputs are the batch: nothing but those crosses before the first operation.
    first = next(i for i, o in enumerate(profile.recording.operations) if o.op != "placeholder")
    document = profile.as_json()
    assert document["cuts"][first - 1]["forward_bytes"] == 0
    assert document["config"]["name"] == "small"


def test_an_empty_batch_is_refused(small: EncoderConfig) -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        profile_encoder(small, batch_size=0)


@pytest.fixture(scope="module")
def measured() -> Profile:
    return profile_model(build_convolutions, facts={"model": "toy"}, repeats=1)


def test_the_peak_agrees_with_the_allocator(measured: Profile) -> None:
    # Half a MiB per tensor, 25 of them at the peak: a kernel's scratch memory matters little.
    ratio = check(measured, "peak bytes", "allocator").ratio
    assert 0.95 < ratio < 1.15


def test_achieved_rate_is_flops_over_time(measured: Profile) -> None:
    total = measured.total()
    seconds = total.forward_s + total.backward_s
    assert seconds > 0.0
    expected = (total.flops_forward + total.flops_backward) / seconds / 1e9
    assert total.gflops_per_s == pytest.approx(expected)


def test_table_names_every_block_and_check(measured: Profile) -> None:
    text = table(measured, depth=1)
    rows = [line.split()[0] for line in text.splitlines() if line]
    assert rows[1:8] == ["0", "1", "10", "11", "12", "13", "14"]
    assert "PyTorch's allocator" in text


def test_a_unit_can_be_put_together_from_the_json(measured: Profile) -> None:
    document = json.loads(json.dumps(measured.as_json()))
    assert (document["schema"], document["schema_version"]) == (SCHEMA, SCHEMA_VERSION)
    unit = document["operations"][1:4]
    assert [o["kind"] for o in unit] == ["Conv2d", "GroupNorm", "ReLU"]
    cost = measured.cost([1, 2, 3])
    names = {name for o in unit for name in o["parameters"]}
    kept = {storage for o in unit for storage in o["saves"]}
    assert sum(o["flops_backward"] for o in unit) == cost.flops_backward
    assert sum(document["parameters"][n]["weights"] for n in names) == cost.parameter_bytes
    assert sum(document["parameters"][n]["optimizer"] for n in names) == cost.optimizer_bytes
    assert sum(document["storages"][s] for s in kept) == cost.saved_bytes
    assert document["cuts"][3]["forward_bytes"] == 4 * 8 * 64 * 64 * 4
    assert document["cuts"][3]["tensors"][0]["made_by"] == unit[-1]["name"]


def test_a_failing_process_is_an_error_with_its_status() -> None:
    with pytest.raises(RuntimeError, match="ended with status 1"):
        measure_step(build_broken, deadline_s=60.0)
