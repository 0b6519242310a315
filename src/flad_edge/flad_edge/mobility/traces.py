# SPDX-License-Identifier: Apache-2.0
"""Floating-car traces as ``./flad traces`` writes them, and who was in an edge's coverage when.

Letters: ``R`` rows (a vehicle in a second), ``V`` vehicles, ``E`` links, ``T`` seconds.
"""

from __future__ import annotations

import functools
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flad_common.config import knob
from flad_edge.swift.cluster import Floats
from flad_edge.swift.problem import Bools, Ints

SCHEMA, SCHEMA_VERSION = "flad.traces", 1


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """The area in which an edge serves vehicles, in the frame of the traces (CARLA's)."""

    x_m: float = knob(0.0, unit="m", doc="Of its centre.")
    y_m: float = knob(0.0, unit="m", doc="Of its centre.")
    radius_m: float = knob(180.0, unit="m", doc="Of the radio's reach.")

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) for v in (self.x_m, self.y_m)):
            raise ValueError(f"the centre must be finite, got ({self.x_m}, {self.y_m})")
        if not (math.isfinite(self.radius_m) and self.radius_m > 0.0):
            raise ValueError(f"radius_m must be positive, got {self.radius_m}")

    def holds(self, x_m: Floats, y_m: Floats) -> Bools:
        """Whether positions are inside."""
        return np.asarray(np.hypot(x_m - self.x_m, y_m - self.y_m) <= self.radius_m)


@dataclass(frozen=True, kw_only=True, slots=True)
class Visit:
    """One stay of a vehicle in the coverage: [arv, dep] of Sec. 4.1.1."""

    vehicle: int
    arrival_s: int
    departure_s: int
    """The first second in which it was no longer there."""
    first_row: int
    """Of the vehicle's rows, the one of its arrival."""

    @property
    def dwell_s(self) -> float:
        """Of Eq. 1: dwl."""
        return float(self.departure_s - self.arrival_s)


class Traces:
    """The arrays of one file, rows sorted by vehicle and second."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
        order = np.lexsort((arrays["second"], arrays["vehicle"]))
        self.second: Ints = arrays["second"][order].astype(np.int64)
        self.vehicle: Ints = arrays["vehicle"][order].astype(np.int64)
        self.x_m: Floats = arrays["x_m"][order].astype(np.float64)
        self.y_m: Floats = arrays["y_m"][order].astype(np.float64)
        self.speed_mps: Floats = arrays["speed_mps"][order].astype(np.float64)
        self.link: Ints = arrays["link"][order].astype(np.int64)
        self.link_length_m: Floats = arrays["link_length_m"]
        self.link_speed_mps: Floats = arrays["link_speed_mps"]
        self.link_ends_m: Floats = arrays["link_ends_m"]
        self.link_names = tuple(str(n) for n in arrays["link_names"])
        self.turns = {(int(a), int(b)): i for i, (a, b) in enumerate(arrays["turns"])}
        self.green: NDArray[np.int8] = arrays["green"]
        self._route_links, self._route_begins = arrays["route_links"], arrays["route_begins"]
        self.about = dict(about)

    @property
    def num_vehicles(self) -> int:
        """``V``."""
        return len(self._route_begins) - 1

    @functools.cached_property
    def rows_of(self) -> Ints:
        """``[V + 1]``: where each vehicle's rows begin."""
        return np.searchsorted(self.vehicle, np.arange(self.num_vehicles + 1))

    @property
    def end_s(self) -> int:
        """The last second."""
        return int(self.second.max())

    def route(self, vehicle: int) -> tuple[int, ...]:
        """Links that the vehicle meant to drive."""
        begin, end = self._route_begins[vehicle : vehicle + 2]
        return tuple(int(i) for i in self._route_links[begin:end])

    def centre(self, radius_m: float) -> Coverage:
        """A coverage around the middle of all roads."""
        ends = self.link_ends_m.reshape(-1, 2)
        x_m, y_m = (ends.min(axis=0) + ends.max(axis=0)) / 2.0
        return Coverage(x_m=float(x_m), y_m=float(y_m), radius_m=radius_m)

    def visits(self, coverage: Coverage) -> list[Visit]:
        """Every stay that begins and ends within the traces, by arrival."""
        inside = coverage.holds(self.x_m, self.y_m)
        found = []
        for vehicle in range(self.num_vehicles):
            begin, end = self.rows_of[vehicle], self.rows_of[vehicle + 1]
            steps = np.diff(np.concatenate([[0], inside[begin:end].astype(np.int8), [0]]))
            for a, b in zip(np.nonzero(steps == 1)[0], np.nonzero(steps == -1)[0], strict=True):
                last = int(self.second[begin + b - 1])
                if last < self.end_s:  # else nobody knows when it left
                    found.append(
                        Visit(
                            vehicle=vehicle,
                            arrival_s=int(self.second[begin + a]),
                            departure_s=last + 1,
                            first_row=int(begin + a),
                        )
                    )
        return sorted(found, key=lambda v: (v.arrival_s, v.vehicle))


def read_traces(path: Path) -> Traces:
    """Read a file of ``./flad traces``.

    Raises:
        ValueError: if it is none; the message starts with the path.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            if about.get("schema") != SCHEMA or about.get("schema_version") != SCHEMA_VERSION:
                raise ValueError(f"it is not {SCHEMA} {SCHEMA_VERSION} but {about}")
            return Traces({name: file[name] for name in file.files if name != "about"}, about)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no file of traces (./flad traces): {error}") from error
