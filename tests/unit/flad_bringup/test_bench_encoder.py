# SPDX-License-Identifier: Apache-2.0
"""What the encoder's benchmark promises, and about which frames."""

from __future__ import annotations

import math

import pytest

from flad_bringup.bench.encoder import town_rows

FIGURES = {
    "frames": 900.0,
    "light_frames": 300.0,
    "light_balanced_accuracy": 0.92,
    "light_red_recall": 0.95,
    "light_green_recall": 0.89,
    "light_balanced_accuracy_always_green": 0.5,
    "light_balanced_accuracy_moving_is_green": 0.85,
    "vehicle_ap_2m": 0.55,
    "vehicle_ap_2m_all": 0.5,
    **{f"waypoint_l1_m_at_{t}s": float(t) / 3 for t in ("0.5", "1.0", "1.5", "2.0", "2.5")},
    **{
        f"waypoint_l1_m_at_{t}s_constant_velocity": float(t) / 2
        for t in ("0.5", "1.0", "1.5", "2.0", "2.5")
    },
}


def test_the_held_out_town_has_the_three_bars_and_baselines_beside():
    rows = {row.name: row for row in town_rows("oldtown", FIGURES, promised=True)}
    held = {name: row.holds for name, row in rows.items() if row.bar is not None}

    assert held == {
        "encoder_oldtown_light_balanced_accuracy": True,
        "encoder_oldtown_waypoint_l1_m_at_1.0s": True,
        "encoder_oldtown_vehicle_ap_2m": False,
    }
    assert rows["encoder_oldtown_light_balanced_accuracy"].baseline_value == 0.5
    assert rows["encoder_oldtown_waypoint_l1_m_at_2.5s"].ratio == pytest.approx(2 / 3)


def test_other_towns_promise_nothing_and_what_was_not_measured_is_left_out():
    none = FIGURES | {"light_balanced_accuracy": math.nan, "light_frames": 0.0}
    rows = town_rows("grid_weathers", none, promised=False)

    assert all(row.bar is None for row in rows)
    assert "encoder_grid_weathers_light_balanced_accuracy" not in {row.name for row in rows}
    assert not any(math.isnan(row.value) for row in rows)
