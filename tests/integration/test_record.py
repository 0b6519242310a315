# SPDX-License-Identifier: Apache-2.0
"""A recording over real DDS and the real client: killed halfway, it goes on when asked again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from flad_carla.recorder.runs import COMPLETE, PARTIAL, recorded_runs
from flad_carla.recorder.verify import verify

pytestmark = pytest.mark.timeout(800)  # three recordings, each below DEADLINE_S
DEADLINE_S = 240.0
ROUTE = """<routes><route id="7" town="Grid"><waypoints>
<position x="321.8" y="-73.0" z="0.0"/><position x="321.8" y="-113.0" z="0.0"/>
</waypoints></route></routes>"""


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    folder = tmp_path_factory.mktemp("record")
    (folder / "routes.xml").write_text(ROUTE)
    options = {
        "--routes": folder / "routes.xml",
        "--out": folder / "set",
        "--image-size": "80x60",
        "--weather": 2,
        "--seed": 5,
        "--traffic": 4,
        "--walkers": 2,
        "--min-frames": 5,
        "--domain": os.environ["ROS_DOMAIN_ID"],
        "--logs": folder / "logs",
    }
    words = [str(word) for item in options.items() for word in item]
    return folder / "set", [sys.executable, "-m", "flad_carla.recorder.cli", *words]


def frames_on_disk(root: Path) -> int:
    return len(list(root.glob("routes_*/rgb_full/*.jpg")))


def kill_with_children(process: subprocess.Popen) -> None:
    """SIGKILL to the recorder; then to what it had started and cannot end any more."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for child in children:
        if child.is_running():
            child.kill()
    psutil.wait_procs(children, timeout=10.0)


def test_killed_and_asked_again_it_completes_the_data_set(command):
    root, words = command
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    end_s = time.monotonic() + DEADLINE_S
    try:
        while frames_on_disk(root) < 8 and process.poll() is None:
            assert time.monotonic() < end_s, "no 8 frames in time"
            time.sleep(0.05)
        assert process.poll() is None, process.stdout.read()
    finally:
        kill_with_children(process)
    assert any("being recorded" in finding.what for finding in verify(root))

    again = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "was cut off; its route is recorded again" in again.stderr
    assert verify(root) == []
    ((folder, document),) = recorded_runs(root)
    assert document["status"] == COMPLETE and document["num_frames"] > 30
    assert (root / "dataset_index.txt").read_text() == f"{folder.name} {document['num_frames']}\n"

    third = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S)
    assert third.returncode == 0 and "complete already" in third.stderr
    assert [path for path, _ in recorded_runs(root)] == [folder]
    check_content(folder)


def check_content(folder: Path) -> None:
    """What was recorded is a drive along the route, seen by its sensors."""
    measured = json.loads((folder / "measurements_all.json").read_text())
    extra = [
        json.loads((folder / f"measurements_full/{k:04d}.json").read_text())["flad"]
        for k in range(len(measured))
    ]
    assert np.diff([flad["sim_time_s"] for flad in extra]) == pytest.approx(0.1)
    assert {m["weather_id"] for m in measured} == {2}
    assert measured[-1]["speed"] > 3.0
    # North, so up the GPS plane's x and down the world's y, at the same place by both.
    for m in measured:
        assert m["gps_x"] == pytest.approx(-m["y"], abs=0.3)
        assert m["gps_y"] == pytest.approx(m["x"], abs=0.3)
    assert measured[-1]["gps_x"] - measured[0]["gps_x"] > 20.0
    sweep = np.load(folder / "lidar/0010.npy")
    other = np.load(folder / "lidar_odd/0010.npy")
    assert len(sweep) > 3000 and len(other) > 3000
    # The sensor looks to the left, and one half sweep is on each side of it.
    sides = [float(np.mean(half[:, 1].astype(float) > 0.0)) for half in (sweep, other)]
    assert max(sides) > 0.9 and min(sides) < 0.1
    picture = np.asarray(Image.open(folder / "rgb_full/0010.jpg"))
    assert picture.shape == (240, 80, 3) and picture.std() > 20.0


def test_a_disk_that_is_full_ends_the_recording_with_advice(command, tmp_path):
    """A quota on files stands for the disk: the first checksums that do not fit end it."""
    _, words = command
    root = tmp_path / "set"
    words = list(words)
    words[words.index("--out") + 1] = str(root)
    limit = "import resource,signal,sys;signal.signal(signal.SIGXFSZ,signal.SIG_IGN)"
    limit += ";import flad_carla.recorder.store as s;real=s.FrameStore.put;"
    limit += "s.FrameStore.put=lambda self,k,f:(k==12 and resource.setrlimit("
    limit += "resource.RLIMIT_FSIZE,(4000,4000)),real(self,k,f))[1]"
    limit += ";from flad_carla.recorder.cli import main;sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", limit, *words[3:]],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "stopped after 12 frames" in done.stderr and "Free some space" in done.stderr
    ((_, document),) = recorded_runs(root)
    assert document["status"] in (PARTIAL, "recording")
