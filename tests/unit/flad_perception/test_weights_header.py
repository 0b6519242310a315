# SPDX-License-Identifier: Apache-2.0
"""A model's configuration without its weights."""

import pytest
from tiny_training import TINY

from flad_perception.config import load_encoder_config
from flad_perception.model.encoder import build_encoder
from flad_perception.weights import save_encoder
from flad_perception.weights_header import model_config


def test_it_is_the_one_that_was_saved(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_encoder(path, build_encoder(TINY), TINY)
    assert model_config(str(path)) == TINY
    assert model_config("small") == load_encoder_config("small")


def test_what_is_no_model_is_named(tmp_path):
    path = tmp_path / "bad.safetensors"
    for content in (None, b"not one", b"\x02\0\0\0\0\0\0\0{}"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.safetensors has no readable configuration"):
            model_config(str(path))
    with pytest.raises(ValueError, match="no encoder 'nosuch'"):
        model_config("nosuch")
