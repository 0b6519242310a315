# SPDX-License-Identifier: Apache-2.0
"""``./flad train encoder`` from packed frames to weights, figures and a model card."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch
import yaml
from PIL import Image
from tiny_training import TINY, TRAIN, make_packed

from flad_common.config import from_mapping, to_yaml
from flad_perception.config import EncoderConfig
from flad_perception.training import cli
from flad_perception.training.config import TrainConfig, load_train_config
from flad_perception.training.stepper import Stepper
from flad_perception.weights import load_encoder


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Arguments that say which encoder, how to train and on what."""
    before = torch.get_num_threads()
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.yaml").write_text(to_yaml(TINY))
    (folder / "train.yaml").write_text(to_yaml(TRAIN))
    data = make_packed(folder)
    yield [
        *("--config", str(folder / "tiny.yaml"), "--training", str(folder / "train.yaml")),
        *("--data", str(data), "--quiet", "--device", "cpu"),
    ]
    torch.set_num_threads(before)


def test_a_run_leaves_weights_figures_settings_and_a_card(given, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main([*given, "--out", str(out), "--epochs", "1", "--seed", "3"]) == cli.OK

    _, config, identity = load_encoder(out / "tiny.safetensors")
    assert config == TINY
    figures = json.loads((out / "metrics.json").read_text())
    towns = figures["final"]["held-out towns"]
    assert set(towns) == {"Town02", "all"}
    assert towns["Town02"]["frames"] == 8  # 34 without the first and the last 2.5 s
    assert figures["epochs"][0]["towns"]["Town05"]["waypoint_l1_m_at_2.5s"] > 0.0
    encoder, training = yaml.safe_load_all((out / "config.yaml").read_text())
    assert from_mapping(EncoderConfig, encoder) == TINY
    assert from_mapping(TrainConfig, training).seed == 3
    card = (out / "MODEL_CARD.md").read_text()
    assert identity.hash in card
    assert "--epochs 1 --seed 3" in card
    assert f"| {towns['Town02']['waypoint_l1_m_at_1.0s']:.3f} |" in card
    assert Image.open(out / "curves.png").size[0] > 400
    assert any(p.name.startswith("events") for p in (out / "tb").iterdir())
    said = capsys.readouterr().out
    assert "held out towns: {'Town02': 8}" in said
    assert not [p for p in out.iterdir() if p.name.endswith(".new")]


def test_an_interrupt_writes_a_checkpoint_and_the_same_command_goes_on(
    given, tmp_path, capsys, monkeypatch
):
    step = Stepper.step

    def step_and_interrupt(self, batch, factor):
        os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, factor)

    handler = signal.getsignal(signal.SIGINT)
    command = [*given, "--out", str(tmp_path), "--epochs", "1"]
    with monkeypatch.context() as during:
        during.setattr(Stepper, "step", step_and_interrupt)
        assert cli.main(command) == cli.INTERRUPTED
    assert signal.getsignal(signal.SIGINT) is handler
    assert (tmp_path / "checkpoint.pt").is_file()
    assert not (tmp_path / "tiny.safetensors").exists()
    assert "interrupted at step 1" in capsys.readouterr().out

    assert cli.main(command) == cli.OK
    assert "going on from step 1" in capsys.readouterr().out
    assert cli.main(command) == cli.OK  # nothing is left to do but the last look


@pytest.mark.parametrize(
    "more, words",
    [
        (["--config", "nosuch"], "no encoder 'nosuch'"),
        (["--training", "nosuch"], "no encoder_nosuch.yaml"),
        (["--config", "small"], "does not suit"),
        (["--data", "/nowhere"], "/nowhere"),
        (["--holdout-towns", "Town02,Town05"], "no frames are left"),
        (["--holdout-towns", "Town2"], "--holdout-towns Town2"),
        (["--holdout-weathers", "12,rain"], "--holdout-weathers has rain; expected"),
        (["--lr", "-1"], "lr must be positive"),
        (["--precision", "fp16"], "fp16 needs a GPU"),
        (["--backbone-weights", "x.pth"], "is for a resnet50"),
    ],
)
def test_wrong_input_is_named_and_ends_without_a_traceback(given, tmp_path, capsys, more, words):
    assert cli.main([*given, "--out", str(tmp_path), *more]) == cli.BAD_INPUT
    assert words in capsys.readouterr().err


def test_another_run_in_the_same_folder_is_refused(given, tmp_path, capsys):
    command = [*given, "--out", str(tmp_path), "--epochs", "1"]
    assert cli.main(command) == cli.OK
    assert cli.main([*command, "--seed", "9"]) == cli.DIVERGED
    assert "train.seed is 1 there and 9 here" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["small", "paper"])
def test_the_settings_that_ship_hold_together(name):
    config = load_train_config(name)

    assert config.holdout_towns == ("OldTown",)
    assert config.holdout_weathers == (12, 13, 20)


def test_papers_rates_and_losses_are_lmdrives():
    config = load_train_config("paper")
    scale = config.batch_size / config.lr_batch_size

    assert config.batch_size == 192
    assert config.lr * scale == pytest.approx(2.81e-4, rel=2e-3)
    assert config.backbone_lr * scale == pytest.approx(1.125e-4, rel=2e-3)
    assert (config.weight_decay, config.eps, config.clip_norm) == (0.05, 1e-8, 5.0)
    loss = config.loss
    weights = (loss.traffic, loss.waypoints, loss.speed, loss.light, loss.stop)
    assert weights == (0.5, 0.5, 0.05, 0.1, 0.01)
