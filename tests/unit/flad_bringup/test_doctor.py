# SPDX-License-Identifier: Apache-2.0
"""The doctor notices what is missing and says what to do; here it finds nothing bad."""

from __future__ import annotations

import shutil
import socket
from types import SimpleNamespace

import pytest

from flad_bringup import doctor


def finding(workspace, subject):
    return next(f for f in doctor.examine(workspace) if f.subject == subject)


def test_on_a_machine_that_runs_the_tests_nothing_is_bad(workspace):
    findings = doctor.examine(workspace)

    assert [f.subject for f in findings if f.state == "bad"] == []
    assert len({f.subject for f in findings}) == len(findings)
    assert all(bool(f.advice) == (f.state != "good") for f in findings)


@pytest.mark.parametrize(
    "subject, words", [("C++ compiler", "apt install g++"), ("cmake", "apt install cmake")]
)
def test_a_missing_tool_is_bad_and_has_advice(workspace, monkeypatch, subject, words):
    monkeypatch.setattr(shutil, "which", lambda name: None)

    found = finding(workspace, subject)

    assert (found.state, found.found) == ("bad", "none")
    assert words in found.advice


def test_little_disk_and_little_shared_memory_are_told(workspace, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=50 * 1024**2))

    assert finding(workspace, "disk").state != "good"
    assert "--shm-size" in finding(workspace, "/dev/shm").advice


def test_a_taken_port_is_named(workspace, monkeypatch):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        monkeypatch.setattr(doctor, "_PORTS", (port,))

        assert finding(workspace, "ports").found == f"{port} taken"
    assert finding(workspace, "ports").state == "good"


def test_a_ros_other_than_ours_is_a_warning(workspace, monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", "foxy")
    assert finding(workspace, "ROS 2").state == "warning"

    monkeypatch.setenv("ROS_DISTRO", "humble")
    assert finding(workspace, "ROS 2").state == "good"


def test_a_wrong_clock_is_bad(workspace, monkeypatch):
    monkeypatch.setattr(doctor.time, "localtime", lambda: SimpleNamespace(tm_year=1970))

    assert finding(workspace, "clock").state == "bad"
