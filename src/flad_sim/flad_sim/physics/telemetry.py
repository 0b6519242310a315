# SPDX-License-Identifier: Apache-2.0
"""What CARLA's ``get_telemetry_data`` tells, read from a vehicle's state."""

from __future__ import annotations

from dataclasses import dataclass

from flad_sim.physics import dynamics as k
from flad_sim.physics.parameters import Wheel
from flad_sim.types import FloatArray, VehicleControl


@dataclass(frozen=True, slots=True)
class WheelTelemetry:
    """CARLA's WheelTelemetryData, in the order of the wire; N, N m, rad, rad/s."""

    tire_friction: float
    lat_slip: float
    long_slip: float
    omega: float
    tire_load: float
    normalized_tire_load: float
    torque: float
    long_force: float
    lat_force: float
    normalized_long_force: float
    normalized_lat_force: float


@dataclass(frozen=True, slots=True)
class Telemetry:
    """CARLA's VehicleTelemetryData, in the order of the wire; speed in m/s."""

    speed: float
    steer: float
    throttle: float
    brake: float
    engine_rpm: float
    gear: int
    drag: float
    wheels: tuple[WheelTelemetry, ...]


def read_telemetry(
    state: FloatArray,
    params: FloatArray,
    wheels: tuple[Wheel, ...],
    control: VehicleControl,
    speed_mps: float,
) -> Telemetry:
    """Telemetry now; forces are of the last sub-step, ``speed_mps`` is along the vehicle."""
    return Telemetry(
        speed=speed_mps,
        steer=control.steer,
        throttle=control.throttle,
        brake=control.brake,
        engine_rpm=float(state[k.RPM]),
        gear=int(state[k.GEAR]),
        drag=float(params[k.AIR] * speed_mps * speed_mps),
        wheels=tuple(
            _of_wheel(state, float(params[k.MASS]), wheels, i, speed_mps)
            for i in range(len(wheels))
        ),
    )


def _of_wheel(
    state: FloatArray, mass_kg: float, wheels: tuple[Wheel, ...], index: int, speed_mps: float
) -> WheelTelemetry:
    wheel, per_axle = wheels[index], len(wheels) // 2
    front = index < per_axle
    load = float(state[k.LOAD_FRONT if front else k.LOAD_REAR]) / per_axle
    long_n = float(state[k.LONG_FRONT if front else k.LONG_REAR]) / per_axle
    lat_n = float(state[k.LAT_FRONT if front else k.LAT_REAR]) / per_axle
    rest = mass_kg * k.GRAVITY / len(wheels)
    radius_m = 0.01 * wheel.radius
    return WheelTelemetry(
        tire_friction=wheel.tire_friction,
        lat_slip=float(state[k.SLIP_FRONT if front else k.SLIP_REAR]),
        long_slip=0.0,  # wheels do not spin or lock here
        omega=speed_mps / radius_m,
        tire_load=load,
        normalized_tire_load=load / rest,
        torque=long_n * radius_m,
        long_force=long_n,
        lat_force=lat_n,
        normalized_long_force=long_n / rest,
        normalized_lat_force=lat_n / rest,
    )
