# SPDX-License-Identifier: Apache-2.0
"""What a newcomer types: the quick demo drives and leaves its files; Ctrl-C leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import carla
import psutil

from flad_common.supervision import Supervisor

_DEMO_DEADLINE_S = 280.0
_SIM_DEADLINE_S = 120.0


def test_the_quick_demo_drives_and_leaves_its_files(workspace, tmp_path: Path):
    out, figures = tmp_path / "demo", tmp_path / "figures.json"
    with Supervisor(tmp_path / "logs") as supervisor:
        demo = supervisor.start(
            "demo",
            [
                *(str(workspace.root / "flad"), "demo", "--quick"),
                *("--out", str(out), "--json", str(figures)),
            ],
        )
        status = supervisor.wait(demo, deadline_s=_DEMO_DEADLINE_S)

    assert status == 0, demo.tail(40)
    results = json.loads(figures.read_text())["results"]
    assert results["_checkpoint"]["records"][0]["status"] == "Completed"
    assert results["_checkpoint"]["global_record"]["scores"]["score_route"] == 100.0
    page = (out / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert any(out.glob("bag/**/*.mcap"))
    assert str(out / "report.html") in demo.log_file.read_text()


def test_a_folder_with_other_things_is_left_alone(workspace, tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years of work")

    ended = subprocess.run(
        [str(workspace.root / "flad"), "demo", "--quick", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.returncode == 2
    assert "holds something else" in ended.stdout
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_ctrl_c_ends_the_world_and_everything_below_it(workspace, tmp_path: Path, free_ports):
    port = free_ports(3).start
    with Supervisor(tmp_path) as supervisor:
        sim = supervisor.start(
            "sim", [str(workspace.root / "flad"), "sim", "--town", "Grid", "--port", str(port)]
        )
        supervisor.wait_until(
            lambda: "listening on" in sim.log_file.read_text(),
            what="the world listening",
            deadline_s=_SIM_DEADLINE_S,
        )
        client = carla.Client("127.0.0.1", port)
        client.set_timeout(20.0)
        assert client.get_server_version() == client.get_client_version()
        below = psutil.Process(sim.process.pid).children(recursive=True)

        os.kill(sim.process.pid, signal.SIGINT)

        assert supervisor.wait(sim, deadline_s=30.0) in (0, 130)
        assert [p.pid for p in below if p.is_running()] == []
