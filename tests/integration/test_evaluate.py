# SPDX-License-Identifier: Apache-2.0
"""Evaluations from the command line: a world process, a planner process, DDS between them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flad_carla.evaluation.cli import BAD_INPUT, NO_SIMULATOR, OK, SOME_NOT_RUN
from flad_carla.evaluation.processes import PLANNER_TOPICS
from flad_carla.evaluation.routes import read_routes

_DEADLINE_S = 240.0


def _write_routes(path: Path, *routes: str) -> Path:
    path.write_text(f"<routes>{''.join(routes)}</routes>")
    return path


def _short_route(workspace, route_id: str, metres: int = 45) -> str:
    """The beginning of the demo's route."""
    import carla

    from flad_carla.route_planner import RoutePlanner
    from flad_sim.towns import load_town

    (demo,) = read_routes(workspace.config / "routes" / "demo.xml")
    planner = RoutePlanner(carla.Map("Grid", load_town("Grid").xodr_text))
    trace = planner.trace([carla.Location(*p) for p in demo.positions])
    a, b = trace[0], trace[metres]
    return (
        f'<route id="{route_id}" town="Grid"><waypoints>'
        f'<position x="{a.x}" y="{a.y}" z="0"/><position x="{b.x}" y="{b.y}" z="0"/>'
        "</waypoints></route>"
    )


def _evaluate(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flad_carla.evaluation", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
    )


def _records(path: Path) -> list[dict]:
    return json.loads(path.read_text())["_checkpoint"]["records"]


def test_a_seed_repeats_and_another_does_not(workspace, tmp_path):
    """Twice seed 1, then seed 2, as three processes' worth of world, planner and DDS."""
    routes = _write_routes(tmp_path / "routes.xml", _short_route(workspace, "0"))
    hashes = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        out = tmp_path / f"{name}.json"
        done = _evaluate(
            *("--routes", routes, "--seed", seed, "--traffic", 8, "--walkers", 4, "--json", out)
        )
        assert done.returncode == OK, done.stderr
        (record,) = _records(out)
        assert record["status"] == "Completed"
        hashes[name] = record["meta"]["trajectory_hash"]
    assert hashes["a"] == hashes["b"] != hashes["c"]


def test_what_cannot_be_run_is_recorded_and_the_rest_is_driven(workspace, tmp_path):
    """A town that is not there, a point in the sea, then a good route."""
    routes = _write_routes(
        tmp_path / "routes.xml",
        '<route id="none" town="Atlantis"><waypoint x="0" y="0"/><waypoint x="9" y="0"/></route>',
        '<route id="sea" town="Grid"><waypoint x="0" y="0"/><waypoint x="9e5" y="0"/></route>',
        _short_route(workspace, "good"),
    )
    out = tmp_path / "out.json"
    report = tmp_path / "report.html"

    done = _evaluate(
        *("--routes", routes, "--traffic", 0, "--walkers", 0, "--json", out, "--report", report)
    )

    assert done.returncode == SOME_NOT_RUN, done.stderr
    nowhere, sea, good = _records(out)
    assert nowhere["status"].startswith("Failed - ") and "Atlantis" in nowhere["meta"]["detail"]
    assert sea["status"] == "Failed - Agent couldn't be set up"
    assert "route point 1" in sea["meta"]["detail"]
    assert good["status"] == "Completed" and good["scores"]["score_composed"] == 100.0
    data = json.loads(out.read_text())
    assert data["_checkpoint"]["global_record"]["scores"]["score_composed"] == pytest.approx(
        100 / 3
    )
    assert "good" in report.read_text()


def test_a_killed_evaluation_is_resumed(workspace, tmp_path):
    """Killed without warning in its second route: the first is kept, the second driven again."""
    routes = _write_routes(
        tmp_path / "routes.xml", *(_short_route(workspace, str(i)) for i in range(2))
    )
    out = tmp_path / "out.json"
    arguments = ("--routes", routes, "--traffic", 0, "--walkers", 0, "--json", out)
    process = subprocess.Popen(
        [sys.executable, "-m", "flad_carla.evaluation", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        end_s = time.monotonic() + _DEADLINE_S
        while not out.exists() or len(_records(out)) < 1:
            assert process.poll() is None and time.monotonic() < end_s
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (kept,) = _records(out)

    done = _evaluate(*arguments, "--resume")

    assert done.returncode == OK, done.stderr
    records = _records(out)
    assert records[0] == kept
    assert [r["status"] for r in records] == ["Completed", "Completed"]
    assert json.loads(out.read_text())["entry_status"] == "Finished"

    other = _evaluate(*arguments, "--resume", "--seed", 5)
    assert other.returncode == BAD_INPUT and "another seed" in other.stderr


def test_a_planner_that_dies_costs_one_route(workspace, tmp_path):
    routes = _write_routes(
        tmp_path / "routes.xml", _short_route(workspace, "0"), _short_route(workspace, "1")
    )
    out, logs = tmp_path / "out.json", tmp_path / "logs"
    command = [sys.executable, "-m", "flad_carla.evaluation", "--routes", str(routes)]
    command += ["--traffic", "0", "--walkers", "0", "--json", str(out), "--logs", str(logs)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        limit_s = time.monotonic() + _DEADLINE_S
        while not (planners := _planners_below(running.pid)):
            assert running.poll() is None and time.monotonic() < limit_s
            time.sleep(0.1)
        planners[0].kill()
        told = running.communicate(timeout=_DEADLINE_S)[1]
    first, second = _records(out)
    assert first["status"] == "Failed - Agent crashed" and second["status"] == "Completed", told
    assert "FLAD-302" in first["meta"]["detail"], first
    assert "planner was ended by signal 9" in first["meta"]["detail"]
    assert "planner.1.log" in told and (logs / "planner.1.log").exists()


def _planners_below(pid: int) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(pid).children(recursive=True)
        if "flad_planner.planner_node" in child.cmdline()
    ]


def test_bad_arguments_are_named_at_once(tmp_path):
    absent = _evaluate("--routes", tmp_path / "absent.xml")
    assert absent.returncode == BAD_INPUT and "no route file" in absent.stderr
    routes = _write_routes(
        tmp_path / "routes.xml",
        '<route id="0" town="Grid"><waypoint x="0" y="0"/><waypoint x="9" y="0"/></route>',
    )
    resume = _evaluate("--routes", routes, "--resume")
    assert resume.returncode == BAD_INPUT and "--resume needs --json" in resume.stderr
    rig = _evaluate("--routes", routes, "--rig", "absent")
    assert rig.returncode == BAD_INPUT and "no rig 'absent'" in rig.stderr
    encoder = _evaluate("--routes", routes, "--encoder", tmp_path / "absent.safetensors")
    assert encoder.returncode == BAD_INPUT and "absent.safetensors has no" in encoder.stderr


def test_a_simulator_that_is_not_there_is_named(tmp_path, free_ports):
    routes = _write_routes(
        tmp_path / "routes.xml",
        *(
            f'<route id="{i}" town="Grid"><waypoint x="0" y="0"/><waypoint x="9" y="0"/></route>'
            for i in range(5)
        ),
    )
    port = free_ports().start
    done = _evaluate("--routes", routes, "--host", "127.0.0.1", "--port", port)
    assert done.returncode == NO_SIMULATOR and f"127.0.0.1:{port}" in done.stderr


def test_the_planner_has_the_topics_of_the_topology():
    from flad_bringup.topology import PLANNER

    assert dict(PLANNER.remappings) == PLANNER_TOPICS
