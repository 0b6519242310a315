# SPDX-License-Identifier: Apache-2.0
"""The real model behind the service: batches and histories change nothing in what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from edge_service import ENCODER, Clock, request
from tiny_adllm import SHORT, tiny_model, tiny_tokens

from flad_common import error_codes as codes
from flad_edge.adllm.weights import save_adllm
from flad_edge.service.core import EdgeService, EdgeServiceConfig
from flad_edge.service.requests import Outcome
from flad_edge.service.served_adllm import served_adllm
from flad_perception.config import CONTRACT_VERSION
from flad_perception.wire import WireDtype, encode_tokens

TOLD = ("Turn left at the next crossing.", "Turn right at the traffic light.")
NOTICE = "Watch out, a pedestrian is ahead."


@pytest.fixture(scope="module")
def model():
    return tiny_model(SHORT)


@pytest.fixture
def service(model, tmp_path):
    identity = save_adllm(tmp_path / "untrained.safetensors", model)
    served = served_adllm(tmp_path / "untrained.safetensors", encoder_hash=ENCODER)
    assert served.release.name == "untrained" and served.release.adllm_hash == identity.hash
    return EdgeService(served, Clock(), EdgeServiceConfig(max_batch=2, completed_threshold=0.999))


def _request(vehicle, frame, tokens, **changes):
    encoded = encode_tokens(tokens.numpy(), WireDtype.FP32)
    values = {"contract_version": CONTRACT_VERSION, "instruction": TOLD[0], "tokens": encoded}
    return request(vehicle, 1.0 + 0.2 * frame, **{**values, **changes})


def test_vehicles_that_come_and_go_are_driven_as_if_each_were_alone(service, model):
    tokens = tiny_tokens(4, 14)  # more frames than a history holds
    rng = np.random.default_rng(3)
    frames, expected, got = [0] * 4, [[] for _ in range(4)], [[] for _ in range(4)]
    histories = model.start([TOLD[i % 2] for i in range(4)])
    while min(frames) < 14:
        i = int(rng.choice([v for v in range(4) if frames[v] < 14]))
        notice = NOTICE if frames[i] == 3 + i else None
        frame = tokens[i, frames[i]]
        said = model.step([histories[i]], frame[None], [notice])
        assert float(said.completed[0]) < 0.999
        expected[i].append(said.waypoints_m[0].numpy())
        assert not service.submit(
            _request(f"v{i}", frames[i], frame, instruction=TOLD[i % 2], notice=notice)
        )
        frames[i] += 1
        if rng.random() < 0.5 or service.num_waiting > 2:
            while service.num_waiting:
                for a in service.run_batch(100.0):
                    got[int(a.head.vehicle[1])].append(a)
    while service.num_waiting:
        for a in service.run_batch(100.0):
            got[int(a.head.vehicle[1])].append(a)
    for answers, wanted in zip(got, expected, strict=True):
        assert [a.outcome for a in answers] == [Outcome.ANSWERED] * 14
        np.testing.assert_allclose([a.waypoints_m for a in answers], wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"instruction": "向左轉,然後直行。"}, "no language"),
        ({"instruction": "left " * 79}, "at most 64 tokens"),
        ({"notice": "so " * 100}, "notice is too long"),
    ],
)
def test_what_the_tokenizer_cannot_read_never_reaches_the_batch(service, changes, words):
    good, bad = tiny_tokens(2)
    service.submit(_request("v0", 0, good))
    (refusal,) = service.submit(_request("v1", 0, bad, **changes))
    assert refusal.error is codes.INSTRUCTION_REFUSED and words in refusal.text
    assert [a.outcome for a in service.run_batch(100.0)] == [Outcome.ANSWERED]


def test_a_file_that_is_no_model_and_an_encoder_that_is_no_hash_are_refused(model, tmp_path):
    with pytest.raises(OSError, match="not a file"):
        served_adllm(tmp_path / "absent.safetensors", encoder_hash=ENCODER)
    save_adllm(tmp_path / "m.safetensors", model)
    with pytest.raises(ValueError, match="encoder_hash must be 16"):
        served_adllm(tmp_path / "m.safetensors", encoder_hash="small")
    assert torch.is_grad_enabled()
