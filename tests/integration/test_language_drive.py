# SPDX-License-Identifier: Apache-2.0
"""A vehicle drives by words in closed loop: world, encoder, driver, edge and planner processes.

The model is untrained and drives straight on at 5 m/s whatever it sees: what is tested is the way.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_adllm import straight_adllm

from flad_carla.recorder.runs import recorded_runs
from flad_carla.report.run_file import load_runs

_DEADLINE_S = 420.0
pytestmark = pytest.mark.timeout(900)  # three closed loops of five processes each
ROUTE = """<routes><route id="7" town="Grid"><waypoints>
<position x="321.8" y="-73.0" z="0.0"/><position x="321.8" y="-113.0" z="0.0"/>
</waypoints></route></routes>"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drive")
    (folder / "routes.xml").write_text(ROUTE)
    straight_adllm(folder / "straight.safetensors")
    return folder


def _run(module: str, files: Path, *arguments: object) -> str:
    command = [sys.executable, "-m", module, "--routes", files / "routes.xml"]
    command += ["--driver", "adllm", "--adllm", files / "straight.safetensors", "--adm", "off"]
    command += ["--collision-monitor", "off"]  # it drives as it is told, lights or not
    done = subprocess.run(
        [*map(str, command), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_edge_killed_on_the_way_stops_the_vehicle_and_the_run_repeats(files):
    hashes = []
    for name in ("a", "b"):
        said = _run(
            "flad_carla.evaluation",
            files,
            *("--traffic", 3, "--walkers", 2, "--edge-loss", "2.5:4.5"),
            *("--json", files / f"{name}.json", "--report", files / f"{name}.html"),
        )
        (record,) = json.loads((files / f"{name}.json").read_text())["_checkpoint"]["records"]
        assert record["scores"]["score_route"] == 100.0
        hashes.append(record["meta"]["trajectory_hash"])
        assert "frames driven by: adllm" in said
    assert hashes[0] == hashes[1]

    driver = record["meta"]["driver"]
    assert driver["frames"]["nobody"] == 10 and driver["frames"]["adllm"] > 20
    assert driver["latency_ms"]["p50"] > 0.0
    assert all(change["instruction"] for change in driver["timeline"])
    lost = next(c for c in driver["timeline"] if c["who"] == "nobody")
    assert 2.5 <= lost["time_s"] <= 2.7 and "no answer from the edge" in lost["why"]

    (run,) = load_runs(files / "b_data")
    assert run.info.driver_model == "straight.safetensors"
    stale_s = next(t for t, state in run.texts["planner_state"] if state == "STALE")
    assert 2.5 < stale_s <= 3.0 + 1e-6  # half a second after the edge was lost
    again_s = next(t for t, state in run.texts["planner_state"] if state == "FOLLOWING" and t > 3)
    assert again_s == pytest.approx(4.5, abs=0.25)
    assert {text.partition(":")[0] for _, text in run.texts["driver"]} >= {"adllm", "nobody"}
    page = (files / "b.html").read_text()
    assert "Driven by AD-LLM" in page


def test_what_a_model_gets_itself_into_is_recorded_with_the_experts_answer(files):
    _run(
        "flad_carla.recorder.cli",
        files,
        *("--out", files / "set", "--image-size", "160x120", "--weather", 0),
        *("--traffic", 0, "--walkers", 0, "--kicks", "off", "--min-frames", 5),
    )
    ((folder, document),) = recorded_runs(files / "set")
    assert (document["status"], document["driver"]) == ("complete", "adllm")
    blocks = [
        json.loads(path.read_text())["flad"]
        for path in sorted((folder / "measurements_full").glob("*.json"))
    ]
    assert len(blocks) > 40
    moving = blocks[20:]
    assert all(b["instruction"] and len(b["plan_world"]) == 5 for b in moving)
    # The expert would drive faster than the 5 m/s that the model does: its label differs.
    assert any(b["label"]["throttle"] > b["driven"]["throttle"] + 0.2 for b in moving)
