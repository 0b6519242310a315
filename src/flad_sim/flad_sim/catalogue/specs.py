# SPDX-License-Identifier: Apache-2.0
"""The shape of a specification; the figures stand in ``vehicles``, ``walkers`` and ``props``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flad_sim.types import BoundingBox, Tag, Vec3

AttributeKind = Literal["bool", "int", "float", "string", "color"]
BaseType = Literal["car", "van", "truck", "bus", "motorcycle", "bicycle"]


@dataclass(frozen=True, slots=True)
class Attribute:
    """One blueprint attribute as ``carla.ActorAttribute`` shows it; values are text."""

    name: str
    kind: AttributeKind
    value: str
    recommended: tuple[str, ...] = ()
    modifiable: bool = True


@dataclass(frozen=True, kw_only=True)
class ActorSpec:
    """What every spawnable body has.

    ``box`` is in the actor's own frame. A vehicle's and a prop's origin is on the ground; a
    walker's is the middle of its body, as in CARLA, so it stands at ground + ``origin_height_m``.
    """

    blueprint: str
    box: BoundingBox
    mass_kg: float
    tag: Tag
    generation: int = 1

    @property
    def extent(self) -> Vec3:
        """Half sizes along x, y, z in metres."""
        return self.box.extent

    @property
    def origin_height_m(self) -> float:
        """Height of the actor's origin above the ground it stands on."""
        return self.box.extent[2] - self.box.center[2]

    @property
    def tags(self) -> str:
        """CARLA's comma-separated tags: the parts of the id."""
        return ",".join(self.blueprint.split("."))

    def attributes(self) -> tuple[Attribute, ...]:
        """The blueprint's attributes, in the order they are listed to a client."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, slots=True)
class Drivetrain:
    """Engine, gearbox, brakes and running gear; what ``VehiclePhysicsControl`` is made from."""

    power_kw: float
    torque_nm: float  # peak, at the crankshaft
    redline_rpm: float
    gears: tuple[float, ...]
    final_ratio: float
    gear_switch_time_s: float
    front_drive: float  # share of the drive torque on the front axle: 1 front, 0 rear
    top_speed_mps: float  # governor
    moi_kgm2: float  # of engine and flywheel
    brake_force_n: float  # all wheels, at the road, full pedal
    tire_friction: float  # peak of force over load
    drag_coefficient: float
    frontal_area_m2: float
    rolling_resistance: float
    wheel_radius_m: float
    max_steer_deg: float  # road wheel angle at full lock
    steering_curve: tuple[tuple[float, float], ...]  # (km/h, factor on the lock)


@dataclass(frozen=True, kw_only=True)
class VehicleSpec(ActorSpec):
    """A vehicle; ``colors`` are CARLA's "r,g,b" texts, the first is the default."""

    base_type: BaseType
    number_of_wheels: int
    wheelbase_m: float
    track_m: float
    cg_height_m: float
    front_load: float  # share of the weight on the front axle at rest
    drivetrain: Drivetrain
    colors: tuple[str, ...]
    special_type: str = ""
    has_lights: bool = True
    has_dynamic_doors: bool = False

    def attributes(self) -> tuple[Attribute, ...]:
        """See :meth:`ActorSpec.attributes`."""
        roles = ("autopilot", "scenario", "ego_vehicle")
        found = [
            Attribute("role_name", "string", "autopilot", roles),
            Attribute("color", "color", self.colors[0], self.colors),
            Attribute("sticky_control", "bool", "true"),
            Attribute("object_type", "string", "", modifiable=False),
            Attribute("base_type", "string", self.base_type, modifiable=False),
            Attribute("special_type", "string", self.special_type, modifiable=False),
            Attribute("number_of_wheels", "int", str(self.number_of_wheels), modifiable=False),
            Attribute("generation", "int", str(self.generation), modifiable=False),
            Attribute("has_lights", "bool", _text(self.has_lights), modifiable=False),
            Attribute("has_dynamic_doors", "bool", _text(self.has_dynamic_doors), modifiable=False),
            Attribute("terramechanics", "bool", "false"),
        ]
        if self.number_of_wheels == 2:
            riders = tuple(str(n) for n in range(1, 8))
            found.insert(2, Attribute("driver_id", "int", "1", riders))
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class WalkerSpec(ActorSpec):
    """A pedestrian; ``speeds`` are standing, walking and running in m/s."""

    gender: Literal["male", "female"]
    age: Literal["adult", "child", "teenager", "elderly"]
    speeds: tuple[float, float, float]

    def attributes(self) -> tuple[Attribute, ...]:
        """See :meth:`ActorSpec.attributes`."""
        speeds = tuple(f"{s:.2f}" for s in self.speeds)
        return (
            Attribute("role_name", "string", "pedestrian", ("pedestrian",)),
            Attribute("gender", "string", self.gender, modifiable=False),
            Attribute("age", "string", self.age, modifiable=False),
            Attribute("generation", "int", str(self.generation), modifiable=False),
            Attribute("speed", "float", speeds[0], speeds),
            Attribute("is_invincible", "bool", "true"),
            Attribute("can_use_wheelchair", "bool", "false", modifiable=False),
            Attribute("use_wheelchair", "bool", "false"),
        )


@dataclass(frozen=True, kw_only=True)
class PropSpec(ActorSpec):
    """A thing that stands where it was put; ``size`` is CARLA's word for its class."""

    size: str
    color: tuple[int, int, int]  # for the ray tracer; a client cannot change it

    def attributes(self) -> tuple[Attribute, ...]:
        """See :meth:`ActorSpec.attributes`."""
        return (
            Attribute("role_name", "string", "prop", ("prop",)),
            Attribute("size", "string", self.size, modifiable=False),
        )


def _text(flag: bool) -> str:
    return "true" if flag else "false"
