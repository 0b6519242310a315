# SPDX-License-Identifier: Apache-2.0
"""Processes that an evaluation starts for itself: simulator, planner, encoder, driver, edge."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from flad_carla.evaluation.language_driver import FRAME_PERIOD_S, LanguageDriver
from flad_carla.rig import Rig
from flad_common.fast_dds import without_shared_memory
from flad_common.supervision import Child, Supervisor

_SIMULATOR_S = 120.0

# The planner's relative names and what they are called in the bridge: as in
# flad_bringup.topology, which this package may not import; a test keeps both equal.
PLANNER_TOPICS = {
    "odometry": "/carla/{vehicle}/odometry",
    "control": "/carla/{vehicle}/vehicle_control_cmd",
    "vehicle_info": "/carla/{vehicle}/vehicle_info",
    "manual_control": "/carla/{vehicle}/vehicle_control_cmd_manual",
    "manual_override": "/carla/{vehicle}/vehicle_control_manual_override",
    "diagnostics": "/diagnostics",
}
# The encoder's, beside one "<camera>/image" for every camera of the rig.
ENCODER_TOPICS = {
    "lidar": "/carla/{vehicle}/lidar",
    "odometry": "/carla/{vehicle}/odometry",
    "diagnostics": "/diagnostics",
}
DRIVER_TOPICS = {
    "edge/requests": "/edge/requests",
    "edge/answers": "/edge/answers",
    "diagnostics": "/diagnostics",
}
CAMERA_TOPIC = "/carla/{vehicle}/{camera}/image"


@dataclass(frozen=True, kw_only=True)
class EncoderOption:
    """The encoder that runs beside the planner."""

    model: str  # a shipped model's name, or a .safetensors file
    period_s: float = 0.1  # of simulated time; a multiple of the step
    wire: str = "fp16"

    def __post_init__(self) -> None:
        if not self.period_s > 0.0:
            raise ValueError(f"the encoder's period must be positive, got {self.period_s}")


@dataclass(frozen=True, slots=True)
class EncoderSensors:
    """What a vehicle carries for its encoder."""

    cameras: tuple[str, ...]
    lidar: bool

    @classmethod
    def of(cls, rig: Rig) -> EncoderSensors:
        """Those of a rig: its colour cameras, and the LiDAR of that name."""
        return cls(
            tuple(s.id for s in rig.sensors if s.type == "sensor.camera.rgb"),
            any(s.id == "lidar" and s.type == "sensor.lidar.ray_cast" for s in rig.sensors),
        )


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


def start_planner(
    supervisor: Supervisor,
    *,
    role: str,
    mode: str,
    domain_id: int,
    plan_period_s: float,
    monitored_s: float = 0.0,
) -> Child:
    """Start the planner node of ``role``, which activates itself.

    ``monitored_s`` is the period of the encoder by whose detections it slows down; 0: it does not.
    """
    command = [sys.executable, "-m", "flad_planner.planner_node", "--ros-args"]
    command += ["-r", f"__ns:=/{role}", "-p", "autostart:=true", "-p", f"mode:={mode}"]
    command += ["-p", f"plan_period_s:={plan_period_s:.6f}"]
    command += ["-p", f"planner.monitor.enabled:={str(monitored_s > 0.0).lower()}"]
    command += ["-p", f"prediction_period_s:={monitored_s:.6f}"]
    for name, template in PLANNER_TOPICS.items():
        command += ["-r", f"{name}:={template.replace('{vehicle}', role)}"]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain_id)}
    return supervisor.start("planner", command, environment=environment)


def start_encoder(
    supervisor: Supervisor,
    option: EncoderOption,
    sensors: EncoderSensors,
    *,
    role: str,
    mode: str,
    domain_id: int,
) -> Child:
    """Start the encoder node of ``role``, which loads its model and activates itself."""
    parameters = {
        "autostart": "true",
        "mode": mode,
        "wire": option.wire,
        "lidar": str(sensors.lidar).lower(),
        "await_target": str(mode == "lockstep").lower(),
        "encoder.model": option.model,
        "tick.period_s": f"{option.period_s:.6f}",
        "cameras": str(list(sensors.cameras)),
    }
    topics = {
        name: template.replace("{vehicle}", role) for name, template in ENCODER_TOPICS.items()
    }
    for camera in sensors.cameras:
        topic = CAMERA_TOPIC.replace("{vehicle}", role).replace("{camera}", camera)
        topics[f"{camera}/image"] = topic
    command = [sys.executable, "-m", "flad_perception.encoder_node", "--ros-args"]
    command += ["-r", f"__ns:=/{role}"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={value}"]
    for name, topic in topics.items():
        command += ["-r", f"{name}:={topic}"]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain_id)}
    return supervisor.start("encoder", command, environment=environment)


def start_driver(
    supervisor: Supervisor, driver: LanguageDriver, *, role: str, mode: str, domain_id: int
) -> Child:
    """Start the driver node of ``role``, which asks an edge or has an ADM of its own."""
    parameters = {
        "autostart": "true",
        "mode": mode,
        "driver.drive_by": "adm" if driver.who == "adm" else "edge",
        "driver.is_blind": str(driver.who == "blind").lower(),
        "driver.frame_period_s": f"{FRAME_PERIOD_S:.6f}",
    }
    if driver.adm is not None:
        parameters |= {"adm": str(driver.adm), "adm_encoder_hash": _text(driver.encoder_hash)}
    command = [sys.executable, "-m", "flad_edge.driver_node", "--ros-args"]
    command += ["-r", f"__ns:=/{role}"]
    for name, topic in DRIVER_TOPICS.items():
        command += ["-r", f"{name}:={topic}"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={value}"]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain_id)}
    return supervisor.start("driver", command, environment=environment)


def start_edge(supervisor: Supervisor, driver: LanguageDriver, *, domain_id: int) -> Child:
    """Start the edge node with the AD-LLM of ``driver``; it may be killed at any moment."""
    parameters = {
        "autostart": "true",
        "model": str(driver.adllm),
        "encoder_hash": _text(driver.encoder_hash),
        "num_threads": "1",
        # Each route is a new session of the same vehicle, soon after the one before; and a step
        # of simulated time may take any time here.
        "service.admission.alive_s": "0.001",
        "service.admission.forget_after_s": "3600.0",
    }
    command = [sys.executable, "-m", "flad_edge.edge_node", "--ros-args"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={value}"]
    environment = {
        **os.environ,
        **without_shared_memory(os.environ),
        "ROS_DOMAIN_ID": str(domain_id),
    }
    return supervisor.start("edge", command, environment=environment)


def _text(value: str) -> str:
    """A parameter that stays text even if it is all digits, as a hash may be."""
    return f"'{value}'"
