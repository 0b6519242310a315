# SPDX-License-Identifier: Apache-2.0
"""The stopwatch counts what was encoded, once, and times the drive after its first second."""

from __future__ import annotations

import math

import pytest

from flad_bringup.bench import node
from flad_carla.run_log import (
    BodyView,
    ControlView,
    PoseView,
    PredictionView,
    TickEntry,
    TokensView,
)


def prediction(step, missing=()):
    tokens = TokensView(
        stamp_ns=step * 50_000_000,
        model_hash="0",
        contract_version=1,
        num_tokens=3,
        dim=5,
        dtype=1,
        data=bytes(30),
    )
    return PredictionView(
        stamp_s=step * 0.05,
        light_red=0.0,
        stop=0.0,
        tokens=tokens,
        latency_s=0.001 * step,
        round_trip_s=0.002 * step,
        missing_views=missing,
    )


@pytest.fixture
def watch(monkeypatch):
    """A drive of 5 s at twice real time; every other step is encoded."""
    watch = node.Stopwatch()
    now_s = 0.0
    monkeypatch.setattr(node.time, "perf_counter", lambda: now_s)
    ego = BodyView(actor_id=1, type_id="vehicle.a", pose=PoseView(x=0.0, y=0.0), extent=(2, 1, 1))
    newest = None
    for step in range(101):
        now_s = step * 0.025
        if step % 2 == 0:
            newest = prediction(step, ("left",) if step == 50 else ())
        entry = TickEntry(
            frame=step, sim_time_s=step * 0.05, ego=ego, control=ControlView(), prediction=newest
        )
        watch.on_tick(None, entry)
    return watch


def test_rows_say_what_the_drive_showed(watch):
    rows = {row.name: row for row in node.rows(watch, 4.0)}
    assert rows["node_realtime_factor"].value == pytest.approx(2.0)
    assert rows["node_realtime_factor"].ratio == pytest.approx(0.5)
    assert len(watch.predictions) == 41  # from 1 s to 5 s
    assert rows["node_sensor_to_token_p95"].value == pytest.approx(0.002 * 96)
    assert rows["node_latency_p95"].value == pytest.approx(0.001 * 96)
    assert rows["node_token_bytes"].value == 30 and rows["node_token_bytes"].ratio == 0.5
    assert rows["node_ticks_incomplete"].value == 1 and not rows["node_ticks_incomplete"].holds
    assert all(math.isfinite(row.value) for row in rows.values())


def test_a_drive_without_an_encoder_has_no_rows():
    with pytest.raises(ValueError, match="no tick was encoded"):
        node.rows(node.Stopwatch(), 1.0)
