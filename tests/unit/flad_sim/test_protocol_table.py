# SPDX-License-Identifier: Apache-2.0
"""The README's table tells of every call and every sensor, and of none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

from flad_sim.blueprints import BlueprintLibrary
from flad_sim.rpc.dispatch import HANDLERS

README = Path(__file__).resolve().parents[3] / "src" / "flad_sim" / "README.md"


def _rows(heading: str) -> list[str]:
    section = README.read_text().split(f"### {heading}\n")[1].split("\n#")[0]
    return [line for line in section.splitlines() if line.startswith("| ")][1:]


def _names(rows: list[str]) -> list[str]:
    return [name for row in rows for name in re.findall(r"`([\w.*]+)`", row.split(" | ")[0])]


def test_every_call_has_one_place_in_the_table() -> None:
    rows = _rows("Calls")
    told = _names([r for r in rows if "| refused |" not in r])
    assert sorted(told) == sorted(HANDLERS)


def test_what_the_table_refuses_is_not_served() -> None:
    refused = _names([r for r in _rows("Calls") if "| refused |" in r])
    assert refused
    assert not set(refused) & set(HANDLERS)


def test_every_sensor_has_one_place_in_the_table() -> None:
    library = [d[1] for d in BlueprintLibrary().definitions()]
    sensors = [name for name in library if name.startswith("sensor.")]
    assert sorted(_names(_rows("Sensors"))) == sorted(sensors)


def test_the_library_has_as_many_entries_as_the_table_says() -> None:
    (count,) = re.findall(r"library has (\d+) entries", README.read_text())
    assert int(count) == len(BlueprintLibrary().definitions())
