# SPDX-License-Identifier: Apache-2.0
"""The report's data survive their way into the page, and the page needs nothing but itself."""

from __future__ import annotations

import base64
import dataclasses
import errno
import json
import math
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from made_up_drive import Drive

from flad_carla.report import run_file
from flad_carla.report.__main__ import main
from flad_carla.report.collect import CollectorConfig, RunCollector, light_ahead
from flad_carla.report.packing import pack, unpack
from flad_carla.report.page import render_page, write_report
from flad_carla.report.run_file import RunFileError, load_run, load_runs
from flad_carla.report.simplify import simplify
from flad_carla.report.summary import summarize


def collect(folder, *drives):
    collector = RunCollector(folder, CollectorConfig(thumbnail_width_px=40))
    for drive in drives:
        drive.feed(collector)
    assert collector.failures == []
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    drives = [
        Drive(duration_s=12.0, seed=i, index=i, repetition=rep, mishap=rep == 0, latency=i == 1)
        for i in range(2)
        for rep in range(2)
    ]
    return collect(tmp_path_factory.mktemp("runs"), *drives)


@pytest.fixture(scope="module")
def page(folder):
    return render_page(load_runs(folder))


def data_of(page):
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(text.group(1))


# --- packing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_packed_columns_come_back_within_half_a_step(seed):
    rng = np.random.default_rng(seed)
    step = 10.0 ** rng.uniform(-3, 0)
    values = rng.normal(0.0, 500.0, rng.integers(1, 300))
    values[rng.random(values.size) < 0.1] = np.nan
    back = unpack(pack({"a": (values, step), "empty": ([], 1.0), "b": (np.arange(7), 1.0)}))

    np.testing.assert_allclose(back["a"], values, atol=0.5001 * step)
    assert back["empty"].size == 0 and back["b"].tolist() == list(range(7))


@pytest.mark.parametrize("bad", [math.inf, 2.0**31])
def test_a_value_too_large_is_named(bad):
    with pytest.raises(ValueError, match="column 'speed' reaches"):
        pack({"speed": ([0.0, bad], 1.0)})


def test_slow_values_cost_little():
    t = np.linspace(0.0, 100.0, 1000)
    packed = pack({"x": (300.0 + 50.0 * np.sin(t / 20.0), 0.02)})
    assert len(packed["blob"]) < 2.5 * t.size


# --- lines ------------------------------------------------------------------------------------


def test_a_simplified_line_stays_within_its_tolerance():
    angle = np.linspace(0.0, 5.0, 400)
    line = list(zip(20 * np.cos(angle), 20 * np.sin(angle), strict=True))
    few = simplify(line, 0.1)

    assert len(few) < 40 and few[0] == line[0] and few[-1] == line[-1]
    ends = np.array(few)
    for point in np.array(line):
        along, start = np.diff(ends, axis=0), ends[:-1]
        u = np.clip(((point - start) * along).sum(1) / (along**2).sum(1), 0.0, 1.0)
        assert np.hypot(*(point - start - u[:, None] * along).T).min() <= 0.1 + 1e-9


def test_a_closed_line_keeps_its_shape():
    square = [(0.0, 0.0), (5.0, 0.0), (5.0, 5.0), (0.0, 5.0), (0.0, 0.0)]
    assert simplify(square, 0.1) == square
    assert simplify(square[:2], 0.1) == square[:2]


# --- run files --------------------------------------------------------------------------------


def test_a_run_is_kept_as_it_was_driven(folder):
    drive = Drive(duration_s=12.0, seed=1, index=1, repetition=0, latency=True)
    run = next(r for r in load_runs(folder) if (r.info.index, r.info.repetition) == (1, 0))
    entries = [entry for _, entry in drive.ticks()]

    np.testing.assert_allclose(run.ego["x"], [e.ego.pose.x for e in entries], atol=1e-4)
    np.testing.assert_allclose(run.ego["speed"], [e.ego.speed_mps for e in entries], atol=1e-4)
    np.testing.assert_allclose(run.ego["latency"], [e.latency_s for e in entries], atol=1e-4)
    route = [(p.x, p.y, p.yaw, p.command) for p in drive.route]
    kept = [(p.x, p.y, p.yaw, p.command) for p in run.info.route]
    np.testing.assert_allclose(kept, route, atol=1e-3)
    assert run.info.lanes[3].kind == drive.lanes[3].kind
    np.testing.assert_allclose(run.info.lanes[3].left, drive.lanes[3].left, atol=1e-3)
    assert run.infractions == tuple(event for e in entries for event in e.infractions)
    assert run.result == drive.result()
    assert dict(run.texts)["instruction"][0] == (0.0, "Follow the road.")
    assert len(run.thumbnails) == len(run.thumbnail_times) == pytest.approx(12.0 / 0.4, abs=1)
    assert all(jpeg[:2] == b"\xff\xd8" for jpeg in run.thumbnails)


def test_actors_are_where_they_were(folder):
    run = load_runs(folder)[0]
    entries = {round(e.sim_time_s, 3): e for _, e in Drive(duration_s=12.0, seed=0).ticks()}
    tracks = run.tracks
    assert tracks["actor"].size > 100
    for i in range(0, tracks["actor"].size, 37):
        entry = entries[round(float(tracks["step"][i]) * run.track_step_s, 3)]
        body = next(b for b in entry.actors if b.actor_id == tracks["actor"][i])
        assert body.pose.x == pytest.approx(tracks["x"][i], abs=1e-3)
        assert body.pose.yaw == pytest.approx(tracks["yaw"][i], abs=1e-3)


def test_a_run_without_sensors_lights_and_actors_is_drawn_too(tmp_path):
    drive = Drive(duration_s=1.0, sensors=False, num_actors=0, lanes=(), mishap=False)
    html = render_page(load_runs(collect(tmp_path, drive)))
    assert data_of(html)["runs"][0]["thumbs"]["sizes"] == []
    assert "JavaScript" in html


@pytest.mark.parametrize("content", [b"", b"no zip", None])
def test_a_broken_run_file_is_named(tmp_path, content):
    path = next(collect(tmp_path, Drive(duration_s=0.5)).glob("*_rep0.npz"))
    path.write_bytes(path.read_bytes()[:500] if content is None else content)
    with pytest.raises(RunFileError, match=f"{path.name} is not a readable run file"):
        load_run(path)


def test_another_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(run_file, "FORMAT", 99)
    path = next(collect(tmp_path, Drive(duration_s=0.5)).glob("*_rep0.npz"))
    monkeypatch.undo()
    with pytest.raises(RunFileError, match="has format 99, this version reads"):
        load_run(path)


def test_a_full_disk_costs_the_report_and_not_the_drive(tmp_path, monkeypatch):
    def no_room(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez_compressed", no_room)
    collector = RunCollector(tmp_path)
    Drive(duration_s=0.5).feed(collector)
    assert "No space left on device" in collector.failures[0]
    assert list(tmp_path.iterdir()) == []


# --- the light ahead --------------------------------------------------------------------------


def test_without_an_expert_the_light_ahead_is_found_by_place():
    drive = Drive(duration_s=14.0)
    seen = set()
    for _, entry in drive.ticks():
        alone = dataclasses.replace(entry, expert=None)
        first = entry.lights[0]
        forward, right = entry.ego.pose.to_local(*first.trigger.center[:2])
        state = light_ahead(alone)
        if abs(right) < 1.5 and 0.0 < forward < 40.0:
            assert state == first.state
            seen.add(state)
        elif forward < 0.0 and entry.route_index < 55:
            assert math.isnan(state)
    assert len(seen) >= 2


# --- summary ----------------------------------------------------------------------------------


def test_scores_are_means_over_all_runs_with_spread_over_repetitions(folder):
    summary = summarize(load_runs(folder))
    scores = {0: [58.8, 58.8], 1: [100.0, 100.0]}

    assert summary.over == "repetitions"
    assert summary.driving_score.values == pytest.approx([58.8, 100.0])
    assert summary.driving_score.mean == pytest.approx(np.mean([*scores[0], *scores[1]]))
    assert summary.driving_score.std == pytest.approx(np.std([58.8, 100.0], ddof=1))
    assert summary.num_infractions == 2
    assert summary.driven_km == pytest.approx(4 * 0.240)


def test_a_missing_run_counts_as_zero(folder):
    runs = load_runs(folder)
    assert summarize(runs, 8).driving_score.mean == pytest.approx(
        summarize(runs).driving_score.mean / 2
    )
    single = [run for run in runs if run.info.repetition == 0]
    assert summarize(single, 4).driving_score.values == pytest.approx([58.8, 58.8, 0.0, 0.0])
    with pytest.raises(ValueError, match="4 runs were given, but only 3"):
        summarize(runs, 3)
    with pytest.raises(ValueError, match="at least one run"):
        summarize([])


# --- the page ---------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Tags that are open, and every address that a page would load."""

    def __init__(self):
        super().__init__()
        self.stack, self.addresses = [], []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "link", "img", "input", "line", "rect", "br"):
            self.stack.append(tag)
        self.addresses += [v for k, v in attributes if k in ("src", "href") and v]

    def handle_endtag(self, tag):
        if tag in ("line", "rect"):
            return
        assert self.stack.pop() == tag


def test_the_page_is_well_formed_and_loads_nothing(page):
    tags = Tags()
    tags.feed(page)
    assert tags.stack == []
    assert all(address.startswith("#") for address in tags.addresses)
    assert "default-src 'none'" in page
    addresses = set(re.findall(r"https?://[^\"'\s)<]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name space, not a place


def test_what_a_message_says_cannot_become_markup(page):
    assert "<b>vehicle</b>" not in page
    messages = [event["message"] for run in data_of(page)["runs"] for event in run["infractions"]]
    assert "hit <b>vehicle</b> 101" in messages


def test_a_driver_with_a_nasty_name_is_shown_as_text(tmp_path):
    collector = RunCollector(tmp_path)
    drive = Drive(duration_s=0.5)
    collector.on_start(dataclasses.replace(drive.info(), driver="</script><script>alert(1)"))
    for tick, entry in drive.ticks():
        collector.on_tick(tick, entry)
    collector.on_end(drive.result())
    assert "<script>alert" not in render_page(load_runs(tmp_path))


def test_the_page_tells_scores_routes_and_missing_runs(folder):
    html = render_page(load_runs(folder), num_requested=6)
    for text in ("expert", "Square", "lb2.1", "0123456789ab", "2 of", "Route 1", "Hit a vehicle"):
        assert text in html
    assert "2 of\n6 runs are missing" in html
    rows = re.findall(r'<tr data-run="\d+">', html)
    assert len(rows) == 4


def test_columns_in_the_page_are_the_drive(page, folder):
    packed, run = data_of(page)["runs"][0], load_runs(folder)[0]
    ego = unpack(packed["ego"])
    assert ego["t"][0] == 0.0 and ego["t"][-1] == pytest.approx(run.ego["t"][-1], abs=0.01)
    for k in range(0, ego["t"].size, 11):
        i = int(np.argmin(np.abs(run.ego["t"] - ego["t"][k])))
        assert ego["x"][k] == pytest.approx(run.ego["x"][i], abs=0.011)
        assert ego["speed"][k] == pytest.approx(run.ego["speed"][i], abs=0.002)
    sizes = packed["thumbs"]["sizes"]
    blob = base64.b64decode(packed["thumbs"]["blob"])
    assert len(blob) == sum(sizes) and blob[:2] == b"\xff\xd8"


@pytest.fixture(scope="module")
def with_many_pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    collector = RunCollector(folder, CollectorConfig(thumbnail_quality=95))
    Drive(duration_s=30.0, image_size=(400, 300), num_actors=20).feed(collector)
    return load_runs(folder)


@pytest.mark.parametrize("max_bytes", [150_000, 190_000])
def test_pictures_are_thinned_to_fit(with_many_pictures, max_bytes):
    (run,) = with_many_pictures
    assert sum(map(len, run.thumbnails)) > 100_000

    html = render_page([run], max_bytes=max_bytes)
    thumbs = data_of(html)["runs"][0]["thumbs"]
    assert len(html.encode()) < max_bytes
    assert 3 < len(thumbs["times"]) < len(run.thumbnails)
    assert thumbs["times"][0] == 0.0 and thumbs["times"][-1] > 29.0


def test_the_command_redraws_a_report(folder, tmp_path, capsys):
    out = tmp_path / "again.html"
    assert main([str(folder), "--out", str(out)]) == 0
    assert out.read_text().startswith("<!doctype html>")
    assert main([str(tmp_path)]) == 1
    assert "no run files" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["again.html"]


def test_a_page_is_written_whole_or_not_at_all(folder, tmp_path, monkeypatch):
    out = tmp_path / "report.html"
    out.write_text("before")

    def no_room(self, *args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(out), "write_text", no_room)
    with pytest.raises(OSError, match="No space"):
        write_report(folder, out)
    assert out.read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1


def test_wrong_config_is_named():
    with pytest.raises(ValueError, match="animation_period_s must be positive"):
        CollectorConfig(animation_period_s=0.0)
