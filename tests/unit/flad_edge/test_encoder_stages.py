# SPDX-License-Identifier: Apache-2.0
"""The encoder on several computers of a vehicle: the tokens of one, and what happens at a loss."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from member_threads import a_world_per_thread

from flad_common.error_codes import MODEL_REFUSED, FladError
from flad_edge.encoder_stages import computers_of, stage_server, staged_encoder
from flad_perception.live_sensors import LiveSensors
from flad_perception.scene_encoder import SceneEncoder, SceneEncoderConfig
from flad_pipeline.group.deadlines import GroupError, TransportConfig
from flad_pipeline.group.memory_link import MemoryNetwork
from flad_pipeline.group.transport import Transport

NAMES = ("front", "rear")
OPTIONS = SceneEncoderConfig(num_threads=1)


class Cables:
    """A fresh network each time that a computer opens its transport anew."""

    def __init__(self) -> None:
        self._networks: list[MemoryNetwork] = []
        self._times: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, name: str, computers: Sequence[str], *, is_owner: bool) -> Transport:
        with self._lock:
            place = self._times[name]
            self._times[name] += 1
            while len(self._networks) <= place:
                self._networks.append(MemoryNetwork())
            link = self._networks[place].link(name)
        return Transport(link, TransportConfig(timeout_s=60.0, silent_after_s=0.0))


def sensors(seed: int) -> LiveSensors:
    points = np.random.default_rng(seed).normal(0.0, 8.0, (500, 4)).astype(np.float32)
    return LiveSensors(pictures={}, sweep=points, speed_mps=float(seed))


def test_two_computers_give_the_tokens_of_one_also_after_a_loss():
    expected = [SceneEncoder(OPTIONS).run(sensors(seed)) for seed in (1, 2)]
    cables = Cables()
    with a_world_per_thread():
        server = stage_server("small", NAMES, "rear", open_=cables)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        encoder = SceneEncoder(OPTIONS, place=staged_encoder(NAMES, open_=cables))
        found = [encoder.run(sensors(1))]
        server._member._transport.abort("its cable was pulled")
        with pytest.raises(GroupError):
            for _ in range(3):  # what had arrived may still be answered
                encoder.run(sensors(2))
        found.append(encoder.run(sensors(2)))
        server.end()
        thread.join(60.0)
        assert not thread.is_alive()
        encoder._run.close()
    assert server.num_frames >= 2
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.tokens, other.tokens, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(one.waypoints_m, other.waypoints_m, rtol=1e-5, atol=1e-5)


def test_another_model_on_the_other_computer_is_refused():
    cables, errors = Cables(), []
    with a_world_per_thread():
        server = stage_server("small", NAMES, "rear", open_=cables)
        server._member._hash = "another"

        def serve() -> None:
            with pytest.raises(FladError, match="rear has the model another") as refused:
                server.run()
            errors.append(refused.value.code)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        encoder = SceneEncoder(OPTIONS, place=staged_encoder(NAMES, open_=cables))
        with pytest.raises(GroupError):
            encoder.run(sensors(1))
        thread.join(60.0)
    assert errors == [MODEL_REFUSED]


@pytest.mark.parametrize("stages", [(), ("front",), ("front", "front")])
def test_stages_are_two_computers_or_more(stages):
    with pytest.raises(ValueError, match="two computers or more"):
        computers_of(stages)
