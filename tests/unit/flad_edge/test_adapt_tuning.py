# SPDX-License-Identifier: Apache-2.0
"""Uploads are checked and bounded; tuning learns from them; the result passes a gate or stays."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_adllm import tiny_model
from tiny_releases import CONFIG, make_adllm, make_clip, make_encoder

from flad_common import error_codes as codes
from flad_common.supervision import Supervisor
from flad_edge.adapt import release_cli, scoring
from flad_edge.adapt.scoring import read_clips, score
from flad_edge.adapt.signed import seal
from flad_edge.adapt.store import ReleaseStore
from flad_edge.adapt.trigger import TriggerConfig, TuneTrigger
from flad_edge.adapt.tune_run import divided
from flad_edge.adapt.tuner import AdaptConfig, Tuner
from flad_edge.adapt.tuning import TuneConfig, tune
from flad_edge.adapt.uploads import UploadBox, UploadConfig
from flad_edge.training.clip_file import clip_to_bytes, write_clip
from flad_pipeline.aggregation.keys import KeyRing, VehicleKey

QUICK = TuneConfig(steps=40, batch_clips=3, replay_clips=3, window_frames=6, lr=0.01)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuning")
    make_encoder(folder / "encoder.safetensors")
    make_adllm(folder / "adllm.safetensors")
    store = ReleaseStore(folder / "store")
    model = folder / "adllm.safetensors"
    store.add("base", encoder=folder / "encoder.safetensors", adllm=model, adm=model)
    store.publish("base", margin_m=0.0)
    return store


@pytest.fixture(scope="module")
def live(store):
    return store.live().release


def _upload(live, seed=0, vehicle="vehicle_1", **changes):
    about = {"vehicle": vehicle, "source": "vehicle"}
    return make_clip(live.encoder_hash, seed, 12, about=about, **changes)


def test_an_upload_is_kept_as_it_came(tmp_path, live):
    box = UploadBox(tmp_path, UploadConfig())
    data = clip_to_bytes(_upload(live))
    receipt = box.take(data, live, 0.0)
    assert (receipt.error, receipt.vehicle) == (None, "vehicle_1")
    path = tmp_path / f"vehicle_1/{receipt.clip}.safetensors"
    assert path.read_bytes() == data and (box.num_frames, box.num_bytes) == (12, len(data))
    again = box.take(data, live, 0.0)  # its receipt was lost
    assert (again.error, again.clip) == (None, receipt.clip) and "already" in again.text
    assert (box.num_frames, box.num_bytes) == (12, len(data))
    assert box.counts == {"accepted": 1, "again": 1}
    assert read_clips([tmp_path])[0].about["vehicle"] == "vehicle_1"


def test_with_a_ring_of_keys_only_the_vehicle_itself_uploads(tmp_path, live):
    own, others = VehicleKey.generate(), VehicleKey.generate()
    ring = tmp_path / "ring.yaml"
    enrolled = KeyRing().enrol("vehicle_1", own.public, today="2026-01-01")
    enrolled.save(ring)
    box = UploadBox(tmp_path / "box", UploadConfig(vehicle_keys=str(ring)))

    def why_not(data):
        receipt = box.take(data, live, 0.0)
        assert receipt.error in (None, codes.UPLOAD_REFUSED)
        return receipt.text

    data = clip_to_bytes(_upload(live, 1))
    assert "bears no signature" in why_not(data)
    assert "not that of vehicle_1" in why_not(seal(data, others))
    sealed = seal(data, own)
    assert "not that of vehicle_1" in why_not(sealed[: -len(data)] + clip_to_bytes(_upload(live)))
    stranger = clip_to_bytes(_upload(live, 1, vehicle="vehicle_2"))
    assert "no key is enrolled for 'vehicle_2'" in why_not(seal(stranger, own))
    assert why_not(seal(b"", own)) and why_not(sealed[:30])
    assert why_not(sealed) == "" and box.counts["accepted"] == 1
    # The file is a clip again, and a key that is revoked counts no more, at once.
    (kept,) = (tmp_path / "box").rglob("*.safetensors")
    assert kept.read_bytes() == data
    enrolled.revoke("vehicle_1", today="2026-01-02").save(ring)
    assert "was revoked" in why_not(seal(clip_to_bytes(_upload(live, 2)), own))


def test_a_drive_is_on_the_same_side_in_every_tuning(live):
    clips = [_upload(live, seed) for seed in range(40)]
    learned, told = divided(clips)
    assert len(learned) + len(told) == 40 and 2 <= len(told) <= 20
    _, more_told = divided([_upload(live, seed) for seed in range(100, 120)] + clips)
    sides = {clip.tokens.tobytes() for clip in more_told}
    assert all(clip.tokens.tobytes() in sides for clip in told)
    assert not any(clip.tokens.tobytes() in sides for clip in learned)
    assert divided(told[:1]) == (told[:1], []), "one clip is learned from"


def test_an_upload_that_gives_way_while_a_tuning_begins_is_left_out(tmp_path, live, monkeypatch):
    for seed in (1, 2, 3):
        write_clip(tmp_path / f"{seed}.safetensors", _upload(live, seed))
    paths = scoring.clip_paths([tmp_path])
    monkeypatch.setattr(scoring, "clip_paths", lambda folders: paths)
    paths[1].unlink()
    assert len(scoring.read_uploads([tmp_path])) == 2
    with pytest.raises(FileNotFoundError):
        scoring.read_clips([tmp_path])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder_hash": "f" * 16}, "of encoder 'ffff"),
        ({"contract_version": 99}, "contract 99"),
        ({"about": {"source": "vehicle"}}, "about.vehicle must be"),
        ({"about": {"vehicle": "../etc"}}, "about.vehicle must be"),
        ({"about": {"vehicle": "v", "gps": "48.1, 11.5"}}, r"about has \['gps'\]"),
        ({"waypoints_m": np.full((12, 5, 2), np.nan, np.float32)}, "0 of its frames"),
        ({"tokens": np.zeros((12, 3, 4), np.float16)}, "3 tokens of 4"),
    ],
)
def test_what_is_no_upload_of_this_edge_is_refused_and_not_kept(tmp_path, live, changes, words):
    box = UploadBox(tmp_path, UploadConfig())
    clip = replace(_upload(live), **changes)
    receipt = box.take(clip_to_bytes(clip), live, 0.0)
    assert receipt.error is codes.UPLOAD_REFUSED
    assert re.search(words, receipt.text), receipt.text
    assert box.counts["UPLOAD_REFUSED"] == 1 and not list(tmp_path.rglob("*.safetensors"))


def test_damaged_bytes_are_refused(tmp_path, live):
    box = UploadBox(tmp_path, UploadConfig())
    data = clip_to_bytes(_upload(live))
    for bad in (b"", b"\xff" * 100, data[:-1], data[: len(data) // 2], b"\x89PNG" + data):
        assert box.take(bad, live, 0.0).error is codes.UPLOAD_REFUSED
    assert box.counts["UPLOAD_REFUSED"] == 5 and box.take(data, live, 0.0).error is None


def test_one_vehicle_cannot_fill_the_disk_and_a_restart_remembers(tmp_path, live):
    size = len(clip_to_bytes(_upload(live)))
    config = UploadConfig(max_vehicle_mib=2.5 * size / 2**20, max_vehicles=2)
    kept = []
    for number in range(4):
        box = UploadBox(tmp_path, config)
        receipt = box.take(clip_to_bytes(_upload(live, number)), live, 0.0)
        kept.append(tmp_path / f"vehicle_1/{receipt.clip}.safetensors")
        os.utime(kept[-1], (number, number))
    assert [path.is_file() for path in kept] == [False, False, True, True], "the oldest gave way"
    assert box.num_bytes == sum(p.stat().st_size for p in kept[2:]) <= 2.5 * size
    assert box.counts["gave_way"] == 1
    assert box.take(clip_to_bytes(_upload(live, 2, "other")), live, 0.0).error is None
    assert kept[3].is_file(), "another's clips are not its business"
    third = box.take(clip_to_bytes(_upload(live, 2, "third")), live, 0.0)
    assert third.error is codes.UPLOAD_QUOTA and "2 vehicles" in third.text
    small = UploadBox(tmp_path / "small", UploadConfig(max_vehicle_mib=0.5 * size / 2**20))
    assert small.take(clip_to_bytes(_upload(live)), live, 0.0).error is codes.UPLOAD_QUOTA


def test_one_vehicle_cannot_keep_the_disk_busy(tmp_path, live):
    box = UploadBox(tmp_path, UploadConfig(max_clips_per_minute=2))
    clips = [clip_to_bytes(_upload(live, number)) for number in range(4)]
    assert [box.take(clip, live, 10.0).error for clip in clips[:2]] == [None, None]
    refused = box.take(clips[2], live, 69.9)
    assert refused.error is codes.UPLOAD_QUOTA and "2 clips within a minute" in refused.text
    assert box.take(clip_to_bytes(_upload(live, 2, "other")), live, 69.9).error is None
    assert box.take(clips[2], live, 70.0).error is None


def test_tuning_lowers_the_error_of_what_was_uploaded_and_touches_adapters_only(live):
    model = tiny_model(CONFIG)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    uploads = [make_clip(live.encoder_hash, seed) for seed in range(6)]
    old_m = score(model, uploads).error_m
    said = []
    tuned = tune(model, uploads, [], QUICK, say=said.append)
    assert score(model, uploads).error_m < 0.9 * old_m
    assert tuned.steps == 40 and "step 20 of 40" in said[0]
    changed = {n for n, p in model.state_dict().items() if not torch.equal(p, before[n])}
    assert changed and all(".q_proj." in n or ".v_proj." in n for n in changed)
    assert model.state_dict().keys() == before.keys() and not model.training


def test_tuning_ends_in_time_and_refuses_what_teaches_nothing(live):
    ticks = iter([0.0, 1.0, 61.0, 999.0])
    config = replace(QUICK, minutes=1.0)
    uploads = [make_clip(live.encoder_hash, 1, 20)]
    tuned = tune(tiny_model(CONFIG), uploads, uploads, config, clock=lambda: next(ticks))
    assert tuned.steps == 1
    blank = replace(uploads[0], waypoints_m=np.full((20, 5, 2), np.nan, np.float32))
    with pytest.raises(ValueError, match="no uploaded clip"):
        tune(tiny_model(CONFIG), [blank], [], QUICK)


def test_a_tuning_becomes_a_release_that_the_gate_lets_drive_or_holds_back(store, live, tmp_path):
    for number in range(5):
        (tmp_path / "uploads").mkdir(exist_ok=True)
        write_clip(tmp_path / f"uploads/{number}.safetensors", _upload(live, number))
    (tmp_path / "held").mkdir()
    for number, town in enumerate(("A", "B")):
        clip = make_clip(live.encoder_hash, 50 + number, 12, town)
        write_clip(tmp_path / f"held/{town}.safetensors", clip)
    (tmp_path / "tune.yaml").write_text("steps: 30\nlr: 0.01\nbatch_clips: 3\n")

    def flad(*more):
        words = ["--store", store.root, "tune", "--uploads", tmp_path / "uploads", "--clips"]
        words += [tmp_path / "held", "--config", tmp_path / "tune.yaml", *more]
        return release_cli.main([*map(str, words), "--json", str(tmp_path / "said.json")])

    assert flad("--publish", "100") == 0
    said = json.loads((tmp_path / "said.json").read_text())
    assert said["is_live"] and said["release"] == "base-t1" and said["num_clips"] == 4
    assert store.live().release.adllm_hash != live.adllm_hash
    assert store.live().release.encoder_hash == live.encoder_hash
    assert store.live().release.adm_hash == live.adm_hash
    assert said["by_town_m"].keys() == {"A", "B"}

    # Worse than the live one on the held-out clips: it is stored and stays out.
    for path in (tmp_path / "uploads").iterdir():
        clip = read_clips([path])[0]
        write_clip(path, replace(clip, waypoints_m=clip.waypoints_m - 60.0))
    (tmp_path / "tune.yaml").write_text("steps: 40\nlr: 0.05\nbatch_clips: 3\n")
    assert flad("--publish", "0.0") == 0
    said = json.loads((tmp_path / "said.json").read_text())
    assert not said["is_live"] and "stays out" in said["why_not"]
    assert store.live().release.name == "base-t1" and "base-t2" in store.names()


def test_a_tuning_waits_for_data_for_idleness_and_for_the_last_one():
    trigger = TuneTrigger(
        TriggerConfig(min_new_frames=100, max_busy_share=0.3, idle_s=10.0, min_pause_s=50.0)
    )

    def due(now_s, new_frames=100, busy_share=0.0):
        return trigger.is_due(now_s, new_frames=new_frames, busy_share=busy_share)

    assert not due(0.0) and not due(9.9)
    assert not due(10.0, new_frames=99) and due(10.0)
    assert not due(11.0, busy_share=0.31), "driving needs the machine"
    assert not due(12.0) and not due(21.9) and due(22.0, busy_share=0.3)
    trigger.ended(30.0)
    assert not due(79.0) and due(80.0)


def test_the_tuner_runs_a_process_of_its_own_and_says_how_it_ended(tmp_path):
    config = AdaptConfig(
        uploads_folder="uploads",
        held_out_folder="held",
        trigger=TriggerConfig(min_new_frames=1, idle_s=0.0, min_pause_s=0.0),
    )
    script = tmp_path / "python"
    script.write_text(f'#!{sys.executable}\nimport sys\nprint("\\n".join(sys.argv[1:]))\n')
    script.chmod(0o755)
    with Supervisor(tmp_path / "logs") as supervisor:
        tuner = Tuner(config, tmp_path / "store", supervisor, (str(script),))
        assert tuner.look(0.0, new_frames=0, busy_share=0.0) is None and not tuner.is_tuning
        assert tuner.look(1.0, new_frames=5, busy_share=0.0) is None and tuner.is_tuning
        child = supervisor.children[-1]
        child.process.wait(60.0)
        ended = tuner.look(2.0, new_frames=5, busy_share=0.0)
        assert ended.succeeded and not tuner.is_tuning
        assert supervisor.children == (), "nobody signals a process that is not there any more"
        said = child.log_file.read_text().split("\n")
        assert said[:2] == ["-m", "flad_edge.adapt.release_cli"]
        tuned = release_cli.build_parser().parse_args(said[2:-1])
        assert (tuned.publish, tuned.threads) == (0.02, 1)
        assert [str(p) for p in (*tuned.uploads, *tuned.clips)] == ["uploads", "held"]
    with pytest.raises(ValueError, match="needs uploads_folder"):
        AdaptConfig(held_out_folder="held")
    assert not AdaptConfig(uploads_folder="x").tunes
