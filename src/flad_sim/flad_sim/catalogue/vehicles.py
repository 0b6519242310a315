# SPDX-License-Identifier: Apache-2.0
"""The vehicles of CARLA 0.9.16's library: its ids and box sizes, the real vehicles' drivetrains.

Lengths, widths and heights are CARLA's bounding boxes to the centimetre, as its users measured
them, except the bus: CARLA's box for it (10.27 x 3.94 x 4.25 m) is wider than a lane, here it is
the coach without its mirrors. Mass, wheelbase, power, torque, top speed and driven axle are the
real vehicles', rounded. The default car is held to published tests: physics/README.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from flad_sim.catalogue.specs import BaseType, Drivetrain, VehicleSpec
from flad_sim.types import BoundingBox, Tag

# id, (length, width, height), class, kg, wheelbase, kW, N m, km/h, front drive, remarks
# Remarks: 2 second generation, L lights, D doors that open, E electric, P police or rescue, T taxi.
_CARS: tuple[
    tuple[
        str,
        tuple[float, float, float],
        BaseType,
        float,
        float,
        float,
        float,
        float,
        float,
        str,
    ],
    ...,
] = (
    ("audi.a2", (3.71, 1.79, 1.55), "car", 990, 2.41, 55, 126, 173, 1.0, ""),
    ("audi.etron", (4.86, 2.03, 1.65), "car", 2490, 2.93, 265, 561, 200, 0.5, "LE"),
    ("audi.tt", (4.18, 1.99, 1.39), "car", 1260, 2.47, 132, 235, 228, 1.0, "L"),
    ("bmw.grandtourer", (4.61, 2.24, 1.67), "car", 1480, 2.78, 100, 220, 190, 1.0, ""),
    ("chevrolet.impala", (5.36, 2.03, 1.41), "car", 1650, 2.81, 150, 260, 200, 1.0, "L"),
    ("citroen.c3", (3.99, 1.85, 1.62), "car", 1090, 2.54, 60, 118, 173, 1.0, ""),
    ("dodge.charger_2020", (5.01, 1.88, 1.53), "car", 1850, 3.05, 276, 534, 250, 0.0, "2LD"),
    ("dodge.charger_police", (4.97, 2.04, 1.54), "car", 1850, 3.05, 276, 534, 240, 0.0, "LP"),
    (
        "dodge.charger_police_2020",
        (5.24, 1.93, 1.64),
        "car",
        1900,
        3.05,
        276,
        534,
        240,
        0.0,
        "2LDP",
    ),
    ("ford.crown", (5.37, 1.80, 1.57), "car", 1870, 2.91, 178, 380, 208, 0.0, "2LDT"),
    ("ford.mustang", (4.72, 1.89, 1.30), "car", 1300, 2.74, 165, 400, 190, 0.0, "L"),
    ("jeep.wrangler_rubicon", (3.87, 1.91, 1.88), "car", 1800, 2.42, 147, 320, 160, 0.4, ""),
    ("lincoln.mkz_2017", (4.90, 2.13, 1.51), "car", 1954, 2.85, 298, 542, 241, 0.5, "L"),
    ("lincoln.mkz_2020", (4.89, 1.84, 1.49), "car", 1954, 2.85, 298, 542, 241, 0.5, "2LD"),
    ("mercedes.coupe", (5.03, 2.15, 1.65), "car", 1900, 2.94, 225, 370, 250, 0.0, "L"),
    ("mercedes.coupe_2020", (4.67, 1.81, 1.44), "car", 1690, 2.84, 190, 370, 250, 0.0, "2LD"),
    ("micro.microlino", (2.21, 1.48, 1.38), "car", 530, 1.57, 12.5, 89, 90, 0.0, "E"),
    ("mini.cooper_s", (3.81, 1.97, 1.48), "car", 1215, 2.47, 128, 240, 225, 1.0, ""),
    ("mini.cooper_s_2021", (4.55, 2.10, 1.77), "car", 1380, 2.67, 141, 280, 215, 1.0, "2LD"),
    ("nissan.micra", (3.63, 1.85, 1.50), "car", 1000, 2.43, 59, 110, 158, 1.0, ""),
    ("nissan.patrol", (4.60, 1.93, 1.85), "car", 2400, 2.97, 118, 380, 160, 0.3, ""),
    ("nissan.patrol_2021", (5.57, 2.15, 2.05), "car", 2750, 3.08, 298, 560, 210, 0.4, "2LD"),
    ("seat.leon", (4.19, 1.82, 1.47), "car", 1250, 2.58, 92, 200, 197, 1.0, ""),
    ("tesla.model3", (4.79, 2.16, 1.49), "car", 1847, 2.88, 324, 493, 233, 0.4, "LE"),
    ("toyota.prius", (4.51, 2.01, 1.52), "car", 1380, 2.70, 100, 207, 180, 1.0, ""),
    ("ford.ambulance", (6.37, 2.35, 2.43), "van", 3500, 3.96, 242, 570, 160, 0.0, "2LDP"),
    ("mercedes.sprinter", (5.92, 1.99, 2.56), "van", 2300, 3.67, 105, 330, 155, 0.0, "2LD"),
    ("volkswagen.t2", (4.48, 2.07, 2.04), "van", 1350, 2.40, 51, 140, 125, 0.0, "L"),
    ("volkswagen.t2_2021", (4.44, 1.77, 1.99), "van", 1400, 2.40, 58, 150, 130, 0.0, "2LD"),
    ("carlamotors.carlacola", (5.20, 2.63, 2.47), "truck", 5500, 2.95, 110, 430, 110, 0.0, "L"),
    (
        "carlamotors.european_hgv",
        (7.94, 2.89, 3.46),
        "truck",
        9000,
        3.70,
        330,
        2300,
        100,
        0.0,
        "2L",
    ),
    (
        "carlamotors.firetruck",
        (8.47, 2.89, 3.83),
        "truck",
        12000,
        4.50,
        260,
        1400,
        110,
        0.0,
        "2LDP",
    ),
    ("tesla.cybertruck", (6.27, 2.39, 2.10), "truck", 3000, 3.64, 447, 930, 180, 0.4, "LE"),
    ("mitsubishi.fusorosa", (10.27, 2.55, 3.30), "bus", 7500, 5.50, 150, 600, 105, 0.0, "2L"),
    (
        "harley-davidson.low_rider",
        (2.35, 0.77, 1.65),
        "motorcycle",
        380,
        1.63,
        64,
        150,
        180,
        0.0,
        "L",
    ),
    ("kawasaki.ninja", (2.04, 0.80, 1.52), "motorcycle", 275, 1.41, 92, 114, 240, 0.0, "L"),
    ("vespa.zx125", (1.82, 0.87, 1.59), "motorcycle", 190, 1.28, 8, 11, 90, 0.0, "L"),
    ("yamaha.yzf", (2.19, 0.87, 1.53), "motorcycle", 275, 1.38, 90, 68, 240, 0.0, "L"),
    ("bh.crossbike", (1.51, 0.87, 1.61), "bicycle", 90, 1.05, 0.5, 60, 30, 0.0, ""),
    ("diamondback.century", (1.66, 0.58, 1.62), "bicycle", 87, 1.00, 0.5, 60, 35, 0.0, ""),
    ("gazelle.omafiets", (1.84, 0.66, 1.78), "bicycle", 95, 1.12, 0.4, 60, 25, 0.0, ""),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    """What vehicles of one base type share; figures typical of the class."""

    tag: Tag
    redline_rpm: float
    gears: tuple[float, ...]
    gear_switch_time_s: float
    moi_kgm2: float
    brake_mps2: float  # what the brakes could do if the road held
    tire_friction: float
    drag_coefficient: float
    rolling_resistance: float
    wheel_radius_m: float
    max_steer_deg: float
    cg_share: float  # height of the centre of gravity over the vehicle's height
    front_load: float
    wheels: int
    area_fill: float = 0.82  # frontal area over width x height of the box


# CARLA states 70 degrees of lock for its cars, but their path answers to the steering input like a
# bicycle of about 45 (the model its experts fit: 0.277 1/m of curvature a unit of steer, small
# inputs; times the 2.85 m wheelbase that is 0.79 rad). A controller tuned on CARLA meets that car.
_SIX_SPEED = (4.484, 2.872, 1.842, 1.414, 1.0, 0.742)  # Ford 6F55, the default car's own
_CAR = _Kind(
    tag=Tag.CAR,
    redline_rpm=6500.0,
    gears=_SIX_SPEED,
    gear_switch_time_s=0.25,
    moi_kgm2=0.25,
    brake_mps2=13.0,
    tire_friction=1.08,
    drag_coefficient=0.30,
    rolling_resistance=0.011,
    wheel_radius_m=0.33,
    max_steer_deg=45.0,
    cg_share=0.37,
    front_load=0.57,
    wheels=4,
)
_KINDS: dict[BaseType, _Kind] = {
    "car": _CAR,
    "van": _Kind(
        tag=Tag.CAR,
        redline_rpm=4500.0,
        gears=_SIX_SPEED,
        gear_switch_time_s=0.35,
        moi_kgm2=0.35,
        brake_mps2=10.0,
        tire_friction=0.92,
        drag_coefficient=0.38,
        rolling_resistance=0.012,
        wheel_radius_m=0.35,
        max_steer_deg=42.0,
        cg_share=0.35,
        front_load=0.52,
        wheels=4,
    ),
    "truck": _Kind(
        tag=Tag.TRUCK,
        redline_rpm=2600.0,
        gears=_SIX_SPEED,
        gear_switch_time_s=0.5,
        moi_kgm2=1.5,
        brake_mps2=8.0,
        tire_friction=0.78,
        drag_coefficient=0.60,
        rolling_resistance=0.009,
        wheel_radius_m=0.48,
        max_steer_deg=45.0,
        cg_share=0.36,
        front_load=0.45,
        wheels=4,
    ),
    "bus": _Kind(
        tag=Tag.BUS,
        redline_rpm=2800.0,
        gears=_SIX_SPEED,
        gear_switch_time_s=0.5,
        moi_kgm2=1.2,
        brake_mps2=8.0,
        tire_friction=0.80,
        drag_coefficient=0.60,
        rolling_resistance=0.009,
        wheel_radius_m=0.45,
        max_steer_deg=50.0,
        cg_share=0.36,
        front_load=0.42,
        wheels=4,
    ),
    "motorcycle": _Kind(
        tag=Tag.MOTORCYCLE,
        redline_rpm=10000.0,
        gears=(2.7, 2.0, 1.55, 1.3, 1.13, 1.0),
        gear_switch_time_s=0.15,
        moi_kgm2=0.03,
        brake_mps2=9.5,
        tire_friction=1.0,
        drag_coefficient=0.60,
        rolling_resistance=0.015,
        wheel_radius_m=0.31,
        max_steer_deg=40.0,
        cg_share=0.40,
        front_load=0.48,
        wheels=2,
        area_fill=0.45,
    ),
    "bicycle": _Kind(
        tag=Tag.BICYCLE,
        redline_rpm=110.0,
        gears=(1.0, 0.62, 0.4),
        gear_switch_time_s=0.2,
        moi_kgm2=0.01,
        brake_mps2=6.0,
        tire_friction=0.8,
        drag_coefficient=1.0,
        rolling_resistance=0.006,
        wheel_radius_m=0.34,
        max_steer_deg=40.0,
        cg_share=0.55,
        front_load=0.45,
        wheels=2,
        area_fill=0.45,
    ),
}

# Lock shrinks with speed, (km/h, factor): CARLA's curve for its four-wheelers.
_STEERING_CURVE = ((0.0, 1.0), (20.0, 0.9), (60.0, 0.8), (120.0, 0.7))

_PAINT = (
    "230,230,230",
    "20,20,22",
    "120,124,128",
    "26,58,118",
    "148,24,28",
    "60,72,64",
    "178,168,148",
    "200,200,60",
)
_LIVERY = {
    "carlamotors.firetruck": ("180,20,20",),
    "carlamotors.carlacola": ("190,16,24", "230,230,230"),
    "ford.ambulance": ("235,235,235",),
    "ford.crown": ("225,180,20",),
    "dodge.charger_police": ("20,20,22",),
    "dodge.charger_police_2020": ("20,20,22",),
    "tesla.cybertruck": ("160,164,168",),
}
_HGV_WHEELS = {"carlamotors.european_hgv": 6}


def _vehicle(
    name: str,
    size_m: tuple[float, float, float],
    base_type: BaseType,
    mass_kg: float,
    wheelbase_m: float,
    power_kw: float,
    torque_nm: float,
    top_speed_kmh: float,
    front_drive: float,
    remarks: str,
) -> VehicleSpec:
    kind = _KINDS[base_type]
    length, width, height = size_m
    top_speed_mps = top_speed_kmh / 3.6
    electric = "E" in remarks
    return VehicleSpec(
        blueprint=f"vehicle.{name}",
        box=BoundingBox(
            center=(0.0, 0.0, 0.5 * height), extent=(0.5 * length, 0.5 * width, 0.5 * height)
        ),
        mass_kg=float(mass_kg),
        tag=kind.tag,
        generation=2 if "2" in remarks else 1,
        base_type=base_type,
        number_of_wheels=_HGV_WHEELS.get(name, kind.wheels),
        wheelbase_m=wheelbase_m,
        track_m=0.86 * width if kind.wheels == 4 else 0.0,
        cg_height_m=kind.cg_share * height,
        front_load=0.50 if electric else kind.front_load,
        drivetrain=_drivetrain(
            kind, size_m, mass_kg, power_kw, torque_nm, top_speed_mps, front_drive, electric
        ),
        colors=_LIVERY.get(name) or _rotated(name),
        special_type=_special_type(remarks),
        has_lights="L" in remarks,
        has_dynamic_doors="D" in remarks,
    )


def _drivetrain(
    kind: _Kind,
    size_m: tuple[float, float, float],
    mass_kg: float,
    power_kw: float,
    torque_nm: float,
    top_speed_mps: float,
    front_drive: float,
    electric: bool,
) -> Drivetrain:
    """Gearing follows from the top speed: reached a little below the redline in direct drive."""
    redline_rpm = 15000.0 if electric else kind.redline_rpm
    gears = (1.0,) if electric else kind.gears
    direct = gears[-1] if len(gears) < 6 else gears[-2]
    redline_radps = redline_rpm * math.pi / 30.0
    final_ratio = redline_radps * kind.wheel_radius_m / (1.05 * top_speed_mps * direct)
    _, width, height = size_m
    return Drivetrain(
        power_kw=power_kw,
        torque_nm=torque_nm,
        redline_rpm=redline_rpm,
        gears=gears,
        final_ratio=round(final_ratio, 2),
        gear_switch_time_s=kind.gear_switch_time_s,
        front_drive=front_drive,
        top_speed_mps=top_speed_mps,
        moi_kgm2=0.05 if electric else kind.moi_kgm2,
        brake_force_n=kind.brake_mps2 * mass_kg,
        tire_friction=kind.tire_friction,
        drag_coefficient=kind.drag_coefficient,
        frontal_area_m2=round(kind.area_fill * width * height, 2),
        rolling_resistance=kind.rolling_resistance,
        wheel_radius_m=kind.wheel_radius_m,
        max_steer_deg=kind.max_steer_deg,
        steering_curve=_STEERING_CURVE,
    )


def _rotated(name: str) -> tuple[str, ...]:
    """The common paints, beginning at another one for each vehicle."""
    first = sum(name.encode()) % len(_PAINT)
    return _PAINT[first:] + _PAINT[:first]


def _special_type(remarks: str) -> str:
    for letter, word in (("P", "emergency"), ("T", "taxi"), ("E", "electric")):
        if letter in remarks:
            return word
    return ""


VEHICLES: dict[str, VehicleSpec] = {v.blueprint: v for v in (_vehicle(*row) for row in _CARS)}
