# SPDX-License-Identifier: Apache-2.0
"""Start the world, the bridge and a planner per vehicle, and keep them running until Ctrl-C.

The same nodes and topics as ``ros2 launch flad_bringup simulation.launch.py`` and
``vehicle.launch.py``, without launch. Logs go to runs/launch/logs.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

SUMMARY = "run world, bridge and planners as the launch files do, without launch"
NEEDS = ("vehicle", "sim", "carla")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--host", help="a world that runs elsewhere (default: start one here)")
    parser.add_argument("--port", type=int, default=2000, help="RPC port of the world")
    parser.add_argument("--town", default="Grid", help="town to load, or an .xodr file")
    parser.add_argument("--traffic", type=int, default=30, help="vehicles that flad_sim moves")
    parser.add_argument("--walkers", type=int, default=20, help="pedestrians that flad_sim moves")
    parser.add_argument("--seed", type=int, default=1, help="seed of flad_sim")
    parser.add_argument("--config-file", type=Path, help="the bridge's vehicles and rigs")
    parser.add_argument("--params-file", type=Path, help="ROS parameters of the vehicles' nodes")
    parser.add_argument(
        "--mode", choices=["realtime", "lockstep"], default="realtime", help="how time passes"
    )


def run(args: argparse.Namespace) -> int:
    """Start everything, then watch it."""
    stack_module = importlib.import_module("flad_bringup.stack")
    workspace = args.workspace
    with stack_module.Stack(workspace.runs / "launch" / "logs") as stack:
        for process in _processes(args):
            print(f"starting {process.name}: {' '.join(process.command)}", flush=True)
            stack.start(process)
        print(f"running; logs are in {workspace.runs / 'launch' / 'logs'}; Ctrl-C ends it")
        stack.wait()
    return 0


def _processes(args: argparse.Namespace) -> list[Any]:
    """World, bridge and planners, in the order they start."""
    topology = importlib.import_module("flad_bringup.topology")
    stack_module = importlib.import_module("flad_bringup.stack")
    common = importlib.import_module("flad_common.config")
    loop = importlib.import_module("flad_carla.bridge_loop")
    config_file = args.config_file or args.workspace.config / "bridge.yaml"
    params_file = args.params_file or args.workspace.config / "vehicle.yaml"
    bridge = common.from_yaml(loop.BridgeLoopConfig, config_file)
    found = []
    if args.host is None:
        world = [sys.executable, *topology.SIMULATOR, "--port", str(args.port)]
        world += ["--town", args.town, "--traffic", str(args.traffic)]
        world += ["--walkers", str(args.walkers), "--seed", str(args.seed)]
        found.append(
            stack_module.ProcessSpec(name="world", command=world, ready_text="listening on")
        )
    address = ("--host", args.host or "127.0.0.1", "--port", str(args.port))
    command = topology.node_command(
        topology.BRIDGE,
        arguments=(
            *("--config", str(config_file)),
            *address,
            *("--town", args.town),
            *("--mode", args.mode),
        ),
    )
    found.append(stack_module.ProcessSpec(name="bridge", command=command, ready_text="bridge to"))
    for ego in bridge.egos:
        for spec in topology.VEHICLE_NODES:
            command = topology.node_command(
                spec,
                vehicle=ego.role,
                params_file=str(params_file),
                parameters={"mode": args.mode, "use_sim_time": "true"},
            )
            name = f"{ego.role}_{spec.executable}"
            found.append(stack_module.ProcessSpec(name=name, command=command))
    return found
