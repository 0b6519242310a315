# SPDX-License-Identifier: Apache-2.0
"""How much a vehicle is asked to do in a round, and whether it gets done in time.

Times are emulated: no clock is read, so a run repeats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flad_common.config import knob


@dataclass(frozen=True, kw_only=True, slots=True)
class VirtualVehicle:
    """A vehicle that trains: its data, its computer, and how long it stays in the edge's range."""

    name: str
    group: str
    """Where it drives, a town; models may be kept for each."""
    num_samples: int
    samples_per_s: float
    """That it trains on, forward and backward."""
    dwell_s: float
    """How long it is expected to stay."""

    def __post_init__(self) -> None:
        if self.num_samples < 0:
            raise ValueError(f"{self.name}: num_samples must not be negative")
        if not (self.samples_per_s > 0.0 and self.dwell_s >= 0.0):
            raise ValueError(
                f"{self.name}: samples_per_s must be positive and dwell_s not negative, got "
                f"{self.samples_per_s} and {self.dwell_s}"
            )


@dataclass(frozen=True, kw_only=True)
class WorkloadConfig:
    """How local steps follow from compute and dwell time."""

    batch_size: int = knob(16, unit="samples", doc="Of one local step.")
    local_epochs: float = knob(
        5.0, unit="1", doc="At most so many passes over its own data a round (the paper: 5)."
    )
    max_steps: int = knob(
        0, unit="steps", doc="At most so many a round, however fast; 0: no limit."
    )
    least_steps: int = knob(
        2, unit="steps", doc="A vehicle that will not manage so many is not asked (Eq. 1's e_req)."
    )
    deadline_s: float = knob(60.0, unit="s", doc="After it a round goes on without who is missing.")
    upload_s: float = knob(1.0, unit="s", doc="Of the round's time, kept for sending the update.")
    margin: float = knob(
        1.25, unit="1", doc="A vehicle shall manage so many times its work (Eq. 1's alpha)."
    )
    compute_spread: float = knob(
        0.2, unit="1", doc="Standard deviation of the logarithm of how fast it turns out to be."
    )
    dwell_spread: float = knob(
        0.2, unit="1", doc="Standard deviation of the logarithm of how long it turns out to stay."
    )

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.least_steps < 1 or self.max_steps < 0:
            raise ValueError(
                "batch_size and least_steps must be at least 1 and max_steps not negative, got "
                f"{self.batch_size}, {self.least_steps} and {self.max_steps}"
            )
        if 0 < self.max_steps < self.least_steps:
            raise ValueError(
                f"max_steps ({self.max_steps}) must be at least least_steps ({self.least_steps})"
            )
        if not (self.local_epochs > 0.0 and self.margin >= 1.0):
            raise ValueError(
                f"local_epochs must be positive and margin at least 1, got {self.local_epochs} "
                f"and {self.margin}"
            )
        if not self.deadline_s > self.upload_s >= 0.0:
            raise ValueError(
                f"deadline_s ({self.deadline_s}) must be longer than upload_s ({self.upload_s})"
            )
        if self.compute_spread < 0.0 or self.dwell_spread < 0.0:
            raise ValueError("compute_spread and dwell_spread must not be negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a vehicle's round went in time."""

    seconds: float
    """From the round's start until its update was there, or it was known to be missing."""
    missing: str | None
    """Why it was not there: ``late`` or ``left``; None if it was."""


def planned_steps(vehicle: VirtualVehicle, config: WorkloadConfig) -> int:
    """Local steps of one round, 0 for a vehicle that is not asked.

    What fits into the deadline and into the vehicle's stay, at most ``local_epochs`` over its data.
    Below ``least_steps`` it is not available: Eq. 1, read as *dwell time times compute of at least
    alpha times the need*.

    Example:
        >>> slow = VirtualVehicle(
        ...     name="v", group="", num_samples=320, samples_per_s=4.0, dwell_s=21.0)
        >>> planned_steps(slow, WorkloadConfig(batch_size=16, margin=1.0, upload_s=1.0))
        5
    """
    if vehicle.num_samples == 0:
        return 0
    time_s = min(config.deadline_s, vehicle.dwell_s) - config.upload_s
    fitting = time_s * vehicle.samples_per_s / (config.margin * config.batch_size)
    wanted = config.local_epochs * math.ceil(vehicle.num_samples / config.batch_size)
    steps = math.floor(min(fitting, wanted) + 1e-9)
    if config.max_steps:
        steps = min(steps, config.max_steps)
    return steps if steps >= config.least_steps else 0


def outcome(
    vehicle: VirtualVehicle, num_steps: int, config: WorkloadConfig, rng: np.random.Generator
) -> Outcome:
    """Draw how fast the vehicle turns out to be and how long it stays, around what was said."""
    speed, stay = np.exp(
        rng.standard_normal(2) * (config.compute_spread, config.dwell_spread)
    ).tolist()
    work_s = num_steps * config.batch_size / (vehicle.samples_per_s * speed) + config.upload_s
    dwell_s = vehicle.dwell_s * stay
    if dwell_s < min(work_s, config.deadline_s):
        return Outcome(seconds=dwell_s, missing="left")
    if work_s > config.deadline_s:
        return Outcome(seconds=config.deadline_s, missing="late")
    return Outcome(seconds=work_s, missing=None)
