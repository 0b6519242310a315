# SPDX-License-Identifier: Apache-2.0
"""The encoder on several computers of a vehicle: the tokens of one, and what happens at a loss."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from time import monotonic

import numpy as np
import pytest
from member_threads import a_world_per_thread

from flad_common.error_codes import MODEL_REFUSED, FladError
from flad_edge.encoder_stages import computers_of, stage_server, staged_encoder
from flad_perception.live_sensors import LiveSensors
from flad_perception.scene_encoder import SceneEncoder, SceneEncoderConfig
from flad_perception.scene_output import SceneOutput
from flad_pipeline.group.deadlines import GroupError, TransportConfig
from flad_pipeline.group.memory_link import MemoryNetwork
from flad_pipeline.group.transport import Transport
from flad_pipeline.stages.forward import ForwardStage
from flad_pipeline.stages.staged_model import StagedModelConfig, StageServer

NAMES = ("front", "rear")
OPTIONS = SceneEncoderConfig(num_threads=1)


class Network(MemoryNetwork):
    """Opens transports as the computers' nodes do."""

    def open_(self, name: str, computers: Sequence[str]) -> Transport:
        return Transport(self.link(name), TransportConfig(timeout_s=60.0, silent_after_s=0.0))


@pytest.fixture
def network():
    return Network()


def sensors(seed: int) -> LiveSensors:
    points = np.random.default_rng(seed).normal(0.0, 8.0, (500, 4)).astype(np.float32)
    return LiveSensors(pictures={}, sweep=points, speed_mps=float(seed))


@contextmanager
def serving(open_, model="small", computers=NAMES) -> Iterator[StageServer]:
    """The other computer, in this process."""
    server = stage_server(model, computers, 1, open_=open_)
    server.start()
    try:
        yield server
    finally:
        server.stop(60.0)


@contextmanager
def encoding(open_, **patience) -> Iterator[SceneEncoder]:
    """The first computer."""
    config = StagedModelConfig(**patience)
    place = staged_encoder(NAMES, open_=open_, config=config)
    encoder = SceneEncoder(OPTIONS, place=place)
    try:
        yield encoder
    finally:
        encoder.close()


@functools.cache
def alone(seed: int) -> SceneOutput:
    return SceneEncoder(OPTIONS).run(sensors(seed))


def assert_as_alone(encoder: SceneEncoder, seed: int) -> None:
    assert_same(encoder.run(sensors(seed)), alone(seed))


def assert_same(found: SceneOutput, expected: SceneOutput) -> None:
    np.testing.assert_allclose(found.tokens, expected.tokens, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.waypoints_m, expected.waypoints_m, rtol=1e-5, atol=1e-5)


def test_two_computers_give_the_tokens_of_one_also_after_a_loss(network):
    with a_world_per_thread(), serving(network.open_) as server, encoding(network.open_) as encoder:
        assert_as_alone(encoder, 1)
        for time in range(3):
            server._member.interrupt("its cable was pulled")
            with pytest.raises(GroupError, match="its cable was pulled"):
                for _ in range(3):  # what had arrived may still be answered
                    encoder.run(sensors(2))
            assert_as_alone(encoder, 2 + time)


def test_while_a_computer_is_away_every_call_says_so_and_its_successor_is_taken(network):
    with a_world_per_thread(), encoding(network.open_, meeting_s=0.2) as encoder:
        with serving(network.open_):
            assert_as_alone(encoder, 1)
            network.kill("rear")
        for _ in range(2):
            began_s = monotonic()
            with pytest.raises(GroupError, match="rear") as error:
                encoder.run(sensors(2))
            assert error.value.lost == "rear" and monotonic() - began_s < 30.0
        with serving(network.open_) as server:
            found = None
            while found is None:  # the first calls may be over before it listens
                with suppress(GroupError):
                    found = encoder.run(sensors(2))
            assert_as_alone(encoder, 3)
            assert server.num_frames >= 1  # it counts a frame after its answer has left


def test_frames_in_flight_come_back_in_order_or_are_each_told_why_not(network, monkeypatch):
    broken, serve = threading.Event(), ForwardStage.serve

    def serve_or_fail(stage: ForwardStage, frame: int) -> None:
        if broken.is_set():
            raise RuntimeError("no memory")
        serve(stage, frame)

    monkeypatch.setattr(ForwardStage, "serve", serve_or_fail)
    with a_world_per_thread(), serving(network.open_), encoding(network.open_) as encoder:
        for seed in (1, 2, 3):
            encoder.begin(sensors(seed))
        for seed in (1, 2, 3):
            assert_same(encoder.finish(), alone(seed))
        broken.set()
        num_begun = 0
        for seed in (1, 2, 3):
            with suppress(GroupError):  # it may know already
                encoder.begin(sensors(seed))
                num_begun += 1
        why = []
        for place in range(num_begun):
            try:
                found = encoder.finish()
            except GroupError as error:
                why.append(error.detail)
            else:
                assert_same(found, alone(1))  # the first was awaited before
                assert place == 0
        assert len(why) >= num_begun - 1
        assert all("rear failed: RuntimeError('no memory')" in reason for reason in why)
        broken.clear()
        assert_as_alone(encoder, 4)


def test_an_encoder_that_comes_back_finds_stages_that_are_in_a_later_epoch(network):
    with a_world_per_thread(), serving(network.open_) as server:
        for first_epoch in (70_000, 1, 5):
            with encoding(network.open_, first_epoch=first_epoch) as encoder:
                assert_as_alone(encoder, 1)
    assert server.num_frames == 3  # it counts a frame after its answer has left: it has ended now


def test_a_stage_that_was_stopped_can_be_started_again(network):
    with a_world_per_thread(), serving(network.open_) as server, encoding(network.open_) as encoder:
        assert_as_alone(encoder, 1)
        server.stop(60.0)
        server.start()
        with suppress(GroupError):
            encoder.run(sensors(1))
        assert_as_alone(encoder, 2)


def test_another_model_or_cut_on_the_other_computer_is_refused_at_every_call(network):
    with a_world_per_thread(), serving(network.open_) as server, encoding(network.open_) as encoder:
        good = server._member.hello
        for bad, complaint in (
            (replace(good, model="another"), "rear has the model another, front has"),
            (replace(good, cuts="other"), "rear and front cut the model differently"),
        ):
            server._member.hello = bad
            for _ in range(2):
                with pytest.raises(FladError, match=complaint) as refused:
                    encoder.run(sensors(1))
                assert refused.value.code is MODEL_REFUSED
        server._member.hello = good
        assert_as_alone(encoder, 1)


@pytest.mark.parametrize("stages", [(), ("front",), ("front", "front")])
def test_stages_are_two_computers_or_more(stages):
    with pytest.raises(ValueError, match="two computers or more"):
        computers_of(stages)
