# SPDX-License-Identifier: Apache-2.0
"""IMU: what the sensor feels in its own frame, from the path of its own position, as in CARLA.

The accelerometer is the second difference of the last three positions plus 9.81 m/s^2 upwards, so
a lever arm to the vehicle's centre is felt. Turning is the parent's yaw rate. The compass is 0
towards north, which is -y on CARLA's maps, and grows clockwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flad_sim.sensors.noise import biases, deviations, generator
from flad_sim.types import FloatArray, SensorRequest, Vec3

_GRAVITY = 9.81


@dataclass(frozen=True, slots=True)
class ImuReading:
    """m/s^2, rad/s, rad, in the sensor's frame (x forward, y right, z up)."""

    acceleration: Vec3
    gyroscope: Vec3
    compass_rad: float


class Imu:
    """One IMU's memory of where it was."""

    def __init__(self) -> None:
        self._time_s = 0.0
        self._place: FloatArray | None = None
        self._velocity: FloatArray | None = None

    def measure(
        self,
        request: SensorRequest,
        angular_velocity_degps: Vec3,
        elapsed_s: float,
        seed: int,
        frame: int,
    ) -> ImuReading:
        """The reading of one frame; the first two feel gravity only.

        Args:
            request: the sensor, where it is now.
            angular_velocity_degps: of the body it is mounted on, in the world.
            elapsed_s: simulated time, which gives the step since the last reading.
            seed: of the world, for the noise.
            frame: number of the frame, likewise.
        """
        to_sensor = request.transform.rotation_matrix().T
        felt = self._acceleration(np.array(request.transform.location), elapsed_s)
        accel = to_sensor @ (felt + np.array([0.0, 0.0, _GRAVITY]))
        gyro = to_sensor @ np.radians(angular_velocity_degps)
        gyro += biases(request, "noise_gyro_bias_x", "noise_gyro_bias_y", "noise_gyro_bias_z")
        spread = deviations(
            request,
            *(f"noise_{which}_stddev_{axis}" for which in ("accel", "gyro") for axis in "xyz"),
        )
        if any(spread):
            noise = generator(request, seed, frame).normal(0.0, spread)
            accel += noise[:3]
            gyro += noise[3:]
        return ImuReading(_vec3(accel), _vec3(gyro), compass_rad(request.transform.forward()))

    def _acceleration(self, place: FloatArray, elapsed_s: float) -> FloatArray:
        step_s = elapsed_s - self._time_s
        last_place, last_velocity = self._place, self._velocity
        self._time_s, self._place = elapsed_s, place
        if last_place is None or step_s <= 0.0:
            self._velocity = None
            return np.zeros(3)
        self._velocity = (place - last_place) / step_s
        if last_velocity is None:
            return np.zeros(3)
        return (self._velocity - last_velocity) / step_s


def compass_rad(forward: Vec3) -> float:
    """Heading from north (-y), clockwise, in [0, 2 pi)."""
    return math.atan2(forward[0], -forward[1]) % math.tau


def _vec3(values: FloatArray) -> Vec3:
    x, y, z = values.tolist()
    return (x, y, z)
