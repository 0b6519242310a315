# SPDX-License-Identifier: Apache-2.0
"""Traces repeat by seed, and their rows fit the roads and routes they tell of."""

import json

import numpy as np
import pytest

from flad_sim.floating_cars import TraceConfig, record_traces


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    files = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        record_traces(TraceConfig(minutes=1.5, seed=seed), folder / f"{name}.npz")
        with np.load(folder / f"{name}.npz") as file:
            files.append({k: file[k] for k in file.files})
    return files


def test_the_same_seed_gives_the_same_traces_and_another_others(recorded):
    a, b, c = recorded
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert len(a["second"]) != len(c["second"]) or not np.array_equal(a["x_m"], c["x_m"])


def test_vehicles_drive_on_their_routes_no_quicker_than_they_move(recorded):
    a = recorded[0]
    assert json.loads(str(a["about"]))["seed"] == 3
    begins = a["route_begins"]
    for vehicle in np.unique(a["vehicle"]):
        mine = a["vehicle"] == vehicle
        route = a["route_links"][begins[vehicle] : begins[vehicle + 1]]
        assert set(a["link"][mine]) - {-1} <= set(route.tolist())
        moved = np.hypot(np.diff(a["x_m"][mine]), np.diff(a["y_m"][mine]))
        assert np.all(np.diff(a["second"][mine]) == 1)
        assert np.all(moved <= 1.2 * a["link_speed_mps"].max())


def test_a_light_is_not_green_for_crossing_ways_all_the_time(recorded):
    green = recorded[0]["green"]
    assert green.shape == (90, len(recorded[0]["turns"]))
    assert 0.1 < green.mean() < 0.9


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="per_hour must be positive, got 0"):
        TraceConfig(per_hour=0.0)
