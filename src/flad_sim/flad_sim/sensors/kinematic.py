# SPDX-License-Identifier: Apache-2.0
"""The sensors that need no picture: GNSS, IMU, obstacle and radar, as values.

Collisions are found by ``flad_sim.physics.contacts``; lane invasion is the client's own. Packing
the values for the wire is ``flad_sim.protocol.payloads``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flad_sim.sensors.box_cast import BoxScene
from flad_sim.sensors.gnss import GnssFix, ToGeo, measure_gnss
from flad_sim.sensors.imu import Imu, ImuReading
from flad_sim.sensors.obstacle import ObstacleHit, measure_obstacle
from flad_sim.sensors.radar import measure_radar
from flad_sim.types import SensorRequest, StaticBox, Vec3, VisibleWorld

GNSS, IMU = "sensor.other.gnss", "sensor.other.imu"
OBSTACLE, RADAR = "sensor.other.obstacle", "sensor.other.radar"
SERVED = frozenset({GNSS, IMU, OBSTACLE, RADAR})

Reading = GnssFix | ImuReading | ObstacleHit | NDArray[np.float32] | None


class KinematicSensors:
    """One episode's kinematic sensors."""

    def __init__(self, scenery: Sequence[StaticBox], to_geo: ToGeo, seed: int) -> None:
        self._scene = BoxScene(scenery)
        self._to_geo = to_geo
        self._seed = seed
        self._imus: dict[int, Imu] = {}

    def measure(
        self, world: VisibleWorld, request: SensorRequest, angular_velocity_degps: Vec3
    ) -> Reading:
        """What one sensor of :data:`SERVED` measures in this frame; None: nothing to report.

        ``angular_velocity_degps`` is of the body it is mounted on, in the world.

        Raises:
            ValueError: if the sensor is not served, or an attribute is out of range.
        """
        kind = request.blueprint
        if kind == GNSS:
            return measure_gnss(request, self._to_geo, self._seed, world.frame)
        if kind == IMU:
            imu = self._imus.setdefault(request.sensor_id, Imu())
            return imu.measure(
                request, angular_velocity_degps, world.elapsed_s, self._seed, world.frame
            )
        if kind not in SERVED:
            raise ValueError(f"{kind} is not a kinematic sensor; served are {sorted(SERVED)}")
        self._scene.place(world)
        if kind == OBSTACLE:
            return measure_obstacle(request, self._scene)
        return measure_radar(request, self._scene, world.delta_s, self._seed, world.frame)

    def forget(self, sensor_id: int) -> None:
        """Drop what is kept for a destroyed sensor."""
        self._imus.pop(sensor_id, None)
