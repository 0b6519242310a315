# SPDX-License-Identifier: Apache-2.0
"""Options of a drive by words, the edge's loss, and what the results say of who drove."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
from safetensors.numpy import save_file

from flad_carla.evaluation import driver_options, driving_models
from flad_carla.evaluation.driver_options import (
    add_encoder_arguments,
    add_language_arguments,
    encoder_option,
    language_option,
)
from flad_carla.evaluation.driver_tally import DriverTally
from flad_carla.evaluation.edge_loss import EdgeLoss
from flad_carla.evaluation.language_driver import EdgeLossWindow, LanguageDriver
from flad_carla.evaluation.processes import start_edge
from flad_carla.run_log import DriverView
from flad_common.fast_dds import PROFILE_VARIABLE, SHIPPED, UDP_ONLY
from flad_perception.weights_header import model_hash_of


@pytest.fixture
def weights(tmp_path):
    file = tmp_path / "weights.safetensors"
    file.touch()
    return file


def test_a_driver_without_its_weights_is_refused_with_the_option_that_lacks(weights, tmp_path):
    for who, files, complaint in [
        ("adllm", {}, "needs --adllm"),
        ("blind", {"adm": weights}, "needs --adllm"),
        ("adm", {"adllm": weights}, "needs --adm"),
        ("adllm", {"adllm": tmp_path / "absent"}, "absent is no file"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            LanguageDriver(who=who, encoder_hash="e" * 16, **files)
    loss = EdgeLossWindow.parse("3:5")
    with pytest.raises(ValueError, match="--edge-loss needs"):
        LanguageDriver(who="adm", encoder_hash="e" * 16, adm=weights, edge_loss=loss)
    with pytest.raises(ValueError, match="English"):
        LanguageDriver(
            who="adm", encoder_hash="e" * 16, adm=weights, instruction="Biegen Sie bitte links ab"
        )


def test_an_operators_instruction_is_tidied_as_the_vehicle_will_tidy_it(weights):
    driver = LanguageDriver(
        who="adm", encoder_hash="e" * 16, adm=weights, instruction="  Turn  left. "
    )
    assert driver.instruction == "Turn left."


@pytest.mark.parametrize("text", ["5:3", "-1:3", "a:b", "", ":", "nan:3"])
def test_a_loss_that_cannot_be_is_named(text):
    with pytest.raises(ValueError, match="T0:T1"):
        EdgeLossWindow.parse(text)


def test_an_edge_that_is_not_given_back_stays_away():
    assert EdgeLossWindow.parse("4").back_s == float("inf")


class _Log:
    """Switch and pilot at once."""

    def __init__(self):
        self.said = []

    def lose_edge(self):
        self.said.append("kill")

    def regain_edge(self):
        self.said.append("start")

    def await_edge(self, is_there):
        self.said.append(f"wait {is_there}")


def test_the_edge_is_lost_once_and_given_back_once_and_the_driver_knows_before_time_goes_on():
    log = _Log()
    loss = EdgeLoss(EdgeLossWindow(lost_s=1.0, back_s=2.0), log, log)
    said_at = {}
    for tick in range(80):
        before = len(log.said)
        loss.step(tick * 0.05)
        if len(log.said) > before:
            said_at[round(tick * 0.05, 2)] = log.said[before:]
    assert said_at == {1.0: ["kill", "wait False"], 2.0: ["start", "wait True"]}


def test_an_edge_that_may_be_killed_is_started_without_shared_memory(
    weights, workspace, monkeypatch
):
    monkeypatch.setenv(PROFILE_VARIABLE, str(workspace.config / SHIPPED))
    started = {}

    class Children:
        def start(self, name, command, *, environment):
            started[name] = environment

    start_edge(
        Children(),
        LanguageDriver(who="adllm", encoder_hash="e" * 16, adllm=weights),
        domain_id=7,
    )

    assert started["edge"]["ROS_DOMAIN_ID"] == "7"
    assert started["edge"][PROFILE_VARIABLE] == str(workspace.config / UDP_ONLY)


def _view(stamp_s, who, instruction="Go on.", **changes):
    return DriverView(stamp_s=stamp_s, who=who, instruction=instruction, **changes)


def test_the_tally_counts_frames_and_keeps_changes_only():
    tally = DriverTally()
    assert tally.document() == {}
    frames = [
        _view(0.0, "adllm", latency_s=0.010),
        _view(0.2, "adllm", latency_s=0.020),
        _view(0.4, "nobody", why="the edge is gone"),
        _view(0.6, "adm", latency_s=0.030),
        _view(0.8, "adm", instruction="Stop.", latency_s=0.040),
    ]
    for i, frame in enumerate(frames):
        for tick in range(4):  # a frame stands for several ticks
            tally.step(frame, 0.2 * i + 0.05 * tick)
    told = tally.document()
    assert told["frames"] == {"adllm": 2, "adm": 2, "nobody": 1}
    assert told["latency_ms"]["p50"] == pytest.approx(25.0)
    changes = [(c["time_s"], c["who"], c["instruction"]) for c in told["timeline"]]
    assert changes == [
        (0.0, "adllm", "Go on."),
        (0.4, "nobody", "Go on."),
        (0.6, "adm", "Go on."),
        (0.8, "adm", "Stop."),
    ]


def _options(*words):
    parser = argparse.ArgumentParser()
    parser.add_argument("--driver")
    add_language_arguments(parser)
    add_encoder_arguments(parser)
    args = parser.parse_args(words)
    return args, encoder_option(args)


def test_models_go_by_name_or_file_and_must_read_the_encoders_tokens(tmp_path, monkeypatch):
    mine, other, silent = (tmp_path / f"{n}.safetensors" for n in ("mine", "other", "silent"))
    made_by = model_hash_of("small")
    save_file({"x": np.zeros(1)}, mine, metadata={"flad_encoder_hash": made_by})
    save_file({"x": np.zeros(1)}, other, metadata={"flad_encoder_hash": "0" * 16})
    save_file({"x": np.zeros(1)}, silent)
    monkeypatch.setattr(driving_models, "shipped_models", lambda: {"tiny": mine, "adm": mine})
    monkeypatch.setattr(driver_options, "shipped_models", lambda: {"tiny": mine, "adm": mine})

    args, encoder = _options("--driver", "adllm")
    assert (encoder.model, encoder.period_s) == ("small", 0.2)
    driver = language_option(args, encoder)
    assert (driver.adllm, driver.adm, driver.encoder_hash) == (mine, mine, made_by)
    assert language_option(*_options("--driver", "adllm", "--adm", "off")).adm is None
    assert language_option(*_options("--driver", "blind")).adm is None
    driver = language_option(*_options("--driver", "adm", "--adm", str(silent)))
    assert (driver.adllm, driver.adm) == (None, silent)
    assert language_option(*_options("--driver", "expert")) is None

    for words, complaint in [
        (("--driver", "adllm", "--adllm", "huge"), "known are: tiny, adm"),
        (("--driver", "adllm", "--adllm", str(other)), "trained on tokens of encoder 0000"),
        (("--driver", "expert", "--adllm", "tiny"), "--adllm needs a driver"),
        (("--driver", "expert", "--wrong-turns"), "--wrong-turns needs a driver"),
        (("--driver", "adm", "--adm", str(tmp_path / "a.safetensors")), "no such file"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            language_option(*_options(*words))
