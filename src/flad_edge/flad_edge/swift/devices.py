# SPDX-License-Identifier: Apache-2.0
"""Devices that vehicles carry; ``config/devices.yaml`` holds those of the paper's Table 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flad_common.config import from_mapping, knob, read_yaml


@dataclass(frozen=True, kw_only=True)
class DeviceProfile:
    """One kind of device: what Eq. 8 needs, and the memory that training may take."""

    memory_bytes: float = knob(unit="B", doc="Physical memory (Mem_limit).")
    system_bytes: float = knob(unit="B", doc="Peak use of the system and other nodes (Mem_sys).")
    flops_per_s: float = knob(unit="FLOP/s", doc="Peak rate (cmp_v), by the data sheet.")
    utilization: float = knob(0.5, unit="1", doc="Share of the peak rate that is reached (mu).")
    memory_traffic: float = knob(1.3, unit="1", doc="Slowdown by memory traffic (nu).")

    def __post_init__(self) -> None:
        if not self.memory_bytes > self.system_bytes >= 0.0:
            raise ValueError(
                f"memory_bytes ({self.memory_bytes:g}) must be above system_bytes "
                f"({self.system_bytes:g}), or nothing is left to train in"
            )
        if not self.flops_per_s > 0.0:
            raise ValueError(f"flops_per_s must be positive, got {self.flops_per_s}")
        if not 0.0 < self.utilization <= 1.0:
            raise ValueError(f"utilization must be in (0, 1], got {self.utilization}")
        if not self.memory_traffic >= 1.0:
            raise ValueError(f"memory_traffic must be at least 1, got {self.memory_traffic}")

    @property
    def available_bytes(self) -> float:
        """Mem_limit - Mem_sys, of devices whose CPU and GPU share memory (Sec. 4.1)."""
        return self.memory_bytes - self.system_bytes

    @property
    def seconds_per_flop(self) -> float:
        """Eq. 8 for one FLOP: nu / (cmp_v mu)."""
        return self.memory_traffic / (self.flops_per_s * self.utilization)


def load_devices(path: Path | None = None) -> Mapping[str, DeviceProfile]:
    """The devices by name, from a file or from the one that ships.

    Raises:
        ValueError: if the file is not there or does not hold together; the message names it.
    """
    path = _shipped() if path is None else path
    devices = {}
    for name, values in read_yaml(path).items():
        try:
            devices[str(name)] = from_mapping(DeviceProfile, values)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{path}: {name}: {error}") from error
    return devices


def _shipped() -> Path:
    here = Path(__file__).resolve()
    places = [
        here.parents[4] / "config/devices.yaml",  # a checkout: src/flad_edge/flad_edge/swift
        here.parents[5] / "share/flad_edge/config/devices.yaml",  # installed
    ]
    for place in places:
        if place.is_file():
            return place
    raise ValueError(f"devices.yaml is in none of {', '.join(map(str, places))}")
