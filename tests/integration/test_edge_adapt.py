# SPDX-License-Identifier: Apache-2.0
"""An edge that drives on: releases come and go, uploads come in, a tuning goes live."""

from __future__ import annotations

import array
import itertools

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from edge_stand import LEFT, Stand
from flad_msgs.msg import DriveAnswer
from std_msgs.msg import UInt8MultiArray
from std_srvs.srv import Trigger
from tiny_releases import CONFIG, make_adllm, make_clip, make_encoder

from flad_common import error_codes as codes
from flad_common.ros.qos import LOCKSTEP
from flad_common.supervision import Supervisor
from flad_edge.adapt import release_cli
from flad_edge.adapt.signed import seal
from flad_edge.adapt.store import ReleaseStore
from flad_edge.training.clip_file import clip_to_bytes, write_clip
from flad_pipeline.aggregation.keys import VehicleKey

_TUNING_S = 400.0
pytestmark = pytest.mark.timeout(900)  # a tuning yields to whatever else the machine does


class Adapting(Stand):
    """An edge with a store, and a vehicle that asks all the time and counts."""

    def __init__(self, supervisor, folder):
        self.folder, self.store = folder, ReleaseStore(folder / "store")
        encoder = folder / "encoder.safetensors"
        encoder_hash = make_encoder(encoder)
        for name, seed in (("base", 1), ("other", 2)):
            path = folder / f"{name}.safetensors"
            make_adllm(path, seed)
            self.store.add(name, encoder=encoder, adllm=path, adm=path)
        (folder / "held").mkdir()
        write_clip(folder / "held/a.safetensors", make_clip(encoder_hash, 90, 12, "A"))
        for name in ("base", "other"):  # as if scored: what the scores are is tested elsewhere
            self.store.scored(name, error_m=1.0, adm_error_m=1.0, clips_hash="1" * 16)
        self.store.publish("base", margin_m=0.0)
        (folder / "tune.yaml").write_text("steps: 3\nbatch_clips: 2\n")
        super().__init__(
            supervisor,
            {
                "releases": str(self.store.root),
                "service.completed_threshold": "0.999999",
                "adapt.uploads_folder": str(folder / "uploads"),
                "adapt.held_out_folder": str(folder / "held"),
                "adapt.tune_file": str(folder / "tune.yaml"),
                "adapt.margin_m": "100.0",
                "adapt.trigger.min_new_frames": "20",
                "adapt.trigger.idle_s": "0.0",
                "adapt.trigger.max_busy_share": "1.0",
                "adapt.trigger.min_pause_s": "10000.0",
            },
            encoder_hash,
        )
        self.receipts = []
        self.clip_pub = self.node.create_publisher(UInt8MultiArray, "/edge/clips", LOCKSTEP)
        self.node.create_subscription(
            DiagnosticStatus, "/edge/clip_receipts", self.receipts.append, LOCKSTEP
        )
        self.trigger = self.node.create_client(Trigger, "/edge/serve_live")
        self.until(self.clip_pub.get_subscription_count, "the edge taking uploads")
        self.until(self.trigger.service_is_ready, "the edge's service")
        self.frames = itertools.count(1)
        self.tokens = np.ones((CONFIG.num_tokens, CONFIG.token_dim), np.float32)

    def drive(self):
        """One frame; its answer, which must be waypoints."""
        number = len(self.answers)
        self.ask("vehicle_0", next(self.frames), self.tokens, LEFT)
        answer = self.answer(number)
        assert answer.outcome == DriveAnswer.ANSWERED, answer.text
        return answer

    def drive_until(self, release, deadline_s=60.0):
        """Ask on and on until another release answers; names in the order they answered."""
        names = []

        def reached():
            names.append(self.drive().release)
            return names[-1] == release

        self.until(reached, f"{release} driving", deadline_s)
        return names

    def serve_live(self):
        future = self.trigger.call_async(Trigger.Request())
        self.until(future.done, "an answer of the service")
        return future.result()

    def upload(self, data):
        number = len(self.receipts)
        self.clip_pub.publish(UInt8MultiArray(data=array.array("B", data)))
        self.until(lambda: len(self.receipts) > number, "a receipt")
        return self.receipts[number]


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapting")
    with Supervisor(folder / "logs") as supervisor:
        one = Adapting(supervisor, folder)
        yield one
        one.close()


def test_releases_are_swapped_under_a_driving_vehicle_and_back(edge):
    first = edge.drive()
    assert first.release == "base"
    assert edge.serve_live().message == "base drives already"
    edge.store.publish("other", margin_m=0.0)
    assert edge.drive().release == "base", "nobody has told the edge"
    assert edge.serve_live().success
    names = edge.drive_until("other")
    assert names == ["base"] * (len(names) - 1) + ["other"]
    other = edge.drive()
    assert abs(other.x[4] - first.x[4]) > 1e-3, "another model says something else"

    edge.store.roll_back()
    assert edge.serve_live().success
    assert edge.drive_until("base")[-1] == "base"
    # What it says on its first frame it says again: the history began anew with the swap.
    np.testing.assert_allclose(edge.answers[-1].x, first.x, atol=1e-4)


def test_a_release_whose_file_was_damaged_stays_out_and_driving_goes_on(edge):
    make_adllm(edge.folder / "third.safetensors", 3)
    path, encoder = edge.folder / "third.safetensors", edge.folder / "encoder.safetensors"
    stored = edge.store.add("third", encoder=encoder, adllm=path, adm=path)
    edge.store.scored("third", error_m=1.0, adm_error_m=1.0, clips_hash="1" * 16)
    edge.store.publish("third", margin_m=0.0)
    stored.adllm.write_bytes(stored.adllm.read_bytes()[:-10])
    assert edge.serve_live().success  # it has begun to load
    edge.until(lambda: "third" in edge.figures().get("release_problem", ""), "its complaint")
    assert edge.drive().release == "base"
    edge.store.roll_back()
    assert edge.serve_live().message == "base drives already"


def test_the_command_line_publishes_to_the_running_edge_and_takes_back(edge, capsys):
    path, encoder = edge.folder / "fourth.safetensors", edge.folder / "encoder.safetensors"
    make_adllm(path, 4)
    stored = edge.store.add("fourth", encoder=encoder, adllm=path, adm=path)
    edge.store.scored("fourth", error_m=1.0, adm_error_m=1.0, clips_hash="1" * 16)

    def flad(*words):
        rest = [*words, "--edge", "--deadline-s", "120"]
        assert release_cli.main(["--store", str(edge.store.root), *rest]) == 0
        return capsys.readouterr().out

    said = flad("publish", "fourth")
    assert f"the edge drives on fourth, AD-LLM {stored.release.adllm_hash}" in said
    assert edge.drive().release == "fourth"
    assert "the edge drives on base" in flad("rollback")
    assert edge.drive().release == "base"


def test_a_release_that_is_taken_back_while_it_is_loaded_never_drives(edge):
    """Whoever rolls back while the edge loads gets what the store says, not what was under way."""
    path, encoder = edge.folder / "fifth.safetensors", edge.folder / "encoder.safetensors"
    make_adllm(path, 5)
    edge.store.add("fifth", encoder=encoder, adllm=path, adm=path)
    edge.store.scored("fifth", error_m=1.0, adm_error_m=1.0, clips_hash="1" * 16)
    edge.store.publish("fifth", margin_m=0.0)
    # Both calls are there before the loader has read the file.
    calls = [edge.trigger.call_async(Trigger.Request())]
    edge.until(calls[0].done, "an answer of the service")
    edge.store.roll_back()
    assert edge.serve_live().success
    seen = len(edge.diagnostics)
    edge.until(lambda: len(edge.diagnostics) > seen + 5, "five seconds of diagnostics")
    assert edge.drive().release == "base" and edge.figures()["release"] == "base"


def test_uploads_are_checked_kept_and_answered_and_start_a_tuning_that_goes_live(edge):
    def clip(seed, encoder_hash=edge.encoder_hash):
        about = {"source": "vehicle", "vehicle": "vehicle_7"}
        return clip_to_bytes(make_clip(encoder_hash, seed, 12, about=about))

    for bad, words in [
        (b"\x89PNG\r\n" + b"\0" * 500, "this is no clip"),
        (clip(1, encoder_hash="f" * 16), "of encoder 'ffff"),
        (clip(1)[:-1], "this is no clip"),
        (seal(clip(1), VehicleKey.generate())[:-1], "this is no clip"),
    ]:
        receipt = edge.upload(bad)
        assert receipt.level == DiagnosticStatus.ERROR and words in receipt.message
        assert receipt.values[0].value == str(codes.UPLOAD_REFUSED.number)
    assert edge.figures()["release"] == "base"
    good = [clip(1), clip(2)]  # a file's header has no fixed order: made anew, it is another file
    for data in good:
        receipt = edge.upload(data)
        assert (receipt.level, receipt.name) == (DiagnosticStatus.OK, "vehicle_7")
        assert (edge.folder / f"uploads/vehicle_7/{receipt.hardware_id}.safetensors").is_file()
    assert edge.upload(good[1]).level == DiagnosticStatus.OK, "its receipt may have been lost"
    before = len(edge.answers)
    names = edge.drive_until("base-t1", _TUNING_S)
    assert set(names[:-1]) == {"base"}, "it drove on meanwhile"
    assert len(edge.answers) == before + len(names)
    live = edge.store.live().release
    assert (live.name, live.encoder_hash) == ("base-t1", edge.encoder_hash)
    assert edge.store.log()[-1]["event"] == "published"
    edge.until(lambda: edge.figures()["release"] == "base-t1", "diagnostics that say so")
    assert edge.figures()["uploads_accepted"] == "2"
    assert edge.figures()["uploads_refused"] == "UPLOAD_REFUSED 4"
