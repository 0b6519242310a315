# SPDX-License-Identifier: Apache-2.0
"""From CARLA's weather to the light of a frame: sun, sky, fog, wetness, exposure."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from flad_sim.sensors import frame as f
from flad_sim.types import Weather

_SUN_RADIUS_DEG = 0.9  # the real one is 0.27; drawn larger, as through haze
_NIGHT_FROM_DEG, _NIGHT_UNTIL_DEG = 4.0, -4.0  # street lamps fade in over these sun altitudes


def light_of(weather: Weather, time_s: float) -> NDArray[np.float32]:
    """The scalars of :class:`~flad_sim.sensors.frame.Surroundings` for ``weather``."""
    altitude, azimuth = (
        math.radians(weather.sun_altitude_angle),
        math.radians(weather.sun_azimuth_angle),
    )
    clouds = _share(weather.cloudiness)
    rain = _share(weather.precipitation)
    gloom = max(clouds, 0.9 * rain)
    day = _ramp(weather.sun_altitude_angle, -8.0, 12.0)
    low_sun = 1.0 - _ramp(weather.sun_altitude_angle, 2.0, 28.0)
    night = 1.0 - _ramp(weather.sun_altitude_angle, _NIGHT_UNTIL_DEG, _NIGHT_FROM_DEG)

    warm = np.array([1.0, 0.52 + 0.44 * (1 - low_sun), 0.22 + 0.66 * (1 - low_sun)])
    direct = 3.2 * _ramp(weather.sun_altitude_angle, -1.0, 22.0) ** 0.7
    sun = warm * direct * (1.0 - gloom) ** 1.4 * (1.0 - 0.25 * gloom)

    blue = np.array([0.16, 0.34, 0.78]) * (0.25 + 0.75 * day)
    haze = np.array([0.62, 0.76, 0.95]) * (1 - low_sun) + np.array([1.05, 0.62, 0.36]) * low_sun
    grey = np.array([0.52, 0.55, 0.60]) * (1.0 - 0.35 * rain)
    zenith = (blue * (1 - gloom) + 0.85 * grey * gloom) * day
    horizon = (haze * (1 - 0.85 * gloom) + grey * 0.85 * gloom) * day
    zenith = zenith + np.array([0.004, 0.006, 0.014])
    horizon = horizon + np.array([0.010, 0.013, 0.022]) * (1.0 + clouds)
    up = 0.45 * zenith + 0.55 * horizon
    up = up * (0.75 + 0.25 * gloom) + np.array([0.006, 0.007, 0.010]) * night
    down = up * np.array([0.42, 0.40, 0.36]) + 0.07 * sun * max(math.sin(altitude), 0.0)
    fog_color = 0.8 * horizon + 0.2 * zenith + 0.04 * sun

    density = _share(weather.fog_density)
    light = np.zeros(f.NUM_LIGHT, dtype=np.float32)
    light[f.SUN_DIR : f.SUN_DIR + 3] = (
        math.cos(altitude) * math.cos(azimuth),
        math.cos(altitude) * math.sin(azimuth),
        math.sin(altitude),
    )
    for entry, color in (
        (f.SUN_RGB, sun),
        (f.ZENITH_RGB, zenith),
        (f.HORIZON_RGB, horizon),
        (f.UP_RGB, up),
        (f.DOWN_RGB, down),
        (f.FOG_RGB, fog_color),
    ):
        light[entry : entry + 3] = color
    # Full density: contrast falls to a tenth in about 45 m. Rain hazes a little by itself.
    light[f.FOG_DENSITY] = 0.05 * density**1.5 + 0.003 * rain + 0.004 * _share(weather.dust_storm)
    light[f.FOG_START] = weather.fog_distance * (1.0 if density > 0.0 else 0.0)
    light[f.FOG_FALLOFF] = max(weather.fog_falloff, 0.0)
    light[f.WETNESS] = max(_share(weather.wetness), _share(weather.precipitation_deposits), rain)
    light[f.PUDDLES] = _share(weather.precipitation_deposits)
    light[f.CLOUDS] = clouds
    light[f.NIGHT] = night
    light[f.EXPOSURE] = 0.62 + 0.40 * gloom * day + 1.6 * (1.0 - day) + 0.25 * low_sun * day
    light[f.DISC_COS] = math.cos(math.radians(_SUN_RADIUS_DEG))
    light[f.TIME_S] = time_s
    return light


def tone_table() -> NDArray[np.uint8]:
    """Display values of 4096 levels of linear light in [0, 1]: sRGB's curve."""
    y = np.arange(4096) / 4095.0
    curve = np.where(y <= 0.0031308, 12.92 * y, 1.055 * y ** (1 / 2.4) - 0.055)
    return np.round(255.0 * curve).astype(np.uint8)


def _share(percent: float) -> float:
    return min(max(percent / 100.0, 0.0), 1.0)


def _ramp(x: float, low: float, high: float) -> float:
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)
