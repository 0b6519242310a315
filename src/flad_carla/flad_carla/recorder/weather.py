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

# What tells presets apart, and by how much a person would notice.
_SCALES = {
    "cloudiness": 40.0,
    "precipitation": 25.0,
    "precipitation_deposits": 30.0,
    "sun_altitude_angle": 25.0,
}


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
    """The id whose preset is most like these parameters.

    Loaders tell data apart by the id, so there is always one; what the weather really was stands
    beside it in every measurement.
    """

    def unlike(weather_id: int) -> float:
        preset = weather_parameters(weather_id)
        return sum(
            ((parameters.get(name, 0.0) - preset[name]) / scale) ** 2
            for name, scale in _SCALES.items()
        )

    return min(range(len(NAMES)), key=unlike)
