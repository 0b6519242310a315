# SPDX-License-Identifier: Apache-2.0
"""Processes that an evaluation starts for itself: the simulator and the planner."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

_START_S = 90.0
_STOP_S = 5.0


class ProcessError(RuntimeError):
    """A process that did not start or ended; the text holds the last of what it said."""


class Child:
    """A process of ours that writes to a log file and dies with us."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log_start = log.stat().st_size if log.exists() else 0
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                list(command),
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def check(self) -> None:
        """Raise if it has ended.

        Raises:
            ProcessError: with its exit status and its last words.
        """
        if not self.is_alive:
            raise ProcessError(
                f"{self.name} ended with status {self._process.returncode}; it said: "
                f"{self.last_words()} (all of it: {self.log})"
            )

    def last_words(self, count: int = 5) -> str:
        """The last lines of its log."""
        lines = self._said().strip().splitlines()
        return " / ".join(lines[-count:]) or "nothing"

    def _said(self) -> str:
        """What this process has written, without what others wrote to the file before."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def wait_for(self, text: str, deadline_s: float = _START_S) -> None:
        """Wait until its log has ``text``.

        Raises:
            ProcessError: if it ends before, or the deadline passes.
        """
        end_s = time.monotonic() + deadline_s
        while text not in self._said():
            self.check()
            if time.monotonic() > end_s:
                raise ProcessError(
                    f"{self.name} did not say {text!r} within {deadline_s:.0f} s; it said: "
                    f"{self.last_words()}"
                )
            time.sleep(0.05)

    def stop(self) -> None:
        """End it, by force after a while."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if not self.is_alive:
                return
            self._process.send_signal(number)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                continue


def free_port() -> int:
    """A port that is free now and whose next two are free as well."""
    for _ in range(50):
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
        if port < 65000 and all(_is_free(port + k) for k in (1, 2)):
            return port
    raise ProcessError("no three free TCP ports in a row were found in 50 tries")


def start_simulator(
    town: str, net: Path | None, port: int, seed: int, vehicles: int, walkers: int, log: Path
) -> Child:
    """Start flad_sim and wait until it listens."""
    command = [sys.executable, "-m", "flad_sim", "--town", town, "--port", str(port)]
    command += ["--seed", str(seed), "--traffic", str(vehicles), "--walkers", str(walkers)]
    if net is not None:
        command += ["--net", str(net)]
    child = Child("flad_sim", command, log)
    try:
        child.wait_for("listening on")
    except BaseException:
        child.stop()
        raise
    return child


def start_planner(role: str, mode: str, domain_id: int, log: Path) -> Child:
    """Start the planner node of ``role``, which activates itself."""
    carla_topics = {
        "odometry": f"/carla/{role}/odometry",
        "control": f"/carla/{role}/vehicle_control_cmd",
    }
    command = [sys.executable, "-m", "flad_planner.planner_node", "--ros-args"]
    command += ["-r", f"__ns:=/{role}", "-p", "autostart:=true", "-p", f"mode:={mode}"]
    for name, topic in carla_topics.items():
        command += ["-r", f"{name}:={topic}"]
    return Child(f"planner of {role}", command, log, {"ROS_DOMAIN_ID": str(domain_id)})


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
