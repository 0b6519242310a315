# SPDX-License-Identifier: Apache-2.0
"""What the recovery benchmark stands on: hosts that can be cut off, and phases that outlive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flad_bringup.bench.hosts import Hosts
from flad_bringup.bench.recovery_phases import PhaseReader

SEND = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(sys.argv[2].encode(), (sys.argv[1], 5006))
"""
HEAR = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 5006))
s.settimeout(60)
print("ready", flush=True)
while (word := s.recvfrom(100)[0].decode()) != "end":
    print(word, flush=True)
"""
DIES = """
import sys, time
from pathlib import Path
from flad_bringup.bench.recovery_phases import tell_phases
from flad_pipeline.round.uploader import Uploader
from flad_pipeline.stages.unit_store import UnitStore

def halt(*_):
    print("in it", flush=True)
    time.sleep(60)

UnitStore.step = halt
Uploader._send = lambda *_: None
tell_phases(Path(sys.argv[1]))
Uploader._send(None, None, None)
UnitStore.step(None, 1.0, 0.0)
"""


@pytest.mark.needs_network_namespaces
def test_a_host_that_is_cut_off_hears_nothing_until_it_is_connected_again():
    with Hosts(f"flad_t{os.getpid()}", ("a", "b")) as hosts:
        hears = subprocess.Popen(
            hosts.inside("b", [sys.executable, "-c", HEAR]), stdout=subprocess.PIPE, text=True
        )

        def send(word: str) -> None:
            command = hosts.inside("a", [sys.executable, "-c", SEND, "10.78.0.2", word])
            subprocess.run(command, check=False, capture_output=True)

        try:
            assert hears.stdout is not None
            assert hears.stdout.readline() == "ready\n"
            send("before")
            assert hears.stdout.readline() == "before\n"
            hosts.cut_off("b")
            send("meanwhile")
            hosts.connect("b")
            while hears.poll() is None:  # the bridge learns again that the host is there
                send("end")
            heard = hears.stdout.read()
        finally:
            hears.kill()
            hears.wait()
        with hosts.this_thread("a"):
            there = subprocess.run(
                ["ip", "-br", "addr"], check=True, capture_output=True, text=True
            ).stdout
        here = subprocess.run(
            ["ip", "-br", "addr"], check=True, capture_output=True, text=True
        ).stdout

    assert heard == ""
    assert "10.78.0.1/24" in there
    assert "10.78.0." not in here


def test_in_which_phase_a_vehicle_died_is_known_afterwards(tmp_path: Path):
    path = tmp_path / "vehicle_0" / "phase"
    reader = PhaseReader(path)
    process = subprocess.Popen(
        [sys.executable, "-c", DIES, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in it\n"
    process.send_signal(signal.SIGKILL)
    process.wait()

    assert reader.is_in("optimizer")
    assert not reader.is_in("backup")
    assert reader.last("forward") == "optimizer"
    reader.begin()
    assert reader.last("forward") == "between"
    reader.close()
