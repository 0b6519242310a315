# SPDX-License-Identifier: Apache-2.0
"""LMDrive's weather ids, 0 to 20, and what they are in CARLA."""

from __future__ import annotations

from collections.abc import Mapping

import carla

NAMES = (
    "ClearNoon",
    "ClearSunset",
    "CloudyNoon",
    "CloudySunset",
    "WetNoon",
    "WetSunset",
    "MidRainyNoon",
    "MidRainSunset",
    "WetCloudyNoon",
    "WetCloudySunset",
    "HardRainNoon",
    "HardRainSunset",
    "SoftRainNoon",
    "SoftRainSunset",
    "ClearNight",
    "CloudyNight",
    "WetNight",
    "WetCloudyNight",
    "SoftRainNight",
    "MidRainyNight",
    "HardRainNight",
)

# What a measurement says of the weather, in LMDrive's order.
FIELDS = (
    "cloudiness",
    "precipitation",
    "precipitation_deposits",
    "wind_intensity",
    "sun_azimuth_angle",
    "sun_altitude_angle",
    "fog_density",
    "fog_distance",
    "wetness",
    "fog_falloff",
)


def weather_parameters(weather_id: int) -> dict[str, float]:
    """CARLA's parameters of an id.

    Raises:
        ValueError: if there is no such id.

    Example:
        >>> weather_parameters(14)["sun_altitude_angle"]
        -90.0
    """
    if not 0 <= weather_id < len(NAMES):
        raise ValueError(f"weather id must be in 0..{len(NAMES) - 1}, got {weather_id}")
    preset = getattr(carla.WeatherParameters, NAMES[weather_id])
    return {name: float(getattr(preset, name)) for name in FIELDS}


def weather_id_of(parameters: Mapping[str, float]) -> int:
    """The id whose preset has these parameters, -1 if none has."""
    for weather_id in range(len(NAMES)):
        preset = weather_parameters(weather_id)
        if all(abs(parameters.get(name, 0.0) - value) < 1e-3 for name, value in preset.items()):
            return weather_id
    return -1
