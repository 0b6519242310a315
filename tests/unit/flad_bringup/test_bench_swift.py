# SPDX-License-Identifier: Apache-2.0
"""The planners' benchmark: rows say what they claim, on clusters that take milliseconds."""

import argparse
from pathlib import Path

import numpy as np
import pytest
from swift_problems import best_by_trying, small_problem

from flad_bringup.bench import swift, swift_figures, swift_scale
from flad_edge.swift.compare import compare, fill_planner
from flad_edge.swift.devices import load_devices
from flad_edge.swift.local_search import local_search, random_search

DEVICES = load_devices()


class _Clock:
    """Every look at it takes a thousandth of a second."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1e-3
        return self.now_s


def test_figure_6_says_where_nothing_fits_and_what_is_gained(monkeypatch):
    monkeypatch.setattr(swift_figures, "_UNITS", 14)
    rows = {r.name: r for r in swift_figures.figure_rows(DEVICES, fill_planner)}
    assert rows["swift_fig6a_2_vehicles_infeasible"].value == 1.0  # 10 GB for a model of 11.1 GB
    for name in ("fig6a_5_vehicles", "fig6b_5_55_gb"):
        assert rows[f"swift_{name}_s"].value > 0.0
        assert rows[f"swift_{name}_dqn_gain"].value <= 1.0 + 1e-9
        assert rows[f"swift_{name}_dqn_gain"].bar == 0.95


def test_whole_fleets_are_clustered_and_planned(monkeypatch):
    monkeypatch.setattr(swift_scale, "_FLEETS", (30,))
    monkeypatch.setattr(swift_scale, "_AREA_M", 500.0)
    monkeypatch.setattr(swift_scale, "_UNITS", 12)
    rows = {r.name: r.value for r in swift_scale.scale_rows(1, DEVICES)}
    assert 0.3 < rows["swift_fleet_30_in_clusters"] <= 1.0
    assert 0.0 < rows["swift_fleet_30_with_a_pipeline"] <= rows["swift_fleet_30_in_clusters"]


def test_every_row_of_the_gaps_stands_in_the_docs():
    arguments = argparse.Namespace(seed=1, clusters=2, dqn=None, largest=4)
    rows = list(swift._gap_rows(arguments, DEVICES, fill_planner))
    page = (Path(__file__).parents[3] / "docs/benchmarks.md").read_text(encoding="utf-8")
    assert {"swift_dqn_gap_median", "swift_dqn_cluster_gap_p95"} <= {r.name for r in rows}
    assert "`swift_dqn_gap_median`, `swift_dqn_gap_p95`" in page
    # the features alone, asked twice, are as good as themselves
    by_name = {r.name: r.value for r in rows}
    assert by_name["swift_dqn_gap_median"] == by_name["swift_fill_gap_median"]


def test_gaps_are_to_the_optimum_of_the_same_first_vehicle():
    problem = small_problem(3, vehicles=3, room=3.0)
    tried = best_by_trying(problem, "path")
    found = compare([problem], {})
    assert found["fill"].problems == 1 and len(found["fill"].gaps) == len(tried)
    assert all(gap >= -1e-12 for result in found.values() for gap in result.gaps)


@pytest.mark.parametrize("search", [local_search, random_search])
def test_searches_end_with_their_time_and_find_what_can_run(search):
    problem, clock = small_problem(3, vehicles=4, units=9, room=3.0), _Clock()
    pipeline = search(problem, 1, np.random.default_rng(0), 0.5, clock)
    assert clock.now_s < 0.6
    assert pipeline is not None and pipeline.first == 1
    assert problem.objections(pipeline) == []
    quick = search(problem, 1, np.random.default_rng(0), 0.0, _Clock())
    assert quick is None


def test_local_search_finds_the_optimum_of_a_small_problem():
    problem = small_problem(3, vehicles=3, units=7, room=3.0)
    pipeline = local_search(problem, 0, np.random.default_rng(1), 3.0, _Clock())
    assert problem.path_s(pipeline) == pytest.approx(best_by_trying(problem, "path")[0])
