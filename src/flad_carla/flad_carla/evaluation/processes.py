# SPDX-License-Identifier: Apache-2.0
"""Processes that an evaluation starts for itself: the simulator and the planner."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from flad_common.supervision import Child, Supervisor

_SIMULATOR_S = 120.0

# The planner's relative names and what they are called in the bridge: as in
# flad_bringup.topology, which this package may not import; a test keeps both equal.
PLANNER_TOPICS = {
    "odometry": "/carla/{vehicle}/odometry",
    "control": "/carla/{vehicle}/vehicle_control_cmd",
    "manual_control": "/carla/{vehicle}/vehicle_control_cmd_manual",
    "manual_override": "/carla/{vehicle}/vehicle_control_manual_override",
    "diagnostics": "/diagnostics",
}


def start_simulator(
    supervisor: Supervisor,
    *,
    town: str,
    net: Path | None,
    port: int,
    seed: int,
    vehicles: int,
    walkers: int,
) -> Child:
    """Start flad_sim and wait until it listens.

    Raises:
        FladError: if it ends before.
        TimeoutError: if it takes too long.
    """
    command = [sys.executable, "-m", "flad_sim", "--town", town, "--port", str(port)]
    command += ["--seed", str(seed), "--traffic", str(vehicles), "--walkers", str(walkers)]
    if net is not None:
        command += ["--net", str(net)]
    child = supervisor.start("flad_sim", command)
    supervisor.wait_until(
        lambda: "listening on" in child.log_file.read_text(errors="replace"),
        what=f"flad_sim listening on port {port}",
        deadline_s=_SIMULATOR_S,
    )
    return child


def start_planner(supervisor: Supervisor, *, role: str, mode: str, domain_id: int) -> Child:
    """Start the planner node of ``role``, which activates itself."""
    command = [sys.executable, "-m", "flad_planner.planner_node", "--ros-args"]
    command += ["-r", f"__ns:=/{role}", "-p", "autostart:=true", "-p", f"mode:={mode}"]
    for name, template in PLANNER_TOPICS.items():
        command += ["-r", f"{name}:={template.replace('{vehicle}', role)}"]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain_id)}
    return supervisor.start("planner", command, environment=environment)
