# SPDX-License-Identifier: Apache-2.0
"""Which nodes there are and how their topics meet: each node once, as plain data.

``launch/*.launch.py`` turn it into launch_ros actions, :mod:`flad_bringup.commands.launch` into
processes where there is no launch. A template holds ``{vehicle}``, the vehicle's role:
``vehicle_0`` is its namespace in the stack and its name below ``/carla/`` in the bridge.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

_ROLE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class NodeSpec:
    """One node; its executable is also its name, and its key in the parameter file."""

    package: str
    executable: str
    per_vehicle: bool
    """One in every vehicle's namespace, or one for all in none."""
    lifecycle: bool
    """Configured and activated from outside; it does nothing before."""
    remappings: tuple[tuple[str, str], ...] = ()
    """Relative names of the node, and templates of what they are called outside."""
    optional: bool = False
    """Started only where it is asked for, by an argument of its name."""

    @property
    def module(self) -> str:
        """The module that ``python -m`` runs where the package is not installed."""
        return f"{self.package}.{self.executable}_node"


PLANNER = NodeSpec(
    package="flad_planner",
    executable="planner",
    per_vehicle=True,
    lifecycle=True,
    remappings=(
        ("odometry", "/carla/{vehicle}/odometry"),
        ("control", "/carla/{vehicle}/vehicle_control_cmd"),
        ("vehicle_info", "/carla/{vehicle}/vehicle_info"),
        ("manual_control", "/carla/{vehicle}/vehicle_control_cmd_manual"),
        ("manual_override", "/carla/{vehicle}/vehicle_control_manual_override"),
        ("diagnostics", "/diagnostics"),
    ),
)
CAMERAS = ("rgb_front", "rgb_left", "rgb_right", "rgb_rear", "rgb_focus")
"""What the shipped encoders look through; one with other cameras needs remappings of its own."""
ENCODER = NodeSpec(
    package="flad_perception",
    executable="encoder",
    per_vehicle=True,
    lifecycle=True,
    optional=True,
    remappings=(
        *((f"{camera}/image", f"/carla/{{vehicle}}/{camera}/image") for camera in CAMERAS),
        ("lidar", "/carla/{vehicle}/lidar"),
        ("odometry", "/carla/{vehicle}/odometry"),
        ("diagnostics", "/diagnostics"),
    ),
)
DRIVER = NodeSpec(
    package="flad_edge",
    executable="driver",
    per_vehicle=True,
    lifecycle=True,
    optional=True,
    remappings=(
        ("edge/requests", "/edge/requests"),
        ("edge/answers", "/edge/answers"),
        ("diagnostics", "/diagnostics"),
    ),
)
UPLOADER = NodeSpec(
    package="flad_edge",
    executable="uploader",
    per_vehicle=True,
    lifecycle=True,
    optional=True,
    remappings=(
        ("odometry", "/carla/{vehicle}/odometry"),
        ("diagnostics", "/diagnostics"),
    ),
)
"""Sends clips of features to the edge; its owner decides whether any leave: uploader:=true."""
EDGE = NodeSpec(
    package="flad_edge",
    executable="edge",
    per_vehicle=False,
    lifecycle=True,
)
CONDUCTOR = NodeSpec(
    package="flad_edge",
    executable="conductor",
    per_vehicle=False,
    lifecycle=True,
    optional=True,
)
"""Leads federated training on an edge; ``./flad federate`` starts it, or an operator."""
WORKER = NodeSpec(
    package="flad_pipeline",
    executable="worker",
    per_vehicle=True,
    lifecycle=True,
    optional=True,
)
"""A vehicle's part in federated training; its topics are the group's and ``/edge/train``."""
PLANNING = NodeSpec(
    package="flad_edge",
    executable="planning",
    per_vehicle=False,
    lifecycle=True,
    optional=True,
)
"""SWIFT, for vehicles that train together: who trains with whom (planning:=true)."""
PRESENCE = NodeSpec(
    package="flad_edge",
    executable="presence",
    per_vehicle=True,
    lifecycle=True,
    optional=True,
    remappings=(
        ("odometry", "/carla/{vehicle}/odometry"),
        ("edge/fleet", "/edge/fleet"),
    ),
)
"""Tells the edge who and where a vehicle is, and how long it stays: what SWIFT plans from."""
BRIDGE = NodeSpec(
    package="flad_carla",
    executable="bridge",
    per_vehicle=False,
    lifecycle=False,
)

VEHICLE_NODES = (PLANNER, ENCODER, DRIVER, UPLOADER, PRESENCE)
"""What runs on every vehicle."""
EDGE_NODES = (EDGE, PLANNING)
"""What runs on an edge, for all its vehicles; its topics begin with ``/edge``."""
SIMULATION_NODES = (BRIDGE,)
"""What stands between the stack and the world."""
SIMULATOR = ("-m", "flad_sim")
"""The world; not a node."""


def fill(template: str, vehicle: str) -> str:
    """A template for one vehicle.

    Raises:
        ValueError: if the role is no ROS name.
    """
    if not _ROLE.fullmatch(vehicle):
        raise ValueError(
            f"vehicle is {vehicle!r}, expected letters, digits and _ after a letter: it becomes a "
            "ROS namespace"
        )
    return template.replace("{vehicle}", vehicle)


def node_command(
    spec: NodeSpec,
    *,
    vehicle: str = "",
    arguments: tuple[str, ...] = (),
    parameters: Mapping[str, str] | None = None,
    params_file: str | None = None,
) -> list[str]:
    """The command line that runs one node without launch; a lifecycle node starts itself.

    Example:
        >>> node_command(BRIDGE, arguments=("--town", "Grid"))[1:]
        ['-m', 'flad_carla.bridge_node', '--town', 'Grid']
    """
    command = [sys.executable, "-m", spec.module, *arguments]
    ros: list[str] = []
    if spec.per_vehicle:
        ros += ["-r", f"__ns:=/{fill('{vehicle}', vehicle)}"]
    for name, template in spec.remappings:
        ros += ["-r", f"{name}:={fill(template, vehicle)}"]
    if params_file is not None:
        ros += ["--params-file", params_file]
    if spec.lifecycle:
        ros += ["-p", "autostart:=true"]
    for name, value in (parameters or {}).items():
        ros += ["-p", f"{name}:={value}"]
    return [*command, "--ros-args", *ros] if ros else command
