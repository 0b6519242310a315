# SPDX-License-Identifier: Apache-2.0
"""LiDAR by CARLA's attributes: where its rays point, which returns survive, how they are packed.

The rules are those of CARLA's RayCastLidar: each channel fires the same number of points over the
angle that the head turns in one step, the head goes on where it stopped, a return's intensity is
exp(-attenuation * distance), and returns are lost at random (general rate) or by weakness.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flad_sim.protocol.payloads import SEMANTIC_POINT, pack_lidar, pack_semantic_lidar
from flad_sim.sensors.attributes import number


@dataclass(frozen=True, kw_only=True, slots=True)
class LidarConfig:
    """CARLA's attributes of a ray-cast LiDAR, with its defaults."""

    channels: int = 32
    range_m: float = 10.0
    points_per_second: float = 56000.0
    rotation_hz: float = 10.0
    upper_fov_deg: float = 10.0
    lower_fov_deg: float = -30.0
    horizontal_fov_deg: float = 360.0
    attenuation_per_m: float = 0.004
    dropoff_rate: float = 0.45
    dropoff_intensity: float = 0.8
    dropoff_zero_intensity: float = 0.4
    noise_m: float = 0.0

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, str]) -> LidarConfig:
        """Read CARLA's texts; what is missing keeps CARLA's default.

        Raises:
            ValueError: if an attribute is no number or out of range; the message names it.
        """
        a = attributes
        return cls(
            channels=int(number(a, "channels", 32, low=1, high=512)),
            range_m=number(a, "range", 10.0, low=0.01, high=2000.0),
            points_per_second=number(a, "points_per_second", 56000.0, low=0.0, high=2e7),
            rotation_hz=number(a, "rotation_frequency", 10.0, low=0.0, high=1000.0),
            upper_fov_deg=number(a, "upper_fov", 10.0, low=-90.0, high=90.0),
            lower_fov_deg=number(a, "lower_fov", -30.0, low=-90.0, high=90.0),
            horizontal_fov_deg=number(a, "horizontal_fov", 360.0, low=0.1, high=360.0),
            attenuation_per_m=number(a, "atmosphere_attenuation_rate", 0.004, low=0.0),
            dropoff_rate=number(a, "dropoff_general_rate", 0.45, low=0.0, high=1.0),
            dropoff_intensity=number(a, "dropoff_intensity_limit", 0.8, low=0.0, high=1.0),
            dropoff_zero_intensity=number(a, "dropoff_zero_intensity", 0.4, low=0.0, high=1.0),
            noise_m=number(a, "noise_stddev", 0.0, low=0.0),
        )

    def elevations_rad(self) -> NDArray[np.float32]:
        """Elevation of each channel, the upper first, ``[C]``."""
        degrees = np.linspace(self.upper_fov_deg, self.lower_fov_deg, self.channels)
        return np.radians(degrees).astype(np.float32)

    def points_per_channel(self, delta_s: float) -> int:
        """Points that one channel fires in a step (CARLA rounds half away from zero)."""
        return math.floor(self.points_per_second * delta_s / self.channels + 0.5)


@dataclass(frozen=True, slots=True)
class Sweep:
    """What came back in one step: ``[C, P]`` arrays, a miss is at distance inf."""

    elevation_rad: NDArray[np.float32]  # [C]
    azimuth_rad: NDArray[np.float32]  # [P]
    distance_m: NDArray[np.float32]
    cos_incidence: NDArray[np.float32]
    tag: NDArray[np.uint8]
    actor: NDArray[np.int32]

    @classmethod
    def aimed(cls, config: LidarConfig, start_deg: float, delta_s: float) -> Sweep:
        """The rays of a step that begins at head angle ``start_deg``; returns not yet filled."""
        num_points = config.points_per_channel(delta_s)
        step_deg = turn_deg(config, delta_s) / max(num_points, 1)
        angles = np.fmod(start_deg + step_deg * np.arange(num_points), config.horizontal_fov_deg)
        azimuth = np.radians(angles - 0.5 * config.horizontal_fov_deg).astype(np.float32)
        shape = (config.channels, num_points)
        return cls(
            config.elevations_rad(),
            azimuth,
            np.full(shape, np.inf, dtype=np.float32),
            np.zeros(shape, dtype=np.float32),
            np.zeros(shape, dtype=np.uint8),
            np.zeros(shape, dtype=np.int32),
        )

    def directions(self) -> NDArray[np.float32]:
        """Unit vectors in the sensor's frame, ``[C, P, 3]``."""
        ce, se = np.cos(self.elevation_rad)[:, None], np.sin(self.elevation_rad)[:, None]
        ca, sa = np.cos(self.azimuth_rad)[None], np.sin(self.azimuth_rad)[None]
        return np.stack([ce * ca, ce * sa, se * np.ones_like(ca)], axis=-1)


def turn_deg(config: LidarConfig, delta_s: float) -> float:
    """Angle that the head turns in ``delta_s``."""
    return config.rotation_hz * config.horizontal_fov_deg * delta_s


def pack_returns(
    config: LidarConfig, sweep: Sweep, head_deg: float, rng: np.random.Generator
) -> bytes:
    """Payload of ``sensor.lidar.ray_cast``; ``head_deg`` is the head's angle after the step."""
    shape = sweep.distance_m.shape
    keep = np.isfinite(sweep.distance_m)
    if config.dropoff_rate > 0.0:
        keep &= rng.random(shape, dtype=np.float32) >= config.dropoff_rate
    intensity = np.exp(-config.attenuation_per_m * np.where(keep, sweep.distance_m, 0.0))
    if config.dropoff_intensity > 0.0:
        slope = config.dropoff_zero_intensity / config.dropoff_intensity
        chance = slope * intensity + 1.0 - config.dropoff_zero_intensity
        weak = intensity <= config.dropoff_intensity
        keep &= ~weak | (rng.random(shape, dtype=np.float32) < chance)
    distance = sweep.distance_m[keep]
    if config.noise_m > 0.0:
        distance = distance + config.noise_m * rng.standard_normal(len(distance), dtype=np.float32)
    points = np.empty((len(distance), 4), dtype=np.float32)
    points[:, :3] = sweep.directions()[keep] * distance[:, None]
    points[:, 3] = intensity[keep]
    return pack_lidar(math.radians(head_deg), keep.sum(axis=1).tolist(), points)


def pack_labels(sweep: Sweep, head_deg: float) -> bytes:
    """Payload of ``sensor.lidar.ray_cast_semantic``."""
    keep = np.isfinite(sweep.distance_m)
    position = sweep.directions()[keep] * sweep.distance_m[keep][:, None]
    points = np.empty(len(position), dtype=SEMANTIC_POINT)
    for axis, name in enumerate("xyz"):
        points[name] = position[:, axis]
    points["cos_angle"] = sweep.cos_incidence[keep]
    points["object_idx"] = sweep.actor[keep]
    points["object_tag"] = sweep.tag[keep]
    return pack_semantic_lidar(math.radians(head_deg), keep.sum(axis=1).tolist(), points)
