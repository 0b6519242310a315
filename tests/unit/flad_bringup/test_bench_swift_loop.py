# SPDX-License-Identifier: Apache-2.0
"""The loop's tally: who foresees a departure loses no step by it; and plots show their points."""

import re

import pytest

from flad_bringup.bench.line_plot import LinePlot
from flad_bringup.bench.rows import Row
from flad_bringup.bench.swift_loop import Tally, _second
from flad_bringup.bench.swift_plots import draw

_STEP_S, _LEAVES_S = 5.0, 28


def _drive(departs_s):
    """Two vehicles from 0 s on; the second leaves at 28 s, in the midst of a step."""
    tally = Tally()
    for now_s in range(40):
        present = [0, 1] if now_s < _LEAVES_S else [0]
        _second(tally, now_s, present, departs_s, lambda free, _: [(tuple(free), _STEP_S)])
    return tally


def test_an_unforeseen_departure_costs_its_step_and_a_foreseen_one_none():
    blind = _drive(None)
    assert (blind.steps, blind.interrupted, blind.planned) == (5, 1, 0)
    assert blind.useful_s == 25.0 and blind.lost_s == 3.0
    knowing = _drive(lambda i: float(_LEAVES_S) if i else 1e6)
    assert knowing.planned >= 1 and knowing.share > 0.8
    # the group of this test takes anybody, so what follows the first planned departure may break
    assert knowing.lost_s <= blind.lost_s


def test_a_wrong_prediction_is_counted_as_unforeseen():
    late = _drive(lambda i: 1e6)
    assert (late.interrupted, late.planned_interrupted) == (1, 0)
    early = _drive(lambda i: 29.0 if i else 1e6)
    assert early.planned_interrupted <= early.interrupted


def test_a_plot_puts_its_extremes_at_the_ends_of_its_axes():
    svg = LinePlot(title="T <&>", x="x", y="y", lines={"a": [(1.0, 2.0), (4.0, 8.0)]}).svg()
    places = [tuple(map(float, m)) for m in re.findall(r'<circle cx="(.+?)" cy="(.+?)"', svg)]
    (x1, y1), (x2, y2) = places
    assert x1 < x2 and y1 > y2 and "T &lt;&amp;&gt;" in svg
    with pytest.raises(ValueError, match="positive numbers only, got -1"):
        LinePlot(title="", x="", y="", log_y=True, lines={"a": [(1.0, -1.0)]}).svg()
    with pytest.raises(ValueError, match="no point"):
        LinePlot(title="", x="", y="", lines={"a": []})


def test_only_what_was_measured_is_drawn(tmp_path):
    draw([Row(name="swift_fleet_10_s", value=0.1, unit="s")], tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["swift_scale.svg"]
