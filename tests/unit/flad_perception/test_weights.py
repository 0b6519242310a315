# SPDX-License-Identifier: Apache-2.0
"""A file of weights says what it is, and what is not that is refused by name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from flad_perception.model.encoder import build_encoder, encode
from flad_perception.weights import (
    load_encoder,
    load_resnet,
    model_hash,
    save_encoder,
    shipped_weights,
    start_from,
    state_hash,
)


@pytest.fixture(scope="module")
def model(small):
    return build_encoder(small, seed=3).eval()


@pytest.fixture
def file(tmp_path: Path, model, small) -> Path:
    save_encoder(tmp_path / "small.safetensors", model, small, {"trained_by": "a test"})
    return tmp_path / "small.safetensors"


def _rewrite(file: Path, change) -> None:
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
        state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    change(state, header)
    save_file(state, file, metadata=header)


def test_what_is_saved_is_loaded(file, model, small, make_input):
    found = load_encoder(file)
    batch = make_input(small)

    assert found.config == small
    assert found.identity.hash == model_hash(model.state_dict(), small)
    assert (found.identity.name, found.identity.contract_version) == ("small", 1)
    with torch.no_grad():
        pairs = zip(encode(model, batch), encode(found.model, batch), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    with safe_open(file, framework="pt") as opened:
        assert opened.metadata()["trained_by"] == "a test"
    assert list(file.parent.iterdir()) == [file]


def test_the_hash_tells_models_apart_and_nothing_else(model, small):
    state = model.state_dict()
    same = {k: state[k].clone(memory_format=torch.preserve_format) for k in reversed(list(state))}
    strided = {
        k: v.to(memory_format=torch.channels_last) if v.dim() == 4 else v for k, v in state.items()
    }
    name = "light.bias"
    changed = {**state, name: state[name] + 1e-6}

    assert len(model_hash(state, small)) == 16
    assert model_hash(same, small) == model_hash(strided, small) == model_hash(state, small)
    assert model_hash(changed, small) != model_hash(state, small)
    other = dataclasses.replace(small, dropout=0.1)
    assert model_hash(state, other) != model_hash(state, small)


def test_a_file_from_before_a_knob_was_added_keeps_its_hash(file, small):
    """As if ``waypoints_from_speed`` were new: neither the file's text nor its hash have it."""

    def age(state, header):
        text = json.loads(header["flad_encoder_config"])
        del text["waypoints_from_speed"]
        header["flad_encoder_config"] = json.dumps(text, sort_keys=True)
        header["flad_model_hash"] = state_hash(state, header["flad_encoder_config"])

    _rewrite(file, age)
    found = load_encoder(file)
    assert found.config == dataclasses.replace(small, waypoints_from_speed=False)
    assert found.identity.hash != model_hash(found.model.state_dict(), found.config)


def _drop(state, header):
    del state["light.bias"]


def _widen(state, header):
    state["light.bias"] = torch.zeros(3)


def _add(state, header):
    state["extra"] = torch.zeros(3)


def _spoil(state, header):
    state["light.bias"] = torch.tensor([0.0, float("nan")])


def _touch(state, header):
    state["light.bias"] = state["light.bias"] + 1.0


def _other_contract(state, header):
    header["flad_contract_version"] = "7"


def _other_config(state, header):
    header["flad_encoder_config"] = header["flad_encoder_config"].replace('"dropout"', '"drop"')


def _no_config(state, header):
    del header["flad_encoder_config"]


@pytest.mark.parametrize(
    "change, complaint",
    [
        (_drop, r"light\.bias is missing"),
        (_widen, r"light\.bias is torch\.float32 \[3\], expected torch\.float32 \[2\]"),
        (_add, "extra is unknown"),
        (_spoil, r"light\.bias is not finite"),
        (_touch, "is damaged: its header says hash"),
        (_other_contract, "token contract 7, this version of FLAD has 1"),
        (_other_config, r"EncoderConfig has no \['drop'\]"),
        (_no_config, "holds no encoder"),
    ],
)
def test_what_does_not_fit_is_named(file, change, complaint):
    _rewrite(file, change)

    with pytest.raises(ValueError, match=complaint) as refused:
        load_encoder(file)
    assert str(file) in str(refused.value)


def test_half_a_file_is_refused(file, tmp_path: Path):
    file.write_bytes(file.read_bytes()[:5000])

    with pytest.raises(ValueError, match="is damaged or no safetensors file"):
        load_encoder(file)
    with pytest.raises(FileNotFoundError, match="is not a file"):
        load_encoder(tmp_path / "none.safetensors")


def test_a_model_starts_from_what_fits(file, model, small):
    grown = build_encoder(dataclasses.replace(small, detection_hidden=16), seed=5)
    before = {name: tensor.clone() for name, tensor in grown.state_dict().items()}

    assert start_from(grown, file) == ["detection"]
    after, there = grown.state_dict(), model.state_dict()
    assert torch.equal(after["light.weight"], there["light.weight"])
    assert torch.equal(after["detection.hidden.weight"], before["detection.hidden.weight"])


def test_shipped_weights_are_inside_the_package():
    assert shipped_weights("small").parts[-3:] == (
        "flad_perception",
        "weights_data",
        "small.safetensors",
    )


def test_a_torchvision_resnet_starts_the_backbone(paper, tmp_path: Path):
    from torchvision.models import resnet50  # its operators are declared by now

    torch.manual_seed(0)
    donor = resnet50(weights=None)
    torch.save(donor.state_dict(), tmp_path / "resnet50.pth")
    model = build_encoder(paper)
    load_resnet(model, tmp_path / "resnet50.pth")
    assert torch.equal(
        model.view_tokens.backbone.trunk.layer4[2].conv3.weight, donor.layer4[2].conv3.weight
    )

    state = donor.state_dict()
    del state["conv1.weight"]
    torch.save(state, tmp_path / "partial.pth")
    with pytest.raises(ValueError, match=r"lacks 1 of the backbone's \d+ tensors.*conv1\.weight"):
        load_resnet(model, tmp_path / "partial.pth")
