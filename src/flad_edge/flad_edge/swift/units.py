# SPDX-License-Identifier: Apache-2.0
"""The model as a line of units, the smallest parts that a pipeline can be cut into.

The names are those of ``./flad profile`` (docs/profile.md); ``flad_pipeline`` writes the same file
for the graph that it cuts.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA, SCHEMA_VERSION = "flad.units", 1

_UNIT_NUMBERS = (
    "flops_forward",
    "flops_backward",
    "parameter_bytes",
    "gradient_bytes",
    "optimizer_bytes",
    "buffer_bytes",
    "saved_bytes",
    "peak_bytes",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitCosts:
    """What one unit costs for one micro-batch; bytes and FLOPs."""

    name: str
    flops_forward: float
    flops_backward: float
    parameter_bytes: float
    gradient_bytes: float
    optimizer_bytes: float
    buffer_bytes: float = 0.0
    saved_bytes: float = 0.0
    """Kept from the forward to the backward pass, for each micro-batch in flight."""
    peak_bytes: float = 0.0
    """Were the unit alone on a device with one micro-batch; 0 where nobody measured it."""

    @property
    def static_bytes(self) -> float:
        """Held as long as the unit is: weights, gradients, optimizer, buffers."""
        return self.parameter_bytes + self.gradient_bytes + self.optimizer_bytes + self.buffer_bytes

    @property
    def state_bytes(self) -> float:
        """What moves when the unit changes its owner: weights, optimizer, buffers."""
        return self.parameter_bytes + self.optimizer_bytes + self.buffer_bytes

    @property
    def scratch_bytes(self) -> float:
        """Peak beyond what is held and saved."""
        return max(0.0, self.peak_bytes - self.static_bytes - self.saved_bytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class CutCosts:
    """What crosses between two units for one micro-batch, skips included; bytes."""

    forward_bytes: float
    backward_bytes: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelUnits:
    """A model as ``L`` units in topological order, with the ``L - 1`` cuts between them.

    Raises:
        ValueError: if there is no unit, the number of cuts does not fit, or a number is negative
            or not finite.
    """

    name: str
    batch_size: int
    """Samples in the micro-batch that the figures are of."""
    units: tuple[UnitCosts, ...]
    cuts: tuple[CutCosts, ...]
    min_first_units: int = 1
    """The first stage holds at least so many: raw inputs never leave their owner."""
    digest: str = ""
    """Of the unit graph that the indices are of; empty where nobody gave one."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_first_units <= max(1, len(self.units)):
            raise ValueError(
                f"min_first_units must be in 1..{len(self.units)}, got {self.min_first_units}"
            )
        if not self.units:
            raise ValueError(f"model {self.name!r} has no units; at least 1 is needed")
        if len(self.cuts) != len(self.units) - 1:
            raise ValueError(
                f"model {self.name!r} has {len(self.units)} units and {len(self.cuts)} cuts "
                f"between them; {len(self.units) - 1} are needed"
            )
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        parts: tuple[UnitCosts | CutCosts, ...] = (*self.units, *self.cuts)
        for part in parts:
            for field in dataclasses.fields(part):
                value = getattr(part, field.name)
                if field.name != "name" and not (math.isfinite(value) and value >= 0.0):
                    raise ValueError(
                        f"model {self.name!r}: {field.name} must be finite and not negative, "
                        f"got {value} in {part}"
                    )

    def __len__(self) -> int:
        return len(self.units)

    @property
    def capacity_bytes(self) -> float:
        """M_cap of Eq. 2: activations of one micro-batch, weights, gradients, optimizer."""
        return sum(unit.static_bytes + unit.saved_bytes for unit in self.units)

    def of_batch(self, batch_size: int) -> ModelUnits:
        """The same model with micro-batches of another size: work and activations grow with it.

        Eq. 7: computation is that of a sample, times the samples.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        k = batch_size / self.batch_size
        units = tuple(
            dataclasses.replace(
                unit,
                flops_forward=k * unit.flops_forward,
                flops_backward=k * unit.flops_backward,
                saved_bytes=k * unit.saved_bytes,
                peak_bytes=unit.static_bytes + k * (unit.saved_bytes + unit.scratch_bytes),
            )
            for unit in self.units
        )
        cuts = tuple(
            CutCosts(forward_bytes=k * cut.forward_bytes, backward_bytes=k * cut.backward_bytes)
            for cut in self.cuts
        )
        return dataclasses.replace(self, batch_size=batch_size, units=units, cuts=cuts)

    def as_json(self) -> dict[str, Any]:
        """What :func:`units_from_json` reads."""
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "model": self.name,
            "digest": self.digest,
            "batch_size": self.batch_size,
            "min_first_units": self.min_first_units,
            "units": [dataclasses.asdict(unit) for unit in self.units],
            "cuts": [dataclasses.asdict(cut) for cut in self.cuts],
        }


def units_from_json(values: Mapping[str, Any]) -> ModelUnits:
    """Read units; keys that are not needed here are left alone.

    A cut after the last unit, where the model's outputs stand, is ignored.

    Raises:
        ValueError: if something is missing, or is no number.
    """
    if values.get("schema", SCHEMA) != SCHEMA:
        raise ValueError(f"schema is {values['schema']!r}; {SCHEMA!r} is read here")
    if values.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        raise ValueError(f"schema_version is {values['schema_version']!r}, known: {SCHEMA_VERSION}")
    try:
        units = tuple(
            UnitCosts(
                name=str(unit["name"]), **{key: float(unit.get(key, 0.0)) for key in _UNIT_NUMBERS}
            )
            for unit in values["units"]
        )
        cuts = tuple(
            CutCosts(
                forward_bytes=float(cut["forward_bytes"]),
                backward_bytes=float(cut["backward_bytes"]),
            )
            for cut in values["cuts"][: len(units) - 1]
        )
        return ModelUnits(
            name=str(values.get("model", "model")),
            batch_size=int(values["batch_size"]),
            units=units,
            cuts=cuts,
            min_first_units=int(values.get("min_first_units", 1)),
            digest=str(values.get("digest", "")),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a list of units: {error!r}; docs/swift.md shows the file") from error


def read_units(path: Path, num_units: int) -> ModelUnits:
    """Read a file of units, or a profile (``./flad profile --json``) grouped into units.

    Args:
        path: JSON.
        num_units: into how many units a profile is grouped at most; a file of units is as it is.

    Raises:
        ValueError: if it is neither; the message starts with the path.
    """
    from flad_edge.swift.units_from_profile import units_from_profile

    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"must hold a JSON object, got {type(values).__name__}")
        if values.get("schema") == "flad.profile":
            return units_from_profile(values, num_units)
        return units_from_json(values)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
