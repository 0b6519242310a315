# SPDX-License-Identifier: Apache-2.0
"""The report of a drive by words: who drove, what was said, how fast the answers came."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_up_drive import Drive

from flad_carla.report.collect import CollectorConfig, RunCollector, driver_words
from flad_carla.report.page import render_page
from flad_carla.report.page_driver import driven_s, driver_cards
from flad_carla.report.run_file import load_runs
from flad_carla.run_log import DriverView, Observer


class Told(Observer):
    """Puts words to somebody else's drive: the AD-LLM, nobody for 1 s, the ADM, by the second."""

    def __init__(self, collector):
        self._collector = collector
        self._view = None

    def on_start(self, info):
        self._collector.on_start(replace(info, driver="adllm", driver_model="tiny.safetensors"))

    def on_tick(self, tick, entry):
        t = entry.sim_time_s
        who = "adllm" if t < 4.0 else "nobody" if t < 5.0 else "adm"
        why = {"adllm": "", "nobody": f"no answer from the edge for {t - 4:.1f} s", "adm": "gone"}
        if self._view is None or t - self._view.stamp_s > 0.199:
            self._view = DriverView(
                stamp_s=t,
                who=who,
                why=why[who],
                notice="Look out." if 2.0 <= t < 3.0 else "",
                completed=float("nan") if who == "nobody" else 0.25,
                latency_s=float("nan") if who == "nobody" else 0.02,
            )
        self._collector.on_tick(tick, replace(entry, instruction="Go on.", driver=self._view))

    def on_end(self, result):
        self._collector.on_end(result)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    collector = RunCollector(folder, CollectorConfig(thumbnail_width_px=40))
    Drive(duration_s=8.0, seed=1, index=0, repetition=0).feed(Told(collector))
    assert collector.failures == []
    return load_runs(folder)


def test_the_timeline_has_who_drove_and_what_was_said(runs):
    (run,) = runs
    texts = [text for _, text in run.texts["driver"]]
    assert texts == ["adllm", "nobody: no answer from the edge", "adm: gone"]
    times = [t for t, _ in run.texts["driver"]]
    assert times == pytest.approx([0.0, 4.0, 5.0], abs=0.25)
    assert [text for _, text in run.texts["notice"]] == ["Look out.", ""]
    assert [text for _, text in run.texts["instruction"]] == ["Go on."]
    answer, t = run.ego["answer"], run.ego["t"]
    assert answer[t < 3.9] == pytest.approx(0.02) and np.isnan(answer[(t > 4.3) & (t < 4.9)]).all()
    assert run.info.driver_model == "tiny.safetensors"


def test_the_page_says_who_drove_for_how_long(runs):
    seconds = driven_s(runs[0])
    assert seconds == pytest.approx({"adllm": 4.0, "nobody": 1.0, "adm": 3.0}, abs=0.3)
    (card,) = driver_cards(runs)
    assert card["name"] == "Driven by AD-LLM" and float(card["value"]) == pytest.approx(50, abs=4)
    assert "% ADM" in card["note"] and "answers in 20 ms" in card["note"]
    page = render_page(runs)
    assert "<h2>Driven</h2>" not in page
    for words in ("Driven by AD-LLM", "tiny.safetensors", "Look out.", "nobody: no answer"):
        assert words in page


def test_a_drive_without_words_has_no_such_card(tmp_path):
    collector = RunCollector(tmp_path, CollectorConfig(thumbnail_width_px=40))
    Drive(duration_s=2.0, seed=1, index=0, repetition=0).feed(collector)
    assert driver_cards(load_runs(tmp_path)) == []
    assert driver_words(None) == ""
