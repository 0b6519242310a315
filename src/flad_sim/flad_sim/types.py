# SPDX-License-Identifier: Apache-2.0
"""The values that the parts of the world hand to each other; no behaviour beyond geometry.

Everything here is in CARLA's frame: left-handed, x forward, y right, z up, metres, degrees, yaw
clockwise seen from above, pitch up, roll clockwise seen from behind. OpenDRIVE and SUMO are
right-handed: ``flad_sim.opendrive`` and ``flad_sim.traffic`` mirror y on arrival.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Vec3 = tuple[float, float, float]
FloatArray = NDArray[np.float64]


class LightState(IntEnum):
    """State of a traffic light, with CARLA's numbers."""

    RED = 0
    YELLOW = 1
    GREEN = 2
    OFF = 3
    UNKNOWN = 4


class Tag(IntEnum):
    """Semantic tags of CARLA 0.9.16 (Cityscapes palette)."""

    UNLABELED = 0
    ROADS = 1
    SIDEWALKS = 2
    BUILDINGS = 3
    WALLS = 4
    FENCES = 5
    POLES = 6
    TRAFFIC_LIGHT = 7
    TRAFFIC_SIGNS = 8
    VEGETATION = 9
    TERRAIN = 10
    SKY = 11
    PEDESTRIANS = 12
    RIDER = 13
    CAR = 14
    TRUCK = 15
    BUS = 16
    TRAIN = 17
    MOTORCYCLE = 18
    BICYCLE = 19
    STATIC = 20
    DYNAMIC = 21
    OTHER = 22
    WATER = 23
    ROAD_LINES = 24
    GROUND = 25
    BRIDGE = 26
    RAIL_TRACK = 27
    GUARD_RAIL = 28


@dataclass(frozen=True, slots=True)
class Transform:
    """A pose: location in metres, rotation in degrees."""

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0
    roll: float = 0.0

    @property
    def location(self) -> Vec3:
        """``(x, y, z)`` in metres."""
        return (self.x, self.y, self.z)

    def rotation_matrix(self) -> FloatArray:
        """Rotation from the local frame to the world, ``[3, 3]``, as CARLA (Unreal) composes it."""
        cp, sp = _cos_sin(self.pitch)
        cy, sy = _cos_sin(self.yaw)
        cr, sr = _cos_sin(self.roll)
        return np.array(
            [
                [cp * cy, cy * sp * sr - sy * cr, -cy * sp * cr - sy * sr],
                [cp * sy, sy * sp * sr + cy * cr, -sy * sp * cr + cy * sr],
                [sp, -cp * sr, cp * cr],
            ]
        )

    def forward(self) -> Vec3:
        """Unit vector along local x in the world."""
        cp, sp = _cos_sin(self.pitch)
        cy, sy = _cos_sin(self.yaw)
        return (cp * cy, cp * sy, sp)

    def right(self) -> Vec3:
        """Unit vector along local y in the world."""
        r = self.rotation_matrix()
        return (float(r[0, 1]), float(r[1, 1]), float(r[2, 1]))

    def to_world(self, points: FloatArray) -> FloatArray:
        """Local points ``[N, 3]`` in world coordinates ``[N, 3]``."""
        moved: FloatArray = np.asarray(points) @ self.rotation_matrix().T + np.array(self.location)
        return moved

    def to_local(self, points: FloatArray) -> FloatArray:
        """World points ``[N, 3]`` in local coordinates ``[N, 3]``."""
        local: FloatArray = (np.asarray(points) - np.array(self.location)) @ self.rotation_matrix()
        return local

    def compose(self, local: Transform) -> Transform:
        """The world pose of something mounted at ``local`` on this pose."""
        x, y, z = self.to_world(np.array([local.location]))[0]
        pitch, yaw, roll = rotation_to_angles(self.rotation_matrix() @ local.rotation_matrix())
        return Transform(float(x), float(y), float(z), pitch, yaw, roll)

    def moved(self, **changes: float) -> Transform:
        """A copy with some fields replaced."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class BoundingBox:
    """An oriented box: ``center`` in the frame of its owner, ``extent`` half sizes, metres."""

    center: Vec3 = (0.0, 0.0, 0.0)
    extent: Vec3 = (0.0, 0.0, 0.0)
    yaw: float = 0.0


@dataclass(frozen=True, slots=True)
class Weather:
    """CARLA's WeatherParameters, in the order of the wire (percent, degrees, metres)."""

    cloudiness: float = 0.0
    precipitation: float = 0.0
    precipitation_deposits: float = 0.0
    wind_intensity: float = 0.0
    sun_azimuth_angle: float = 0.0
    sun_altitude_angle: float = 70.0
    fog_density: float = 0.0
    fog_distance: float = 0.0
    fog_falloff: float = 0.2
    wetness: float = 0.0
    scattering_intensity: float = 1.0
    mie_scattering_scale: float = 0.03
    rayleigh_scattering_scale: float = 0.0331
    dust_storm: float = 0.0


@dataclass(frozen=True, slots=True)
class VehicleControl:
    """CARLA's VehicleControl, in the order of the wire."""

    throttle: float = 0.0
    steer: float = 0.0
    brake: float = 0.0
    hand_brake: bool = False
    reverse: bool = False
    manual_gear_shift: bool = False
    gear: int = 0


# --- what the OpenDRIVE reader gives to scenery, traffic and server -----------------------------


@dataclass(frozen=True, slots=True)
class LaneStrip:
    """One lane of one lane section, as two edges sampled at the same stations.

    ``left`` and ``right`` are ``[N, 3]`` in the world, left and right as seen along the direction
    of travel for driving lanes, along increasing s otherwise.
    """

    road_id: int
    section: int
    lane_id: int
    lane_type: str  # OpenDRIVE's words: driving, sidewalk, shoulder, parking, border, biking, ...
    junction_id: int  # -1 outside junctions
    left: FloatArray
    right: FloatArray


@dataclass(frozen=True, slots=True)
class RoadMark:
    """One painted line: centre line ``[N, 3]`` in the world and how it is painted."""

    points: FloatArray
    kind: str  # solid, broken, "solid solid", "solid broken", ...
    color: str  # white, yellow
    width: float  # metres


@dataclass(frozen=True, slots=True)
class Signal:
    """One OpenDRIVE signal that stands in the world (references are resolved into ``lanes``)."""

    signal_id: str
    kind: str  # OpenDRIVE type: "1000001" light, "206" stop, "205" yield, "274" speed limit
    value: float  # speed limit in km/h for 274, else 0
    road_id: int
    s: float  # metres along the road
    transform: Transform  # of the pole's foot; forward (local x) is where the lamp looks to
    height: float  # metres from the foot to the centre of the head
    trigger: BoundingBox  # in the world: the road surface in front of the stop line
    stop_points: tuple[Transform, ...]  # one per controlled lane: on the lane's centre, at the line
    group: int  # junction (or controller) whose lights change together, -1 none


# --- what moves ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pose:
    """State of a moving thing as the snapshot reports it."""

    transform: Transform
    velocity: Vec3 = (0.0, 0.0, 0.0)  # m/s, world
    angular_velocity: Vec3 = (0.0, 0.0, 0.0)  # deg/s
    acceleration: Vec3 = (0.0, 0.0, 0.0)  # m/s^2, world


@dataclass(frozen=True, slots=True)
class MovingActor:
    """A vehicle or pedestrian that the world itself moves.

    ``key`` is stable while the thing lives and never reused; the server maps it to an actor id.
    """

    key: str
    blueprint: str  # id in flad_sim.catalogue, e.g. "vehicle.tesla.model3"
    pose: Pose
    color: tuple[int, int, int] = (128, 128, 128)
    brake_light: bool = False
    walk_speed: float = 0.0  # m/s, pedestrians only


@dataclass(frozen=True, slots=True)
class ClientVehicle:
    """A vehicle that a client drives, as SUMO and the pedestrians have to see it."""

    actor_id: int
    blueprint: str
    pose: Pose
    extent: Vec3  # half sizes, metres


@dataclass(frozen=True, slots=True)
class LightStatus:
    """What the snapshot says of one traffic light."""

    signal_id: str
    state: LightState
    elapsed: float = 0.0  # seconds in this state
    green_time: float = 0.0
    yellow_time: float = 0.0
    red_time: float = 0.0
    frozen: bool = False


# --- what the sensors see -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StaticBox:
    """A solid piece of scenery, for collisions: an upright box in the world."""

    center: Vec3
    extent: Vec3
    yaw: float
    tag: Tag
    type_id: str  # "static.building", "static.pole", "static.vegetation", ...


@dataclass(frozen=True, slots=True)
class VisibleActor:
    """Something that moves, as the ray tracer draws it."""

    actor_id: int
    blueprint: str
    transform: Transform
    velocity: Vec3 = (0.0, 0.0, 0.0)
    color: tuple[int, int, int] = (128, 128, 128)
    brake_light: bool = False
    lights: int = 0  # CARLA's VehicleLightState mask
    steer: float = 0.0


@dataclass(frozen=True, slots=True)
class SensorRequest:
    """One measurement that is due in this frame."""

    sensor_id: int
    blueprint: str  # "sensor.camera.rgb", "sensor.lidar.ray_cast", ...
    attributes: dict[str, str]
    transform: Transform  # of the sensor in the world
    parent_id: int = 0
    parent_velocity: Vec3 = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class VisibleWorld:
    """Everything that a frame's measurements depend on."""

    frame: int
    elapsed_s: float
    delta_s: float
    weather: Weather
    actors: tuple[VisibleActor, ...] = ()
    lights: dict[str, LightState] = field(default_factory=dict)  # by OpenDRIVE signal id


def rotation_to_angles(matrix: FloatArray) -> Vec3:
    """``(pitch, yaw, roll)`` in degrees of a rotation matrix ``[3, 3]``."""
    pitch = math.degrees(math.asin(max(-1.0, min(1.0, float(matrix[2, 0])))))
    yaw = math.degrees(math.atan2(float(matrix[1, 0]), float(matrix[0, 0])))
    roll = math.degrees(math.atan2(-float(matrix[2, 1]), float(matrix[2, 2])))
    return (pitch, yaw, roll)


def _cos_sin(degrees: float) -> tuple[float, float]:
    radians = math.radians(degrees)
    return math.cos(radians), math.sin(radians)
