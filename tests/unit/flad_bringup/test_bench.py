# SPDX-License-Identifier: Apache-2.0
"""Every benchmark writes one schema, is listed, and judges its bar in the right direction."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flad_bringup import bench, cli
from flad_bringup.bench.rows import Row

KEYS = {"name", "value", "unit", "baseline", "baseline_value", "ratio", "bar", "holds"}


@pytest.mark.parametrize(
    "value, bar, better, holds",
    [
        (1.2, 1.0, "higher", True),
        (0.9, 1.0, "higher", False),
        (1.0, 1.0, "higher", True),
        (9.0, 10.0, "lower", True),
        (11.0, 10.0, "lower", False),
        (5.0, None, "higher", None),
    ],
)
def test_a_bar_is_judged_in_its_direction(value, bar, better, holds):
    assert Row(name="a", value=value, unit="s", bar=bar, better=better).holds is holds


def test_a_ratio_is_ours_by_the_baselines():
    row = Row(name="a", value=6.0, unit="1/s", baseline="CARLA", baseline_value=4.0)

    assert row.ratio == 1.5
    assert row.as_json().keys() >= KEYS


@pytest.mark.parametrize("name", bench.NAMES)
def test_every_benchmark_keeps_the_contract_and_is_on_the_page(name, workspace):
    module = bench.load(name)

    assert module.MINUTES > 0
    assert "\n" not in module.SUMMARY
    assert f"`{name}`" in (workspace.root / "docs/benchmarks.md").read_text()


def test_what_is_written_has_the_schema(monkeypatch, tmp_path: Path, capsys):
    monkeypatch.setattr(cli, "_set_up_for", lambda *_: None)
    rows = [Row(name="setup_unchanged_s", value=0.5, unit="s", bar=10.0, better="lower")]
    monkeypatch.setattr(bench.load("setup"), "measure", lambda args: rows)
    file = tmp_path / "new folder/figures.json"

    assert cli.main(["bench", "setup", "--json", str(file)]) == 0

    written = json.loads(file.read_text())
    assert set(written) == {"bench", "commit", "machine", "seed", "started", "rows"}
    assert set(written["machine"]) == {"cpu", "cores", "gpu"}
    assert written["rows"][0]["holds"] is True
    assert "bar <= 10: holds" in capsys.readouterr().out


def test_the_list_names_all_with_their_minutes(monkeypatch, capsys):
    monkeypatch.setattr(cli, "_set_up_for", lambda *_: None)

    assert cli.main(["bench", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(bench.NAMES)
    assert all(line.endswith("min)") for line in lines)
