# SPDX-License-Identifier: Apache-2.0
"""Noise that repeats: one generator per world seed, sensor and frame."""

from __future__ import annotations

import numpy as np

from flad_sim.sensors.attributes import number
from flad_sim.types import SensorRequest


def generator(request: SensorRequest, seed: int, frame: int) -> np.random.Generator:
    """The generator of one measurement; ``noise_seed`` is CARLA's attribute."""
    own = int(number(request.attributes, "noise_seed", 0.0, low=0.0, high=2.0**31))
    return np.random.default_rng([abs(seed), request.sensor_id, own, frame])


def deviations(request: SensorRequest, *names: str) -> tuple[float, ...]:
    """Standard deviations of those names; a negative one is refused."""
    return tuple(number(request.attributes, name, 0.0, low=0.0, high=1e9) for name in names)


def biases(request: SensorRequest, *names: str) -> tuple[float, ...]:
    """Biases of those names."""
    return tuple(number(request.attributes, name, 0.0, low=-1e9, high=1e9) for name in names)
