# SPDX-License-Identifier: Apache-2.0
"""Releases in a folder: whole triples, a gate on held-out clips, and the way back."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_adllm import tiny_model
from tiny_releases import CONFIG, make_adllm, make_clip, make_encoder

from flad_common.folder_lock import folder_lock
from flad_edge.adapt import release_cli
from flad_edge.adapt import store as store_module
from flad_edge.adapt.scoring import clips_hash, read_clips, score, score_release
from flad_edge.adapt.store import ReleaseStore
from flad_edge.adllm.weights import save_adllm
from flad_edge.service.served_adllm import served_release
from flad_edge.training.clip_file import write_clip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An encoder, and AD-LLMs (small models just as well) that are ever farther off."""
    folder = tmp_path_factory.mktemp("files")
    make_encoder(folder / "encoder.safetensors")
    for name, bias_m in {"good": 0.0, "near": 0.01, "far": 50.0}.items():
        make_adllm(folder / f"{name}.safetensors", bias_m=bias_m)
    return folder


@pytest.fixture
def store(tmp_path, files):
    store = ReleaseStore(tmp_path / "store")
    for name in ("good", "near", "far"):
        adm = files / f"{name}.safetensors"
        store.add(name, encoder=files / "encoder.safetensors", adllm=adm, adm=adm)
    return store


@pytest.fixture(scope="module")
def encoder_hash(files):
    return make_encoder(files / "again.safetensors")


@pytest.fixture
def clips(encoder_hash):
    return [make_clip(encoder_hash, i, 5 + i, town) for i, town in enumerate(("A", "B", "B"))]


def test_a_score_is_the_mean_error_of_the_frames_that_are_known(encoder_hash):
    model = tiny_model(CONFIG)
    clips = [make_clip(encoder_hash, 1, 4, "A"), make_clip(encoder_hash, 2, 9, "B")]
    unknown = clips[1].waypoints_m.copy()
    unknown[3:] = np.nan
    clips[1] = replace(clips[1], waypoints_m=unknown)
    errors = []
    for clip in clips:
        (history,) = model.start([clip.instruction])
        for frame, want in zip(clip.tokens, clip.waypoints_m, strict=True):
            tokens = torch.from_numpy(frame.astype(np.float32))[None]
            said = model.step([history], tokens, [None]).waypoints_m[0].numpy()
            errors.append(np.abs(said - want).mean())
    found = score(model, clips)
    assert found.num_frames == 7
    assert found.error_m == pytest.approx(np.nanmean(errors), abs=1e-4)
    assert found.by_town["A"] == pytest.approx(np.mean(errors[:4]), abs=1e-4)
    assert found.by_town["B"] == pytest.approx(np.mean(errors[4:7]), abs=1e-4)
    nothing = replace(clips[0], waypoints_m=np.full_like(clips[0].waypoints_m, np.nan))
    with pytest.raises(ValueError, match="none of 1 clips"):
        score(model, [nothing])


def test_drives_are_the_same_whichever_encoder_saw_them(encoder_hash):
    clips = [make_clip(encoder_hash, i) for i in range(3)]
    other = [replace(c, encoder_hash="f" * 16, tokens=c.tokens * 2) for c in reversed(clips)]
    assert clips_hash(clips) == clips_hash(other) != clips_hash(clips[:2])
    moved = replace(clips[0], waypoints_m=clips[0].waypoints_m + 1)
    assert clips_hash([moved, *clips[1:]]) != clips_hash(clips)


def test_the_gate_lets_a_release_live_and_rolling_back_restores_the_triple(store, clips):
    with pytest.raises(ValueError, match="must be a number"):
        store.publish("good", margin_m=0.0) and store.publish("near", margin_m=0.0)
    for name in ("good", "near", "far"):
        score_release(store, name, clips)
    with pytest.raises(ValueError, match="'far' stays out"):
        store.publish("far", margin_m=0.02)
    assert store.live().release.name == "good"
    history = store.publish("near", margin_m=0.02)
    assert [r.name for r in history.releases] == ["good", "near"]
    assert served_release(store.live()).release == store.get("near").release

    store.roll_back()
    back = ReleaseStore(store.root).live()
    assert back.release == store.get("good").release and back.adm.is_file()
    assert served_release(back).release.adllm_hash == back.release.adllm_hash
    with pytest.raises(ValueError, match="give it another name"):
        store.publish("near", margin_m=0.02)
    events = [(e["event"], e["release"]) for e in store.log()]
    assert events[3:] == [
        ("published", "good"),
        ("held back", "near"),
        *[("scored", n) for n in ("good", "near", "far")],
        ("held back", "far"),
        ("published", "near"),
        ("rolled back", "near"),
        ("held back", "near"),
    ]


def test_the_live_release_is_scored_again_where_the_clips_are_others(store, clips, encoder_hash):
    score_release(store, "good", clips[:1])
    store.publish("good", margin_m=0.0)
    before = store.history().live
    said = []
    score_release(store, "near", clips, said.append)
    after = store.history().live
    assert "good is live" in said[0] and after.clips_hash == clips_hash(clips)
    assert after.error_m != before.error_m and after == store.get("good").release
    said.clear()
    score_release(store, "far", clips, said.append)
    assert said == [], "it was scored on these already"
    foreign = [replace(c, encoder_hash="f" * 16) for c in clips]
    with pytest.raises(ValueError, match="make them with the release's encoder"):
        score_release(store, "near", foreign)
    score_release(store, "near", [*clips, *foreign])
    assert store.get("near").release.clips_hash == clips_hash(clips)


def test_a_release_without_an_adm_does_not_follow_one_with(store, files, clips):
    store.add("bare", encoder=files / "encoder.safetensors", adllm=files / "good.safetensors")
    for name in ("good", "bare"):
        score_release(store, name, clips)
    store.publish("good", margin_m=0.0)
    with pytest.raises(ValueError, match="it has no ADM"):
        store.publish("bare", margin_m=1.0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": "good"}, "another name"),
        ({"name": "../evil"}, "name is like"),
        ({"encoder": "good"}, "encoder"),
        ({"adllm": "encoder"}, "no AD-LLM"),
        ({"adllm": "absent"}, "not a file"),
        ({"adm": "other"}, "the ADM reads"),
    ],
)
def test_what_is_no_triple_is_not_taken_in(store, files, wrong, words):
    save_adllm(files / "other.safetensors", tiny_model())
    values = {"name": "new", "encoder": "encoder", "adllm": "good", "adm": "good", **wrong}
    name = values.pop("name")
    paths = {key: files / f"{value}.safetensors" for key, value in values.items()}
    before = sorted(store.root.rglob("*"))
    with pytest.raises((OSError, ValueError), match=words):
        store.add(name, **paths)
    assert sorted(store.root.rglob("*")) == before


def test_a_file_that_was_changed_behind_the_store_does_not_drive(store, files):
    shutil.copyfile(files / "far.safetensors", store.root / "good/adllm.safetensors")
    with pytest.raises(ValueError, match="release 'good' has AD-LLM"):
        served_release(store.get("good"))


def test_two_who_write_do_not_mix(store, monkeypatch):
    monkeypatch.setattr(store_module, "_LOCK_S", 0.0)
    with folder_lock(store.root), pytest.raises(ValueError, match="another process"):
        store.scored("good", error_m=0.1, adm_error_m=0.1, clips_hash="1" * 16)
    (store.root / "history.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"history.json is damaged"):
        store.history()


def test_the_command_line_does_all_of_it(tmp_path, files, clips, capsys):
    def flad(*words):
        status = release_cli.main(["--store", str(tmp_path / "store"), *map(str, words)])
        said = capsys.readouterr()
        return status, said.out, said.err

    (tmp_path / "clips").mkdir()
    for number, clip in enumerate(clips):
        write_clip(tmp_path / f"clips/{number}.safetensors", clip)
    assert clips_hash(read_clips([tmp_path / "clips"])) == clips_hash(clips)
    assert "has no releases" in flad("list")[1]
    for name in ("good", "far"):
        model = files / f"{name}.safetensors"
        encoder = files / "encoder.safetensors"
        assert flad("add", name, "--encoder", encoder, "--adllm", model, "--adm", model)[0] == 0
    status, out, _ = flad("score", "good", "far", "--clips", tmp_path / "clips")
    assert status == 0 and "A " in out and "B " in out
    assert flad("publish", "good")[0] == 0
    status, _, err = flad("publish", "far", "--margin-m", "0.5")
    assert status == 1 and "'far' stays out" in err
    assert flad("publish", "far", "--margin-m", "1000")[0] == 0
    status, out, _ = flad("rollback")
    assert status == 0 and "withdrawn  far" in out and "live       good" in out
    out = flad("list")[1]
    states = {line.split()[1]: line.split()[0] for line in out.splitlines()[:2]}
    assert states == {"far": "withdrawn", "good": "live"}
    assert json.loads((tmp_path / "store/history.json").read_text())["releases"][0]["adm_hash"]
    assert flad("score", "good", "--clips", tmp_path / "nowhere")[0] == 1
