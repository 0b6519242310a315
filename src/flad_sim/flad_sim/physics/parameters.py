# SPDX-License-Identifier: Apache-2.0
"""CARLA's ``VehiclePhysicsControl``: made from a specification, checked, packed for the kernel.

What has an effect here, and what is only kept and returned, is written beside each field. The
kernel that reads the packed array is ``flad_sim.physics.dynamics``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flad_sim.catalogue import Drivetrain, VehicleSpec
from flad_sim.physics import dynamics as k
from flad_sim.physics.checks import finite, positive
from flad_sim.types import FloatArray, Vec3

# Cornering stiffness over load, 1/rad, of an axle whose wheels have CARLA's default
# lat_stiff_value; the front a little softer, so that the car understeers as road cars do.
LAT_STIFF_DEFAULT = 17.0
_FRONT_STIFFNESS = 16.0
_REAR_STIFFNESS = 20.0
MAX_CURVE_POINTS = 16
MAX_GEARS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheel:
    """One wheel, in the order front left, front right, back left, back right."""

    tire_friction: float  # peak force over load
    damping_rate: float = 0.25  # kept
    max_steer_angle: float = 0.0  # degrees
    radius: float = 33.0  # centimetres
    max_brake_torque: float = 0.0  # N m
    max_handbrake_torque: float = 0.0  # N m
    lat_stiff_max_load: float = 2.0  # kept
    lat_stiff_value: float = LAT_STIFF_DEFAULT  # scales the cornering stiffness
    long_stiff_value: float = 1000.0  # kept
    position: Vec3 = (0.0, 0.0, 0.0)  # centimetres, world, as CARLA gives it; ignored when applied


@dataclass(frozen=True, kw_only=True, slots=True)
class Gear:
    """One forward gear; the box shifts at these shares of the maximum speed at full throttle."""

    ratio: float
    down_ratio: float
    up_ratio: float


@dataclass(frozen=True, kw_only=True, slots=True)
class VehiclePhysics:
    """Fields, order and units of ``carla.VehiclePhysicsControl``."""

    torque_curve: tuple[tuple[float, float], ...]  # (rpm, N m)
    max_rpm: float
    moi: float  # kg m^2, engine
    damping_rate_full_throttle: float = 0.15  # kept
    damping_rate_zero_throttle_clutch_engaged: float = 2.0  # kept
    damping_rate_zero_throttle_clutch_disengaged: float = 0.35  # kept
    use_gear_autobox: bool = True
    gear_switch_time: float = 0.5  # seconds without drive
    clutch_strength: float = 10.0  # kept
    final_ratio: float = 4.0
    forward_gears: tuple[Gear, ...] = ()
    mass: float = 1000.0
    drag_coefficient: float = 0.3
    center_of_mass: Vec3 = (0.0, 0.0, 0.0)  # metres from the origin: x and z count, y is kept
    steering_curve: tuple[tuple[float, float], ...] = ((0.0, 1.0),)  # (km/h, factor)
    wheels: tuple[Wheel, ...] = ()
    use_sweep_wheel_collision: bool = False  # kept

    def __post_init__(self) -> None:
        """Refuse what the formulas cannot work with."""
        for name in ("max_rpm", "final_ratio", "mass"):
            positive(name, getattr(self, name))
        for name in ("moi", "gear_switch_time", "drag_coefficient"):
            _not_negative(name, getattr(self, name))
        for i, value in enumerate(self.center_of_mass):
            finite(f"center_of_mass.{'xyz'[i]}", value)
        _check_curve("torque_curve", self.torque_curve)
        _check_curve("steering_curve", self.steering_curve)
        if not 1 <= len(self.forward_gears) <= MAX_GEARS:
            raise ValueError(
                f"forward_gears must be 1 to {MAX_GEARS} gears, got {len(self.forward_gears)}"
            )
        for i, gear in enumerate(self.forward_gears):
            positive(f"forward_gears[{i}].ratio", gear.ratio)
            _not_negative(f"forward_gears[{i}].down_ratio", gear.down_ratio)
            _not_negative(f"forward_gears[{i}].up_ratio", gear.up_ratio)
        if len(self.wheels) < 2:
            raise ValueError(f"wheels must name at least 2 wheels, got {len(self.wheels)}")
        for i, wheel in enumerate(self.wheels):
            positive(f"wheels[{i}].radius", wheel.radius)
            for name in (
                "tire_friction",
                "max_steer_angle",
                "max_brake_torque",
                "max_handbrake_torque",
                "lat_stiff_value",
            ):
                _not_negative(f"wheels[{i}].{name}", getattr(wheel, name))
            if wheel.max_steer_angle >= 90.0:
                raise ValueError(
                    f"wheels[{i}].max_steer_angle must be below 90 degrees, "
                    f"got {wheel.max_steer_angle}"
                )


def default_physics(spec: VehicleSpec) -> VehiclePhysics:
    """The physics control that a vehicle of this blueprint is born with."""
    drive = spec.drivetrain
    radius_m = drive.wheel_radius_m
    count = 4 if spec.number_of_wheels > 2 else 2
    front = Wheel(
        tire_friction=drive.tire_friction,
        max_steer_angle=drive.max_steer_deg,
        radius=100.0 * radius_m,
        max_brake_torque=drive.brake_force_n * radius_m / count,
    )
    rear = Wheel(
        tire_friction=drive.tire_friction,
        radius=100.0 * radius_m,
        max_brake_torque=drive.brake_force_n * radius_m / count,
        max_handbrake_torque=drive.brake_force_n * radius_m / count,
    )
    half = count // 2
    return VehiclePhysics(
        torque_curve=torque_curve(drive),
        max_rpm=drive.redline_rpm,
        moi=drive.moi_kgm2,
        gear_switch_time=drive.gear_switch_time_s,
        final_ratio=drive.final_ratio,
        forward_gears=tuple(Gear(ratio=r, down_ratio=0.45, up_ratio=0.95) for r in drive.gears),
        mass=spec.mass_kg,
        drag_coefficient=drive.drag_coefficient,
        center_of_mass=((spec.front_load - 0.5) * spec.wheelbase_m, 0.0, spec.cg_height_m),
        steering_curve=drive.steering_curve,
        wheels=(front,) * half + (rear,) * half,
    )


def torque_curve(drive: Drivetrain) -> tuple[tuple[float, float], ...]:
    """Torque over engine speed: rising to the peak, then falling along constant power.

    An electric motor (one gear) has its peak from standstill; a combustion engine has 60 % of it
    at idle and all of it from 35 % of the redline, typical of the turbocharged ones here.
    """
    redline = drive.redline_rpm
    corner = 1000.0 * drive.power_kw / drive.torque_nm * 30.0 / math.pi  # rpm where power is met
    corner = min(corner, 0.9 * redline)
    rising = (
        ((0.0, drive.torque_nm),)
        if len(drive.gears) == 1
        else ((0.0, 0.6 * drive.torque_nm), (min(0.35 * redline, 0.9 * corner), drive.torque_nm))
    )
    falling = tuple(
        (rpm, drive.torque_nm * corner / rpm)
        for rpm in np.linspace(corner, redline, 6).round(1).tolist()
    )
    return (*rising, *falling)


def pack(physics: VehiclePhysics, spec: VehicleSpec) -> FloatArray:
    """The kernel's parameter array, ``[k.NUM_PARAMS]``."""
    half = len(physics.wheels) // 2
    front, rear = physics.wheels[:half], physics.wheels[half:]
    radius_m = 0.01 * physics.wheels[0].radius
    drive = spec.drivetrain
    # The centre of mass cannot leave the wheelbase, or an axle would be lifted at rest.
    reach = 0.45 * spec.wheelbase_m
    cg_x = max(-reach, min(reach, physics.center_of_mass[0]))
    front_arm = 0.5 * spec.wheelbase_m - cg_x
    rear_arm = 0.5 * spec.wheelbase_m + cg_x
    p = np.zeros(k.NUM_PARAMS)
    p[k.MASS] = physics.mass
    p[k.YAW_INERTIA] = yaw_inertia(physics.mass, front_arm, rear_arm)
    p[k.FRONT_ARM] = front_arm
    p[k.REAR_ARM] = rear_arm
    p[k.CG_X] = cg_x
    p[k.CG_Z] = max(0.0, physics.center_of_mass[2])
    p[k.RADIUS] = radius_m
    p[k.MAX_STEER] = math.radians(max(w.max_steer_angle for w in front))
    p[k.MU_FRONT] = _mean(w.tire_friction for w in front)
    p[k.MU_REAR] = _mean(w.tire_friction for w in rear)
    p[k.STIFF_FRONT] = _FRONT_STIFFNESS * _mean(w.lat_stiff_value for w in front)
    p[k.STIFF_REAR] = _REAR_STIFFNESS * _mean(w.lat_stiff_value for w in rear)
    p[k.STIFF_FRONT : k.STIFF_REAR + 1] /= LAT_STIFF_DEFAULT
    p[k.BRAKE] = sum(w.max_brake_torque for w in physics.wheels) / radius_m
    p[k.HAND_BRAKE] = sum(w.max_handbrake_torque for w in physics.wheels) / radius_m
    p[k.AIR] = 0.5 * k.AIR_DENSITY * physics.drag_coefficient * drive.frontal_area_m2
    p[k.ROLLING] = drive.rolling_resistance
    p[k.FRONT_DRIVE] = drive.front_drive
    p[k.TOP_SPEED] = drive.top_speed_mps
    p[k.MAX_RPM] = physics.max_rpm
    p[k.MOI] = physics.moi
    p[k.SWITCH_TIME] = physics.gear_switch_time
    p[k.FINAL_RATIO] = physics.final_ratio
    p[k.NUM_GEARS] = len(physics.forward_gears)
    p[k.AUTOBOX] = float(physics.use_gear_autobox)
    for i, gear in enumerate(physics.forward_gears):
        p[k.GEARS + 3 * i : k.GEARS + 3 * i + 3] = (gear.ratio, gear.down_ratio, gear.up_ratio)
    _pack_curve(p, k.TORQUE, physics.torque_curve)
    _pack_curve(p, k.STEERING, physics.steering_curve)
    return p


def yaw_inertia(mass_kg: float, front_arm_m: float, rear_arm_m: float) -> float:
    """Yaw inertia in kg m^2: ``m a b``, good to some 10 % for road vehicles."""
    return mass_kg * front_arm_m * rear_arm_m


def _pack_curve(p: FloatArray, at: int, curve: tuple[tuple[float, float], ...]) -> None:
    p[at] = len(curve)
    for i, (x, y) in enumerate(curve):
        p[at + 1 + 2 * i] = x
        p[at + 2 + 2 * i] = y


def _check_curve(name: str, curve: tuple[tuple[float, float], ...]) -> None:
    if not 1 <= len(curve) <= MAX_CURVE_POINTS:
        raise ValueError(f"{name} must have 1 to {MAX_CURVE_POINTS} points, got {len(curve)}")
    last = -math.inf
    for i, (x, y) in enumerate(curve):
        if finite(f"{name}[{i}].x", x) < last:
            raise ValueError(f"{name}[{i}].x must not be below {last}, got {x}")
        _not_negative(f"{name}[{i}].y", y)
        last = x


def _not_negative(name: str, value: float) -> None:
    if finite(name, value) < 0.0:
        raise ValueError(f"{name} must not be negative, got {value}")


def _mean(values: object) -> float:
    found = list(values)  # type: ignore[call-overload]
    return float(sum(found) / len(found))
