# SPDX-License-Identifier: Apache-2.0
"""What the report says of a federation: read from its files, drawn, and put before the drive."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flad_bringup.federate.page import section_html, write_page
from flad_bringup.federate.picture import picture
from flad_bringup.federate.story import Story, tell
from flad_pipeline.partition import Partition, Span

_BEGAN_S = 5000.0


def pipeline(*names: str) -> dict[str, object]:
    spans = tuple(Span(vehicle=name, first=2 * i, last=2 * i + 1) for i, name in enumerate(names))
    whole = Partition(digest="d", num_units=2 * len(names) + 1, heads_from=6, stages=spans)
    return whole.as_json()


def pair(*names: str) -> dict[str, object]:
    spans = (Span(vehicle=names[0], first=0, last=2), Span(vehicle=names[1], first=3, last=5))
    return Partition(digest="d", num_units=7, heads_from=6, stages=spans).as_json()


def order(at_s: float, epoch: int, vehicles: list[str], pipelines: list[object]) -> dict:
    return {
        "at_s": _BEGAN_S + at_s,
        "client": "cluster",
        "round": 1,
        "epoch": epoch,
        "vehicles": vehicles,
        "from_step": 0,
        "end_step": 6,
        "rotation_period": 2,
        "pipelines": pipelines,
    }


def line(step: int, ended_s: float, epoch: int, loss: float | None) -> str:
    return json.dumps(
        {
            "round": 1,
            "step": step,
            "seconds": 0.5,
            "ended_s": _BEGAN_S + ended_s,
            "loss": loss,
            "gradient_norm": 1.0,
            "epoch": epoch,
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three vehicles take steps 0 to 2; v1 dies at 14.0; the others go on from step 2."""
    logs = {
        "v0": [(0, 11, 1, 4.0), (1, 12, 1, 3.0), (2, 13, 1, None), (2, 16, 2, None)],
        "v1": [(0, 11, 1, None), (1, 12, 1, None), (2, 13, 1, 3.0)],
        "v2": [
            *((0, 11, 1, None), (1, 12, 1, None), (2, 13, 1, None)),
            *((2, 15.5, 2, 2.0), (3, 17, 2, 1.0)),
        ],
    }
    for name, steps in logs.items():
        (tmp_path / name).mkdir()
        text = "\n".join(line(*step) for step in steps) + "\n"
        (tmp_path / name / "steps.jsonl").write_text(text)
    recovery = {"gone": ["v1"], "lost_steps": 1, "from_step": 2, "fetched_units": {}, "at_s": 4.5}
    report = {
        "seconds": 8.0,
        "counted": {"cluster": 24},
        "clients": {"cluster": {"recoveries": [recovery]}},
    }
    figures = {
        "began_s": _BEGAN_S,
        "seconds": 20.0,
        "encoder_hash": "abcd",
        "samples_per_step": 8,
        "vehicles": {
            name: {"device": "nano", "available_bytes": 2**25, "most_resident_bytes": 2**29}
            for name in logs
        },
        "orders": [
            order(
                9.0, 1, ["v0", "v1", "v2"], [pipeline("v0", "v1", "v2"), pipeline("v1", "v2", "v0")]
            ),
            order(14.5, 2, ["v0", "v2"], [pair("v0", "v2"), pair("v2", "v0")]),
        ],
        "rounds": [
            {"round": 1, "num_samples": 24, "model_hash": "m", "text": "", "report": report}
        ],
        "happened": [{"kind": "kill", "who": "v1", "round": 1, "step": 2, "at_s": _BEGAN_S + 14.0}],
    }
    (tmp_path / "federate.json").write_text(json.dumps(figures))
    return tmp_path


@pytest.fixture
def story(folder: Path) -> Story:
    return tell(folder)


def test_a_recovery_lasts_until_all_who_are_left_have_taken_a_step(story):
    (kill,) = story.upsets

    assert kill.again_s == pytest.approx(16.0)  # v2 was there at 15.5, v0 at 16
    assert kill.lost_steps == 1


def test_a_step_that_is_taken_again_counts_once(story):
    assert story.samples_per_s == pytest.approx(4 * 8 / 8.0)


def test_stages_follow_the_turn_of_the_pipeline(story):
    places = {(s.vehicle, s.step, s.epoch): s.stage for s in story.steps}

    assert (places["v0", 1, 1], places["v1", 2, 1], places["v0", 2, 1]) == (0, 0, 2)
    assert (places["v2", 2, 2], places["v0", 2, 2]) == (0, 1)
    assert story.rotations == 1


def test_losses_are_the_first_and_the_last(story):
    assert story.losses(0.2) == (4.0, 1.0)
    assert story.losses(0.1) is None


def test_without_survivors_nothing_was_recovered(folder):
    for name in ("v0", "v2"):
        path = folder / name / "steps.jsonl"
        kept = [text for text in path.read_text().splitlines() if json.loads(text)["epoch"] == 1]
        path.write_text("\n".join(kept) + "\n")

    assert tell(folder).upsets[0].again_s is None


def test_the_page_shows_the_kill_the_recovery_and_every_step(folder, story):
    drawn, text = picture(story), section_html(story)
    write_page(folder, folder / "page.html")

    assert drawn.count("<rect") == len(story.steps) + 1  # and the time of the recovery
    assert "kill v1: 2.0 s to the next step" in drawn
    assert "v1 killed" in text and "killed at 4 s" in text and "abcd" in text
    assert "http" not in (folder / "page.html").read_text().replace("http-equiv", "")


def test_vehicles_that_say_their_place_are_drawn_with_their_clusters(folder: Path):
    path = folder / "federate.json"
    figures = json.loads(path.read_text())
    assert "Who trained with whom, and where" not in section_html(tell(folder))
    places_m = {"v0": [0.0, 0.0], "v1": [30.0, 0.0], "v2": [0.0, 40.0], "far": [100.0, 100.0]}
    for order in figures["orders"]:
        order["places_m"] = places_m
    path.write_text(json.dumps(figures))
    html = section_html(tell(folder))
    drawn = html[html.index("Who trained with whom, and where") :]
    for name in places_m:
        assert f"<title>{name}</title>" in drawn
    assert "cluster: 3 vehicles" in drawn
    assert "1 take no part" in drawn
