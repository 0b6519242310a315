# SPDX-License-Identifier: Apache-2.0
"""A model that is not what the vehicle asks for never runs; one that runs repeats itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from flad_common.error_codes import FladError
from flad_perception.config import load_encoder_config
from flad_perception.live_sensors import CameraPicture, LiveSensors
from flad_perception.model.encoder import build_encoder
from flad_perception.scene_encoder import SceneEncoder, SceneEncoderConfig
from flad_perception.weights import save_encoder

CONFIG = load_encoder_config("small")
RNG = np.random.default_rng(4)
PICTURES = {
    view.camera: CameraPicture(pixels=RNG.integers(0, 256, (240, 320, 3), dtype=np.uint8))
    for view in CONFIG.views
}
SENSORS = LiveSensors(
    pictures=PICTURES,
    sweep=RNG.uniform(-15.0, 15.0, (500, 4)).astype(np.float32),
    speed_mps=3.0,
    target_point_m=(15.0, 2.0),
)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_encoder(path, build_encoder(CONFIG, seed=3), CONFIG)
    return path


def encoder(path, **options):
    options.setdefault("num_threads", 1)
    return SceneEncoder(SceneEncoderConfig(model=str(path), device="cpu", **options))


def test_the_same_moment_gives_the_same_bits_and_another_does_not(model_path):
    first, second = encoder(model_path), encoder(model_path)
    a, b = first.run(SENSORS), second.run(SENSORS)
    other = first.run(dataclasses.replace(SENSORS, speed_mps=9.0))
    assert a.tokens.shape == (CONFIG.num_tokens, CONFIG.embed_dim)
    assert a.tokens.tobytes() == b.tokens.tobytes() != other.tokens.tobytes()
    assert (a.light_red, a.stop, a.waypoints_m) == (b.light_red, b.stop, b.waypoints_m)
    assert 0.0 < a.light_red < 1.0 and len(a.waypoints_m) == CONFIG.num_waypoints


@pytest.mark.parametrize("lost", [*PICTURES, "all of them"])
def test_a_lost_camera_changes_the_answer_and_nothing_breaks(model_path, lost):
    pictures = {name: p for name, p in PICTURES.items() if lost not in (name, "all of them")}
    model = encoder(model_path)
    output = model.run(dataclasses.replace(SENSORS, pictures=pictures))
    assert np.isfinite(output.tokens).all()
    assert output.view_valid == tuple(view.camera in pictures for view in CONFIG.views)
    assert output.tokens.tobytes() != model.run(SENSORS).tokens.tobytes()


def test_a_lost_lidar_is_an_empty_sweep(model_path):
    model = encoder(model_path)
    lost = model.run(dataclasses.replace(SENSORS, sweep=None))
    empty = model.run(dataclasses.replace(SENSORS, sweep=np.zeros((0, 4), dtype=np.float32)))
    assert lost.tokens.tobytes() == empty.tokens.tobytes()
    assert (lost.lidar_valid, empty.lidar_valid) == (False, True)


def test_the_expected_model_is_taken(model_path):
    found = encoder(model_path).model_hash
    again = encoder(model_path, expected_model_hash=found[:8], expected_config="small")
    assert again.model_hash == found


@pytest.mark.parametrize(
    "options, words",
    [
        ({"expected_model_hash": "feedfeed"}, "expected_model_hash is feedfeed"),
        ({"expected_contract_version": 9}, "follow contract 1, expected_contract_version is 9"),
        ({"expected_config": "paper"}, "its embed_dim is 64, paper has 256"),
    ],
)
def test_another_model_than_expected_is_refused_by_its_number(model_path, options, words):
    with pytest.raises(FladError, match="FLAD-701 MODEL_REFUSED") as refused:
        encoder(model_path, **options)
    assert words in str(refused.value)


def _rewritten(path, target, change, **header):
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = {**file.metadata(), **header}
    state = load_file(path)
    change(state)
    save_file(state, target, metadata=metadata)
    return target


@pytest.mark.parametrize("fault", ["missing", "shape", "nan", "bit", "contract", "cut", "empty"])
def test_a_damaged_model_is_refused_by_its_number(model_path, tmp_path, fault):
    target = tmp_path / "bad.safetensors"

    def change(state):
        name = max(state, key=lambda n: state[n].numel())
        if fault == "missing":
            del state[name]
        elif fault == "shape":
            state[name] = state[name][:1].clone()
        elif fault == "nan":
            state[name].view(-1)[0] = torch.nan
        elif fault == "bit":
            state[name].view(-1)[0] += 1.0

    header = {"flad_contract_version": "9"} if fault == "contract" else {}
    _rewritten(model_path, target, change, **header)
    if fault in ("cut", "empty"):
        target.write_bytes(target.read_bytes()[: 1000 if fault == "cut" else 0])
    with pytest.raises(FladError, match="FLAD-701 MODEL_REFUSED"):
        encoder(target)


def test_a_model_that_is_not_there_is_refused_by_its_number():
    with pytest.raises(FladError, match="no model 'huge'"):
        encoder("huge")
