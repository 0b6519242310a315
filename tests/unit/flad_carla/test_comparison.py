# SPDX-License-Identifier: Apache-2.0
"""Drivers side by side: who may be compared, and how sure a difference is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flad_bringup import cli
from flad_carla.evaluation.comparison import as_text, compare, read_runs

WORLD = {"routes": "held_out.xml", "protocol": "lb1.0", "traffic": 20, "walkers": 10}


def results(folder: Path, name: str, scores: dict[str, float], seed: int = 0, **more: Any) -> Path:
    """A results file; ``more`` are settings, ``status`` is every run's."""
    status = more.pop("status", "Completed")
    records = [
        {
            "route_id": route,
            "status": status,
            "scores": {"score_composed": score, "score_route": 100.0},
            "meta": {"seed": seed},
        }
        for route, score in scores.items()
    ]
    file = folder / f"{name}_{seed}.json"
    file.write_text(
        json.dumps({"_checkpoint": {"records": records}, "flad": {"config": {**WORLD, **more}}})
    )
    return file


def test_seeds_of_several_files_are_one_driver_and_shares_are_of_the_first(tmp_path: Path):
    expert = read_runs(
        "expert",
        [results(tmp_path, "e", {"a": 100.0, "b": 100.0}, seed) for seed in (0, 1)],
    )
    model = read_runs(
        "model",
        [
            results(tmp_path, "m", {"a": 40.0, "b": 80.0}, 0),
            results(tmp_path, "m", {"a": 60.0, "b": 100.0}, 1),
        ],
    )
    found = compare([expert, model])
    line = found.drivers[1]

    assert (line.name, line.runs, line.score.mean, line.share) == ("model", 4, 70.0, 0.7)
    assert (line.score.low, line.score.high) == (50.0, 90.0), "only route a, only route b"
    assert found.differences[0].by.mean == 30.0
    assert found.differences[0].is_sure
    assert "may be chance" not in as_text(found)


def test_a_difference_that_one_route_makes_may_be_chance(tmp_path: Path):
    even = {"a": 50.0, "b": 50.0, "c": 50.0, "d": 50.0}
    one = read_runs("one", [results(tmp_path, "one", {**even, "a": 100.0})])
    other = read_runs("other", [results(tmp_path, "other", even)])

    assert compare([one, other]).differences[0].by.low == 0.0
    assert "one - other: 12.5 [0.0, 37.5]   may be chance" in as_text(compare([one, other]))


def test_leaderboard_two_counts_a_route_once_whatever_its_repetition(tmp_path: Path):
    runs = read_runs(
        "model",
        [
            results(tmp_path, "m", {"RouteScenario_7_rep0": 10.0}, 0),
            results(tmp_path, "m", {"RouteScenario_7_rep1": 30.0}, 1),
        ],
    )

    assert runs.score == {("RouteScenario_7", 0): 10.0, ("RouteScenario_7", 1): 30.0}
    score = compare([runs]).drivers[0].score
    assert (score.low, score.high) == (20.0, 20.0), "one route says nothing of others"


def test_runs_that_crashed_are_told(tmp_path: Path):
    runs = read_runs("m", [results(tmp_path, "m", {"a": 0.0}, status="Failed - Agent crashed")])

    assert "1 crashed: run them again" in as_text(compare([runs]))


def test_other_worlds_other_runs_and_other_files_are_refused(tmp_path: Path):
    one = read_runs("one", [results(tmp_path, "one", {"a": 1.0})])
    busier = read_runs("busier", [results(tmp_path, "busier", {"a": 1.0}, traffic=60)])
    longer = read_runs("longer", [results(tmp_path, "longer", {"a": 1.0, "b": 2.0})])
    nothing = tmp_path / "nothing.json"
    nothing.write_text("[]")

    with pytest.raises(ValueError, match="one and busier cannot be compared: traffic is 20 and 60"):
        compare([one, busier])
    with pytest.raises(ValueError, match="longer drove b with seed 0, one did not"):
        compare([one, longer])
    with pytest.raises(ValueError, match="one is given twice"):
        compare([one, one])
    with pytest.raises(ValueError, match="no results file"):
        read_runs("nothing", [nothing])
    with pytest.raises(ValueError, match="one has a with seed 0 twice"):
        read_runs("one", [results(tmp_path, "x", {"a": 1.0}), results(tmp_path, "y", {"a": 1.0})])


def test_the_command_prints_the_table_and_writes_the_figures(tmp_path: Path, capsys):
    expert = results(tmp_path, "expert", {"a": 100.0, "b": 80.0})
    model = results(tmp_path, "model", {"a": 50.0, "b": 40.0})
    figures = tmp_path / "figures.json"

    assert cli.main(["compare", f"e={expert}", f"m={model}", "--json", str(figures)]) == 0
    assert "e - m: 45.0" in capsys.readouterr().out
    assert json.loads(figures.read_text())["drivers"][1]["share"] == 0.5
    assert cli.main(["compare", str(expert)]) == 2
    assert "is not NAME=FILE" in capsys.readouterr().err
