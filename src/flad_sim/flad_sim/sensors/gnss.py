# SPDX-License-Identifier: Apache-2.0
"""GNSS: where the sensor is on Earth, by the map's reference, with CARLA's noise attributes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flad_sim.sensors.noise import biases, deviations, generator
from flad_sim.types import SensorRequest, Vec3

ToGeo = Callable[[float, float, float], Vec3]  # RoadNetwork.geo.to_geo


@dataclass(frozen=True, slots=True)
class GnssFix:
    """Degrees and metres."""

    latitude_deg: float
    longitude_deg: float
    altitude_m: float


def measure_gnss(request: SensorRequest, to_geo: ToGeo, seed: int, frame: int) -> GnssFix:
    """The fix of one frame: value + bias + Gaussian noise, each axis by its own attributes."""
    exact = to_geo(*request.transform.location)
    bias = biases(request, "noise_lat_bias", "noise_lon_bias", "noise_alt_bias")
    spread = deviations(request, "noise_lat_stddev", "noise_lon_stddev", "noise_alt_stddev")
    noise = (0.0, 0.0, 0.0)
    if any(spread):
        noise = tuple(generator(request, seed, frame).normal(0.0, spread).tolist())
    lat, lon, alt = (e + b + n for e, b, n in zip(exact, bias, noise, strict=True))
    return GnssFix(lat, lon, alt)
