# SPDX-License-Identifier: Apache-2.0
"""Recordings become clips for the gate: only of the parts and towns that were asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny_lessons import HASH, features, write_drive

from flad_edge.adapt import make_clips, release_cli
from flad_edge.adapt.scoring import clips_hash, read_clips


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """Runs of weather 8 (trained on) and 12 (held out), and one of the held-out town."""
    run = write_drive(tmp_path / "data")
    runs = {
        "training": run,
        "weathers": replace(run, weather_id=12),
        "towns": replace(run, town="OldTown"),
    }
    asked = []
    monkeypatch.setattr(make_clips, "usable_runs", lambda *_: (list(runs.values()), []))
    monkeypatch.setattr(make_clips, "open_encoder", lambda name: None)
    monkeypatch.setattr(make_clips, "fill_cache", lambda jobs, *_: asked.extend(jobs))
    monkeypatch.setattr(make_clips, "cached_features", lambda run, *_: features(run))
    return runs, asked


@pytest.mark.parametrize("part", ["training", "weathers", "towns"])
def test_clips_are_of_one_part_and_of_runs_that_had_to_be_encoded(recordings, tmp_path, part):
    runs, asked = recordings
    out = tmp_path / "out"
    words = ["clips", "--data", "x", "--features", str(tmp_path), "--part", part, "--out", str(out)]
    assert release_cli.main(["--store", str(tmp_path / "store"), *words]) == 0
    assert asked == [(runs[part], 1)]
    clips = read_clips([out])
    assert len(clips) > 2 and all(clip.encoder_hash == HASH for clip in clips)
    assert {clip.about["town"] for clip in clips} == {runs[part].town}
    assert {clip.about["weather_id"] for clip in clips} == {str(runs[part].weather_id)}
    assert all(clip.labelled.any() for clip in clips)
    assert len({clip.instruction for clip in clips}) > 1
    # The same command makes the same clips: errors of two days can be compared.
    again = [*words[:-1], str(tmp_path / "again")]
    assert release_cli.main(["--store", str(tmp_path / "store"), *again]) == 0
    assert clips_hash(read_clips([tmp_path / "again"])) == clips_hash(clips)


def test_towns_can_be_chosen_and_an_old_folder_is_not_mixed_with(recordings, tmp_path, capsys):
    def flad(*more):
        words = ["clips", "--data", "x", "--features", str(tmp_path), "--out", str(tmp_path / "o")]
        return release_cli.main(["--store", str(tmp_path / "store"), *words, *more])

    assert flad("--towns", "Nowhere") == 1 and "no clip is left" in capsys.readouterr().err
    assert flad("--only", "_w13_", "_w20_") == 1, "all runs are named w8"
    assert flad("--leave-out", "x", "--only", "_w8_", "--towns", "Nowhere") == 1
    assert flad("--only", "_w8_", "--part", "training", "towns", "--towns", "OldTown") == 0
    assert {c.about["town"] for c in read_clips([tmp_path / "o"])} == {"OldTown"}
    assert flad() == 1 and "is not empty" in capsys.readouterr().err
