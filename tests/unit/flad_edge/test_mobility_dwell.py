# SPDX-License-Identifier: Apache-2.0
"""Visits are counted as they were, features look at nothing that came later, MAPE is learned."""

import dataclasses
import json

import numpy as np
import pytest

from flad_edge.mobility.dwell import (
    DwellTrainConfig,
    load_dwell,
    mape,
    predict_s,
    save_dwell,
    split_by_way,
    train_dwell,
)
from flad_edge.mobility.dwell_data import DwellData, LightClock, dwell_data
from flad_edge.mobility.dwell_network import DwellNetwork, DwellNetworkConfig
from flad_edge.mobility.traces import Coverage, Traces, read_traces

_GREEN_S, _PERIOD_S = 20, 50


def _arrays(num_vehicles=30, seconds=900, later_mps=10.0):
    """A road of two links of 200 m, east; a light between them; a vehicle every 25 s."""
    rows = []
    for vehicle in range(num_vehicles):
        x_m, begin = -200.0, 25 * vehicle
        for second in range(begin, seconds):
            speed = 10.0 if second < 600 else later_mps
            at_light = -10.0 <= x_m < 0.0 and second % _PERIOD_S >= _GREEN_S
            x_m += 0.0 if at_light else speed
            if x_m >= 200.0:
                break
            rows.append((second, vehicle, x_m, 0.0, 0.0 if at_light else speed, int(x_m >= 0.0)))
    columns = np.array(rows).T
    names = ("second", "vehicle", "x_m", "y_m", "speed_mps", "link")
    return dict(zip(names, columns, strict=True)) | {
        "route_links": np.array([0, 1] * num_vehicles),
        "route_begins": np.arange(0, 2 * num_vehicles + 1, 2),
        "link_names": np.array(["west", "east"]),
        "link_length_m": np.array([200.0, 200.0]),
        "link_speed_mps": np.array([10.0, 10.0]),
        "link_ends_m": np.array([[-200.0, 0, 0, 0], [0, 0, 200.0, 0]]),
        "turns": np.array([[0, 1]]),
        "green": np.array([[s % _PERIOD_S < _GREEN_S] for s in range(seconds)], dtype=np.int8),
    }


_COVERAGE = Coverage(x_m=0.0, y_m=0.0, radius_m=150.0)


def test_a_visit_lasts_from_the_first_second_inside_to_the_first_outside():
    arrays = _arrays()
    traces = Traces(arrays, {})
    for visit in traces.visits(_COVERAGE):
        mine = (arrays["vehicle"] == visit.vehicle) & (np.abs(arrays["x_m"]) <= 150.0)
        inside = arrays["second"][mine]
        assert (visit.arrival_s, visit.departure_s) == (inside.min(), inside.max() + 1)
    # who is still there when the traces end did not leave
    assert all(v.departure_s <= traces.end_s for v in traces.visits(_COVERAGE))


def test_a_light_is_predicted_from_its_last_cycle():
    clock = LightClock(Traces(_arrays(), {}))
    for now_s in (203, 230, 249):
        for eta_s in (0, 7, 30, 61):
            phase = (now_s + eta_s) % _PERIOD_S
            wait_s = 0 if phase < _GREEN_S else _PERIOD_S - phase
            assert clock.wait_s((0, 1), now_s, eta_s) == wait_s
    assert clock.wait_s((1, 0), 203, 5.0) == 0.0  # no light there


def test_features_do_not_see_what_comes_later():
    slow, quick = (Traces(_arrays(later_mps=v), {}) for v in (4.0, 10.0))
    known = [
        dwell_data(t, _COVERAGE, [v for v in t.visits(_COVERAGE) if 500 <= v.arrival_s < 600])
        for t in (slow, quick)
    ]
    assert len(known[0]) > 2
    for name in ("links", "by_link", "dense", "guess_s"):
        assert np.array_equal(getattr(known[0], name), getattr(known[1], name)), name
    assert not np.array_equal(known[0].dwell_s, known[1].dwell_s)


def _made_up(rng, n=400):
    """Stays that are a half or twice the guess, by the last link."""
    links = np.full((n, 16), -1)
    links[:, 0], links[:, 1] = rng.integers(0, 12, n), rng.integers(0, 4, n)
    guess_s = rng.uniform(20.0, 80.0, n)
    return DwellData(
        links=links,
        by_link=rng.normal(size=(n, 16, 9)),
        dense=rng.normal(size=(n, 5)),
        guess_s=guess_s,
        dwell_s=guess_s * np.where(links[:, 1] % 2, 2.0, 0.5),
    )


def test_the_network_learns_what_the_guess_does_not_know_on_ways_it_never_saw(tmp_path):
    data = _made_up(np.random.default_rng(0))
    learned, tested = split_by_way(data, 0.2, 0)
    ways = data.ways()
    assert not {ways[i] for i in learned} & {ways[i] for i in tested}
    sizes = DwellNetworkConfig(town="T", links=12, x_m=0.0, y_m=0.0, radius_m=1.0)
    network = train_dwell(data.rows(learned), sizes, DwellTrainConfig(epochs=15))
    unseen = data.rows(tested)
    reached = mape(predict_s(network, unseen), unseen.dwell_s)
    assert reached < 0.3 * mape(unseen.guess_s, unseen.dwell_s)
    save_dwell(tmp_path / "d.safetensors", network)
    again = load_dwell(tmp_path / "d.safetensors")
    assert np.array_equal(predict_s(again, unseen), predict_s(network, unseen))


def test_untrained_it_says_the_guess():
    data = _made_up(np.random.default_rng(1), 5)
    sizes = DwellNetworkConfig(town="T", links=12, x_m=0.0, y_m=0.0, radius_m=1.0)
    assert predict_s(DwellNetwork(sizes), data) == pytest.approx(data.guess_s, rel=1e-5)


def test_the_shipped_network_is_whole_and_files_that_are_none_are_named(tmp_path):
    assert load_dwell().config.town == "Grid"
    bad = tmp_path / "bad.npz"
    np.savez(bad, about=np.array(json.dumps({"schema": "other"})))
    with pytest.raises(ValueError, match=r"bad\.npz is no file of traces.*other"):
        read_traces(bad)
    with pytest.raises(ValueError, match="cannot be used for dwell times"):
        load_dwell(bad)


def test_a_coverage_needs_a_place():
    for change in ({"x_m": float("nan")}, {"radius_m": 0.0}):
        with pytest.raises(ValueError, match="must be"):
            dataclasses.replace(_COVERAGE, **change)
