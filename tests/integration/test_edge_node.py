# SPDX-License-Identifier: Apache-2.0
"""The edge as its own process, over real DDS; this process plays the vehicles."""

from __future__ import annotations

import array
import math
import zlib

import numpy as np
import pytest
import torch
from edge_stand import ENCODER, FRAME_NS, LEFT, RIGHT, Stand
from flad_msgs.msg import DriveAnswer
from tiny_adllm import CONFIG, tiny_model, tiny_tokens

from flad_common import error_codes as codes
from flad_common.supervision import Supervisor
from flad_edge.adllm.weights import save_adllm
from flad_perception.config import CONTRACT_VERSION
from flad_perception.ros.messages import stamp_to_ns


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def stand(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("edge")
    save_adllm(folder / "untrained.safetensors", model)
    with Supervisor(folder / "logs") as supervisor:
        path = folder / "untrained.safetensors"
        one = Stand(supervisor, {"model": str(path), "encoder_hash": ENCODER})
        yield one
        one.close()


def test_three_vehicles_are_driven_by_the_model(stand, model):
    frames = tiny_tokens(3, 8).numpy()
    told = [LEFT, RIGHT, LEFT]
    for frame in range(8):
        for i in range(3):
            notice = "The traffic light ahead is red." if (i, frame) == (1, 4) else ""
            stand.ask(f"vehicle_{i}", frame, frames[i, frame], told[i], notice=notice)
        stand.answer(3 * frame + 2)
    heard = {(m.header.frame_id, stamp_to_ns(m.header.stamp)): m for m in stand.answers}
    assert len(heard) == len(stand.answers) == 24
    for i in range(3):
        (history,) = model.start([told[i]])
        for frame in range(8):
            notice = "The traffic light ahead is red." if (i, frame) == (1, 4) else None
            said = model.step([history], torch.tensor(frames[i, frame])[None], [notice])
            msg = heard[f"vehicle_{i}", frame * FRAME_NS]
            assert (msg.outcome, msg.error, msg.text) == (DriveAnswer.ANSWERED, 0, "")
            assert (msg.release, msg.step_s, msg.session) == ("untrained", 0.5, "one")
            points = np.stack([msg.x, msg.y], axis=-1)
            np.testing.assert_allclose(points, said.waypoints_m[0].numpy(), atol=1e-4)
            assert abs(msg.completed - float(said.completed[0])) < 1e-4
            if msg.completed > 0.5:  # the vehicle's history ended with this answer
                (history,) = model.start([told[i]])


def test_whoever_asks_badly_is_told_why_and_the_others_are_unharmed(stand, model):
    """After each bad request another vehicle asks, whose history must go on as if alone."""
    frames = tiny_tokens(40, seed=7).numpy()
    good = frames[0]
    broken = good.copy()
    broken[2, 3] = math.nan
    as_bytes = broken.tobytes()
    bad = [
        ({"contract_version": CONTRACT_VERSION + 1}, codes.TOKENS_REFUSED),
        ({"model_hash": "f" * 16}, codes.TOKENS_REFUSED),
        ({"dtype": 9}, codes.REQUEST_MALFORMED),
        ({"crc32": 1}, codes.REQUEST_MALFORMED),
        ({"data": array.array("B", as_bytes), "crc32": zlib.crc32(as_bytes)}, "not finite"),
        ({"tokens": good[:-1]}, codes.REQUEST_MALFORMED),
        ({"tokens": good[:, :-1]}, codes.REQUEST_MALFORMED),
        ({"num_tokens": 4_000_000_000, "dim": 4_000_000_000}, codes.REQUEST_MALFORMED),
        ({"vehicle": ""}, codes.REQUEST_MALFORMED),
        ({"vehicle": "x" * 100_000}, codes.REQUEST_MALFORMED),
        ({"session": "no such; name"}, codes.REQUEST_MALFORMED),
        ({"budget_s": math.nan}, codes.REQUEST_MALFORMED),
        ({"instruction": ""}, codes.INSTRUCTION_REFUSED),
        ({"instruction": "left " * 20_000}, codes.INSTRUCTION_REFUSED),
        ({"instruction": "left\n[BOS]\x00"}, codes.INSTRUCTION_REFUSED),
        ({"instruction": "向左轉,然後直行。"}, codes.INSTRUCTION_REFUSED),
        ({"notice": "so " * 100}, codes.INSTRUCTION_REFUSED),
        ({"frame": 1}, codes.REQUEST_OUT_OF_ORDER),
        ({"session": "two"}, codes.VEHICLE_NAME_TAKEN),
    ]
    before = len(stand.answers)
    stand.ask("bad", 1, good)
    assert stand.answer(before).outcome == DriveAnswer.ANSWERED
    (history,) = model.start([RIGHT])
    for number, (changes, expected) in enumerate(bad):
        first = len(stand.answers)
        stand.ask(**{"vehicle": "bad", "frame": 2 + number, "tokens": good, **changes})
        stand.ask("beside", 2 + number, frames[number], RIGHT)
        stand.answer(first + 1)
        heard = {m.header.frame_id == "beside": m for m in stand.answers[first:]}
        refusal, answer = heard[False], heard[True]
        code = codes.REQUEST_MALFORMED if expected == "not finite" else expected
        assert (refusal.outcome, refusal.error) == (DriveAnswer.REFUSED, code.number), changes
        assert refusal.text and math.isnan(refusal.completed) and not refusal.x
        assert expected != "not finite" or "not finite" in refusal.text
        assert len(refusal.header.frame_id) <= 64 and len(refusal.text) <= 500
        said = model.step([history], torch.tensor(frames[number])[None], [None])
        assert answer.outcome == DriveAnswer.ANSWERED
        points = np.stack([answer.x, answer.y], axis=-1)
        np.testing.assert_allclose(points, said.waypoints_m[0].numpy(), atol=1e-4)
        if answer.completed > 0.5:
            (history,) = model.start([RIGHT])

    # Who was refused all the time goes on, too: nothing of it entered its history.
    first = len(stand.answers)
    stand.ask("bad", 2, frames[1])
    (history,) = model.start([LEFT])
    said = model.step([history], torch.tensor(good)[None], [None])
    if float(said.completed[0]) > 0.5:  # its history ended with its first answer
        (history,) = model.start([LEFT])
    said = model.step([history], torch.tensor(frames[1])[None], [None])
    np.testing.assert_allclose(stand.answer(first).x, said.waypoints_m[0, :, 0], atol=1e-4)
    heard_s = len(stand.diagnostics)
    stand.until(lambda: len(stand.diagnostics) > heard_s + 1, "two diagnostics")
    figures = stand.figures()
    assert int(figures["submitted"]) == len(stand.answers)
    assert int(figures["refused"]) == len(bad)
    assert float(figures["latency_p99_s"]) > 0.0 and CONFIG.num_waypoints == 5
