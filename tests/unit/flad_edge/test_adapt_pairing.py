# SPDX-License-Identifier: Apache-2.0
"""A language model may drive behind a trained encoder only if it reads its tokens as well."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import safetensors
from tiny_adllm import CONFIG, tiny_model
from tiny_lessons import HASH, features, write_drive

from flad_edge.adapt import make_clips, pairing
from flad_edge.adllm.weights import load_adllm, save_adllm

NEW_HASH = "fedcba9876543210"


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """The same tokens from both encoders; returns what :func:`pair` finds with a margin."""
    run = write_drive(tmp_path / "data")
    monkeypatch.setattr(make_clips, "usable_runs", lambda *_: ([run], []))
    monkeypatch.setattr(make_clips, "open_encoder", lambda name: None)
    monkeypatch.setattr(make_clips, "fill_cache", lambda jobs, *_: None)
    monkeypatch.setattr(make_clips, "cached_features", lambda run, *_: features(run))
    monkeypatch.setattr(pairing, "model_file", lambda name: tmp_path / name)
    identity = SimpleNamespace(hash=NEW_HASH)
    monkeypatch.setattr(pairing, "load_encoder", lambda path: SimpleNamespace(identity=identity))
    text = replace(CONFIG.text, max_instruction_tokens=200, max_pieces_per_word=20.0)
    model = tiny_model(replace(CONFIG, text=text))
    save_adllm(tmp_path / "known_adllm.safetensors", model, {"flad_encoder_hash": HASH})

    def found(margin_m: float):
        return pairing.pair(
            str(tmp_path / "known_adllm.safetensors"),
            known="known.safetensors",
            new=tmp_path / "new.safetensors",
            recordings=[tmp_path / "data"],
            folder=tmp_path / "pairing",
            margin_m=margin_m,
        )

    return found


def test_who_reads_as_well_as_before_gets_a_file_for_the_new_encoder(pair, tmp_path):
    found = pair(0.02)
    assert found.holds and found.num_frames > 20
    assert found.error_m == pytest.approx(found.new_error_m) and found.error_m > 0.0
    assert "they go together" in found.words
    file = tmp_path / "pairing/adllm.safetensors"
    with safetensors.safe_open(file, framework="pt") as kept:
        assert kept.metadata()["flad_encoder_hash"] == NEW_HASH
    before = load_adllm(tmp_path / "known_adllm.safetensors")
    assert load_adllm(file).identity.hash == before.identity.hash


def test_who_reads_worse_gets_none(pair, tmp_path):
    found = pair(-0.01)
    assert not found.holds
    assert "they do not go together" in found.words
    assert not (tmp_path / "pairing/adllm.safetensors").exists()
