# SPDX-License-Identifier: Apache-2.0
"""A cluster: its vehicles, the links between them, and the file in which a user writes one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flad_common.config import from_yaml, knob, section
from flad_edge.swift.devices import DeviceProfile, load_devices
from flad_edge.swift.units import ModelUnits, read_units

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Vehicle:
    """One member as the planners see it.

    Raises:
        ValueError: if it has no memory, no speed, or a number that is not finite.
    """

    name: str
    device: str
    available_bytes: float
    seconds_per_flop: float
    """Eq. 8: nu / (cmp_v mu)."""
    stability: float
    """Eq. 5; higher stays longer. Phase 1 goes by it."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.available_bytes) and self.available_bytes > 0.0):
            raise ValueError(
                f"{self.name}: memory for training must be positive and finite, "
                f"got {self.available_bytes} B; leave the vehicle out or free memory on it"
            )
        if not (math.isfinite(self.seconds_per_flop) and self.seconds_per_flop > 0.0):
            raise ValueError(
                f"{self.name}: seconds_per_flop must be positive, got {self.seconds_per_flop}"
            )
        if not math.isfinite(self.stability):
            raise ValueError(f"{self.name}: stability must be finite, got {self.stability}")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cluster:
    """Vehicles and links; ``n`` vehicles.

    Raises:
        ValueError: on no vehicles, a name given twice, or a link that is not usable.
    """

    vehicles: tuple[Vehicle, ...]
    seconds_per_byte: Floats
    """``[n, n]``, from row to column; overhead included. The diagonal is not read."""
    delay_s: Floats
    """``[n, n]``, one way."""
    shared_channel: bool = True
    """Whether the vehicles take turns on one radio channel."""

    def __post_init__(self) -> None:
        n, names = len(self.vehicles), [vehicle.name for vehicle in self.vehicles]
        if n == 0:
            raise ValueError("a cluster needs at least one vehicle")
        if len(set(names)) != n:
            raise ValueError(f"vehicles need names of their own, got {names}")
        off = ~np.eye(n, dtype=np.bool_)
        for what, values in (
            ("seconds_per_byte", self.seconds_per_byte),
            ("delay_s", self.delay_s),
        ):
            if values.shape != (n, n):
                raise ValueError(f"{what} must have shape [{n}, {n}], got {list(values.shape)}")
            bad = np.argwhere(off & ~(np.isfinite(values) & (values >= 0.0)))
            if len(bad):
                a, b = (names[i] for i in bad[0])
                raise ValueError(
                    f"{what} from {a} to {b} must be finite and not negative, "
                    f"got {values[tuple(bad[0])]}"
                )

    def __len__(self) -> int:
        return len(self.vehicles)

    def without(self, *names: str) -> Cluster:
        """The cluster after some vehicles left."""
        keep = [i for i, vehicle in enumerate(self.vehicles) if vehicle.name not in names]
        return dataclasses.replace(
            self,
            vehicles=tuple(self.vehicles[i] for i in keep),
            seconds_per_byte=self.seconds_per_byte[np.ix_(keep, keep)],
            delay_s=self.delay_s[np.ix_(keep, keep)],
        )


@dataclass(frozen=True, kw_only=True)
class VehicleEntry:
    """One vehicle in a cluster file; what is left out comes from its device."""

    name: str = knob(unit="1", doc="Of its own, such as vehicle_3.")
    device: str = knob(unit="1", doc="A device of config/devices.yaml.")
    available_bytes: float | None = knob(None, unit="B", doc="Memory that training may take.")
    stability: float = knob(1.0, unit="1", doc="Eq. 5; higher stays longer.")


@dataclass(frozen=True, kw_only=True)
class LinkEntry:
    """A link that differs from the others, in both directions."""

    between: tuple[str, str] = knob(unit="1", doc="Names of the two vehicles.")
    bits_per_s: float = knob(unit="bit/s", doc="Rate between them (com_v).")
    delay_s: float = knob(0.0, unit="s", doc="One way.")

    def __post_init__(self) -> None:
        _check_link(f"between {self.between[0]} and {self.between[1]}", self)


@dataclass(frozen=True, kw_only=True)
class RadioConfig:
    """The channel between the vehicles of a cluster."""

    shared: bool = knob(True, unit="1", doc="Whether the vehicles take turns on one channel.")
    bits_per_s: float = knob(100e6, unit="bit/s", doc="Rate of every link not listed.")
    delay_s: float = knob(0.003, unit="s", doc="One way, of every link not listed.")
    overhead: float = knob(1.1, unit="1", doc="Bytes on the air per byte of payload (nu of Eq. 9).")

    def __post_init__(self) -> None:
        _check_link("of the radio", self)
        if not self.overhead >= 1.0:
            raise ValueError(f"overhead must be at least 1, got {self.overhead}")


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """Which model the cluster trains."""

    file: str = knob(unit="1", doc="JSON of units or of ./flad profile, beside the cluster file.")
    max_units: int = knob(40, unit="1", doc="A profile is grouped into so many units at most.")
    batch_size: int = knob(4, unit="1", doc="Samples in a micro-batch.")
    micro_batches: int = knob(8, unit="1", doc="Micro-batches of a step.")

    def __post_init__(self) -> None:
        for name in ("max_units", "batch_size", "micro_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class ClusterFile:
    """A cluster as a user writes it, for ``./flad plan --cluster``."""

    model: ModelEntry = knob(unit="", doc="What is trained.")
    vehicles: tuple[VehicleEntry, ...] = knob(unit="", doc="Who trains.")
    radio: RadioConfig = section(RadioConfig, doc="The channel.")
    links: tuple[LinkEntry, ...] = knob((), unit="", doc="Links that differ from the radio's.")
    memory_reserve: float = knob(0.0, unit="1", doc="Share of a vehicle's memory kept free.")

    def __post_init__(self) -> None:
        names = {entry.name for entry in self.vehicles}
        for link in self.links:
            if unknown := [name for name in link.between if name not in names]:
                raise ValueError(f"a link names {unknown}; the vehicles are {sorted(names)}")
        if not 0.0 <= self.memory_reserve < 1.0:
            raise ValueError(f"memory_reserve must be in [0, 1), got {self.memory_reserve}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is to be planned: a cluster, a model, and how a step runs."""

    cluster: Cluster
    model: ModelUnits
    """In micro-batches of the size that is run."""
    micro_batches: int


def read_cluster(path: Path, devices: Mapping[str, DeviceProfile] | None = None) -> Task:
    """Read a cluster file and the model that it names.

    Raises:
        ValueError: on an unknown key or device, a bad number, or a model that cannot be read.
        TypeError: on a value of the wrong type.
    """
    file = from_yaml(ClusterFile, path)
    known = load_devices() if devices is None else devices
    model = read_units(path.parent / file.model.file, file.model.max_units)
    try:
        cluster = cluster_of(file, known)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Task(
        cluster=cluster,
        model=model.of_batch(file.model.batch_size),
        micro_batches=file.model.micro_batches,
    )


def cluster_of(file: ClusterFile, devices: Mapping[str, DeviceProfile]) -> Cluster:
    """The cluster that a file describes, with the figures of its devices.

    Raises:
        ValueError: if a device is unknown, or a figure is not usable.
    """
    vehicles = []
    for entry in file.vehicles:
        if entry.device not in devices:
            raise ValueError(
                f"{entry.name} carries {entry.device!r}, which config/devices.yaml does not know; "
                f"known are {', '.join(sorted(devices))}"
            )
        device = devices[entry.device]
        available = device.available_bytes
        if entry.available_bytes is not None:
            available = entry.available_bytes
        vehicles.append(
            Vehicle(
                name=entry.name,
                device=entry.device,
                available_bytes=available * (1.0 - file.memory_reserve),
                seconds_per_flop=device.seconds_per_flop,
                stability=entry.stability,
            )
        )
    n, index = len(vehicles), {vehicle.name: i for i, vehicle in enumerate(vehicles)}
    rate = np.full((n, n), file.radio.bits_per_s)
    delay_s = np.full((n, n), file.radio.delay_s)
    for link in file.links:
        a, b = (index[name] for name in link.between)
        rate[a, b] = rate[b, a] = link.bits_per_s
        delay_s[a, b] = delay_s[b, a] = link.delay_s
    return Cluster(
        vehicles=tuple(vehicles),
        seconds_per_byte=8.0 * file.radio.overhead / rate,
        delay_s=delay_s,
        shared_channel=file.radio.shared,
    )


def _check_link(where: str, link: LinkEntry | RadioConfig) -> None:
    if not (math.isfinite(link.bits_per_s) and link.bits_per_s > 0.0):
        raise ValueError(f"bits_per_s {where} must be positive, got {link.bits_per_s}")
    if not (math.isfinite(link.delay_s) and link.delay_s >= 0.0):
        raise ValueError(f"delay_s {where} must not be negative, got {link.delay_s}")
