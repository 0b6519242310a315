# SPDX-License-Identifier: Apache-2.0
"""A sensor rig: which sensors a vehicle carries and where, read from ``config/rigs/*.yaml``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flad_common.config import from_yaml, knob
from flad_common.frames import CarlaPose

# Sensors that speak when something happens; nobody waits for them.
EVENT_TYPES = (
    "sensor.other.collision",
    "sensor.other.lane_invasion",
    "sensor.other.obstacle",
)
# Topics of the bridge beside the sensors', under the same /carla/<role>/.
RESERVED_IDS = (
    "odometry",
    "speedometer",
    "objects",
    "markers",
    "traffic_lights",
    "vehicle_status",
    "vehicle_info",
    "vehicle_control_cmd",
    "vehicle_control_cmd_manual",
    "vehicle_control_manual_override",
    "enable_autopilot",
    "ackermann_cmd",
    "base_link",
)
_ID = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class SensorSpec:
    """One sensor: its topic's name, CARLA blueprint, place on the vehicle and attributes."""

    id: str = knob(unit="", doc="Topic under /carla/<role>/; a ROS name, unique in the rig.")
    type: str = knob(unit="", doc="CARLA blueprint, for example sensor.camera.rgb.")
    pose: CarlaPose = field(
        default_factory=CarlaPose,
        metadata={"unit": "", "doc": "On the vehicle, in CARLA's frame."},
    )
    attributes: dict[str, Any] = field(
        default_factory=dict, metadata={"unit": "", "doc": "CARLA attributes of the blueprint."}
    )

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise ValueError(
                f"sensor id {self.id!r} is no ROS name: letters, digits and _ after a letter"
            )
        if self.id in RESERVED_IDS:
            raise ValueError(f"sensor id {self.id!r} is a topic that the bridge publishes itself")
        if not self.type.startswith("sensor."):
            raise ValueError(f"sensor {self.id}: type is {self.type!r}, expected sensor.<...>")
        for key, value in self.attributes.items():
            if not isinstance(value, (str, int, float)):
                raise TypeError(f"sensor {self.id}: {key} is text or a number, got {value!r}")

    @property
    def is_event(self) -> bool:
        """Whether it speaks only when something happens."""
        return self.type in EVENT_TYPES

    @property
    def is_camera(self) -> bool:
        """Whether it gives images."""
        return self.type.startswith("sensor.camera.")

    @property
    def tick_s(self) -> float:
        """Seconds between two measurements, 0 for every frame."""
        return float(self.attributes.get("sensor_tick", 0.0))

    def carla_attributes(self) -> dict[str, str]:
        """The attributes as CARLA takes them: as text."""
        return {key: attribute_text(value) for key, value in self.attributes.items()}


@dataclass(frozen=True, kw_only=True)
class Rig:
    """The sensors of one vehicle."""

    description: str = knob("", unit="", doc="One line for people.")
    sensors: tuple[SensorSpec, ...] = knob((), unit="", doc="The sensors, in topic order.")

    def __post_init__(self) -> None:
        ids = [sensor.id for sensor in self.sensors]
        if twice := sorted({i for i in ids if ids.count(i) > 1}):
            raise ValueError(f"sensor ids {twice} are used more than once; each is a topic")

    @property
    def slowest_camera_s(self) -> float:
        """Longest period of a camera, 0 where all see every frame."""
        return max((s.tick_s for s in self.sensors if s.is_camera), default=0.0)

    def check_rate(self, fixed_delta_s: float) -> None:
        """Check that every sensor speaks at whole numbers of steps, so that it can be awaited.

        Raises:
            ValueError: naming the sensor and the next periods that would do.
        """
        for sensor in self.sensors:
            steps = sensor.tick_s / fixed_delta_s
            if sensor.is_event or steps <= 1.0:
                continue
            if abs(steps - round(steps)) > 1e-6:
                low, high = math.floor(steps) * fixed_delta_s, math.ceil(steps) * fixed_delta_s
                raise ValueError(
                    f"sensor {sensor.id}: sensor_tick is {sensor.tick_s:g} s, which is no multiple "
                    f"of the step of {fixed_delta_s:g} s; use {low:g} or {high:g}"
                )


def load_rig(path: Path) -> Rig:
    """Read a rig.

    Raises:
        ValueError: if it is no rig; the message starts with the path.
        TypeError: on a value of the wrong type, likewise.
    """
    return from_yaml(Rig, path)


def attribute_text(value: str | float) -> str:
    """An attribute's value as CARLA writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
