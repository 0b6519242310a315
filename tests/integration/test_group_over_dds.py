# SPDX-License-Identifier: Apache-2.0
"""Vehicles as processes over real DDS: one is killed or stopped amid a step, the rest go on."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from flad_bringup.environment import child_environment
from flad_common.supervision import Supervisor

_DEADLINE_S = 240.0

# One process imports and forks: three that import PyTorch themselves take seconds of CPU each.
MEMBERS = """
import json, os, sys, time
import torch
from pathlib import Path
from pipeline_of_members import train
from flad_pipeline.group.process_group import joined
from flad_pipeline.group.deadlines import GroupError
from flad_pipeline.group.transport import Transport
from flad_pipeline.ros.dds_transport import DdsLink

NAMES, REST = ("vehicle_0", "vehicle_1", "vehicle_2"), ("vehicle_0", "vehicle_2")
folder, stay_s = Path(sys.argv[1]), float(sys.argv[2])
torch.set_num_threads(1)


def say(name, **values):
    (folder / f"{name}.json.new").write_text(json.dumps(values))
    (folder / f"{name}.json.new").rename(folder / f"{name}.json")


def member(name):
    link = DdsLink(name, NAMES)
    transport = Transport(link)
    link.wait_until_matched(100.0)
    with joined(transport, epoch=1, members=NAMES):
        try:
            while True:
                train("1F1B", NAMES.index(name), 3)
                (folder / f"{name}.trains").touch()
        except GroupError as error:
            said = {"lost": error.lost, "saw_s": time.monotonic()}
    if name in REST:
        with joined(transport, epoch=2, members=REST):
            said["losses"] = train("1F1B", REST.index(name), 2)
            said["trained_s"] = time.monotonic()
            torch.distributed.barrier()  # nobody ends while another one trains
        if name == "vehicle_0":  # until whoever was stopped has spoken to it
            time.sleep(stay_s)
        said["counts"] = transport.counts()
    say(name, **said)


pids = {}
for name in NAMES:
    pids[name] = os.fork()
    if pids[name] == 0:
        try:
            member(name)
        finally:
            sys.stderr.flush()
            os._exit(0)
say("pids", **pids)
for pid in pids.values():
    os.waitpid(pid, 0)
"""


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_the_others_learn_who_is_gone_and_train_on_without_a_relaunch(how, workspace, tmp_path):
    path = os.pathsep.join([*sys.path, str(workspace.root / "tests")])
    stay_s = 3.0 if how == "stopped" else 0.0
    with Supervisor(tmp_path) as supervisor:
        members = supervisor.start(
            "members",
            [sys.executable, "-c", MEMBERS, str(tmp_path), str(stay_s)],
            environment=child_environment(workspace, PYTHONPATH=path, OMP_NUM_THREADS="1"),
        )
        supervisor.wait_until(
            lambda: len(list(tmp_path.glob("*.trains"))) == 3,
            what="three vehicles training",
            deadline_s=_DEADLINE_S,
        )
        victim = said_by(tmp_path, "pids")["vehicle_1"]
        gone_s = time.monotonic()
        os.kill(victim, signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        supervisor.wait_until(
            lambda: (tmp_path / "vehicle_2.json").exists(),
            what="the other vehicles training on",
            deadline_s=_DEADLINE_S,
        )
        if how == "stopped":
            os.kill(victim, signal.SIGCONT)
        supervisor.wait(members, deadline_s=_DEADLINE_S)

    first, last = said_by(tmp_path, "vehicle_0"), said_by(tmp_path, "vehicle_2")
    assert first["lost"] == last["lost"] == "vehicle_1"
    assert first["losses"] == []
    assert len(last["losses"]) > 0
    print(
        f"{how}: known after {last['saw_s'] - gone_s:.2f} s, "
        f"next steps done after {last['trained_s'] - gone_s:.2f} s"
    )
    if how == "stopped":  # it has come back, and was told that its epoch is over
        assert "lost" in said_by(tmp_path, "vehicle_1")


def said_by(folder: Path, name: str) -> dict:
    return json.loads((folder / f"{name}.json").read_text())
