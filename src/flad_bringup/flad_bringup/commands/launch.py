# SPDX-License-Identifier: Apache-2.0
"""Start the world, the bridge and a planner per vehicle, and keep them running until Ctrl-C.

The same nodes and topics as ``ros2 launch flad_bringup simulation.launch.py`` and
``vehicle.launch.py``, without launch. Logs go to runs/launch/logs.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import sys
import time
from pathlib import Path
from typing import Any

SUMMARY = "run world, bridge and planners as the launch files do, without launch"
NEEDS = ("vehicle", "cli", "sim", "carla", "edge")

_READY_S = 120.0
_POLL_S = 0.2


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
    parser.add_argument(
        "--adllm",
        type=Path,
        metavar="FILE",
        help="weights of an AD-LLM: an edge is started too, and drives every vehicle by what "
        "./flad say tells it; with it --encoder is small unless given",
    )
    parser.add_argument(
        "--adm",
        type=Path,
        metavar="FILE",
        help="weights of the ADM on every vehicle, for when the edge is silent",
    )
    parser.add_argument(
        "--plan",
        type=Path,
        metavar="UNITS",
        help="SWIFT plans who trains a model of these units with whom, from what each vehicle says "
        "of itself; rviz shows /edge/fleet_markers",
    )
    parser.add_argument(
        "--encoder",
        default="off",
        metavar="NAME",
        help="run a vision encoder on every vehicle: off, a shipped model such as small, or a "
        ".safetensors file (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Start everything, then watch it until something ends or somebody interrupts."""
    supervision = importlib.import_module("flad_common.supervision")
    logs: Path = args.workspace.runs / "launch" / "logs"
    with supervision.Supervisor(logs) as supervisor:
        for name, command, ready in commands(args):
            child = supervisor.start(name, command)
            supervisor.wait_until(
                lambda child=child, ready=ready: (
                    ready in child.log_file.read_text(errors="replace")
                ),
                what=f"{name} being ready",
                deadline_s=_READY_S,
            )
            print(f"{name} is up", flush=True)
        print(f"running; logs are in {logs}; Ctrl-C ends it", flush=True)
        while True:
            supervisor.check()
            time.sleep(_POLL_S)


def commands(args: argparse.Namespace) -> list[tuple[str, list[str], str]]:
    """Name, command, and the words of its log that mean it is up, in the order they start.

    Raises:
        ValueError: if a model is asked for that is not there.
    """
    topology: Any = importlib.import_module("flad_bringup.topology")
    config: Any = importlib.import_module("flad_common.config")
    loop: Any = importlib.import_module("flad_carla.bridge_loop")
    if args.adllm is not None and args.encoder == "off":
        args.encoder = "small"
    config_file = _bridge_config(args, config, loop)
    params_file = args.params_file or args.workspace.config / "vehicle.yaml"
    egos = config.from_yaml(loop.BridgeLoopConfig, config_file).egos
    found = []
    if args.host is None:
        world = [sys.executable, *topology.SIMULATOR, "--port", str(args.port)]
        world += ["--town", args.town, "--traffic", str(args.traffic)]
        world += ["--walkers", str(args.walkers), "--seed", str(args.seed)]
        found.append(("world", world, "listening on"))
    bridge = topology.node_command(
        topology.BRIDGE,
        arguments=(
            *("--config", str(config_file)),
            *("--host", args.host or "127.0.0.1"),
            *("--port", str(args.port)),
            *("--town", args.town),
            *("--mode", args.mode),
        ),
    )
    found.append(("bridge", bridge, "bridge to"))
    if args.adllm is not None:
        edge = topology.node_command(
            topology.EDGE,
            params_file=str(args.workspace.config / "edge.yaml"),
            parameters={"model": str(args.adllm), "encoder_hash": _encoder_hash(args.encoder)},
        )
        found.append(("edge", edge, "release"))
    if args.plan is not None:
        planning = topology.node_command(
            topology.PLANNING,
            params_file=str(args.workspace.config / "edge.yaml"),
            parameters={"task.units": str(args.plan.absolute())},
        )
        found.append(("planning", planning, "plans"))
    for ego in egos:
        for spec in topology.VEHICLE_NODES:
            if spec is topology.UPLOADER:
                continue  # the edge that is started here has no store of releases to tune
            parameters = {"mode": args.mode, "use_sim_time": "true"}
            if spec is topology.PRESENCE:
                if args.plan is None:
                    continue
                del parameters["mode"]
            if spec is topology.ENCODER:
                if args.encoder == "off":
                    continue
                parameters |= _encoder_parameters(args.encoder, Path(config_file).parent / ego.rig)
            if spec is topology.PLANNER and args.adllm is not None:
                # In lockstep it awaits a plan of every such stamp: those of the driver's frames.
                parameters["plan_period_s"] = str(_frame_period_s(config, params_file))
            if spec is topology.DRIVER:
                if args.adllm is None:
                    continue
                if args.adm is not None:
                    parameters["adm"] = str(args.adm)
                    parameters["adm_encoder_hash"] = _encoder_hash(args.encoder)
            command = topology.node_command(
                spec, vehicle=ego.role, params_file=str(params_file), parameters=parameters
            )
            found.append((f"{ego.role}_{spec.executable}", command, ""))
    return found


def _bridge_config(args: argparse.Namespace, config: Any, loop: Any) -> Path:
    """The bridge's file; a copy where it must know of an encoder, or of an edge that drives."""
    given: Path = args.config_file or args.workspace.config / "bridge.yaml"
    crew = ([] if args.encoder == "off" else ["encoder"]) + (["driver"] if args.adllm else [])
    if not crew:
        return given
    read = config.from_yaml(loop.BridgeLoopConfig, given)
    changes: dict[str, Any] = {"driver": "none"} if args.adllm else {}
    egos = [
        dataclasses.replace(
            ego,
            rig=(given.parent / ego.rig).resolve(),
            awaits=tuple(dict.fromkeys([*ego.awaits, *crew])),
            **changes,
        )
        for ego in read.egos
    ]
    if args.adllm and not args.config_file:  # what the shipped encoder sees by
        rig = args.workspace.config / "rigs" / "encoder.yaml"
        egos = [dataclasses.replace(ego, rig=rig) for ego in egos]
    file: Path = args.workspace.runs / "launch" / "bridge.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(config.to_yaml(dataclasses.replace(read, egos=tuple(egos))), encoding="utf-8")
    return file


def _frame_period_s(config: Any, params_file: Path) -> float:
    driver: Any = importlib.import_module("flad_edge.driver_config")
    read = config.from_yaml(driver.DriverNodeConfig, params_file, "driver")
    return float(read.driver.frame_period_s)


def _encoder_hash(model: str) -> str:
    """As a parameter that stays text even if it is all digits."""
    header: Any = importlib.import_module("flad_perception.weights_header")
    return f"'{header.model_hash_of(model)}'"


def _encoder_parameters(model: str, rig_file: Path) -> dict[str, str]:
    """The model, and the cameras that the vehicle carries."""
    rig: Any = importlib.import_module("flad_carla.rig").load_rig(rig_file)
    cameras = [sensor.id for sensor in rig.sensors if sensor.type == "sensor.camera.rgb"]
    return {"encoder.model": model, "cameras": str(cameras)}
