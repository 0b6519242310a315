# SPDX-License-Identifier: Apache-2.0
"""What the harness tells of every tick, and who may listen.

The harness fills these values; report, bag and recorder are observers that consume them. Nothing
here imports ``carla``: everything is in CARLA's frame (left-handed, x forward, y right, z up,
metres, degrees, yaw clockwise seen from above) unless a field says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from flad_carla.rig import Rig

Vec3 = tuple[float, float, float]
Point = tuple[float, float]

# Names of traffic light states, by CARLA's numbers.
LIGHT_NAMES = ("red", "yellow", "green", "off", "unknown")


@dataclass(frozen=True, kw_only=True, slots=True)
class PoseView:
    """Where something is: metres and degrees, in the world."""

    x: float
    y: float
    z: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0
    roll: float = 0.0

    def to_world(self, forward: float, right: float) -> Point:
        """World ``(x, y)`` of a point given in metres ahead and to the right of this pose."""
        c, s = math.cos(math.radians(self.yaw)), math.sin(math.radians(self.yaw))
        return (self.x + c * forward - s * right, self.y + s * forward + c * right)

    def to_local(self, x: float, y: float) -> Point:
        """``(forward, right)`` in metres of a world point, the inverse of :meth:`to_world`."""
        c, s = math.cos(math.radians(self.yaw)), math.sin(math.radians(self.yaw))
        dx, dy = x - self.x, y - self.y
        return (c * dx + s * dy, -s * dx + c * dy)


@dataclass(frozen=True, kw_only=True, slots=True)
class BodyView:
    """A body that moves: the ego, a vehicle or a pedestrian."""

    actor_id: int
    type_id: str  # "vehicle.tesla.model3", "walker.pedestrian.0001"
    pose: PoseView  # of the actor's origin
    extent: Vec3  # half sizes of its bounding box, metres
    center: Vec3 = (0.0, 0.0, 0.0)  # of the bounding box, in the body's frame
    velocity: Vec3 = (0.0, 0.0, 0.0)  # m/s, world
    acceleration: Vec3 = (0.0, 0.0, 0.0)  # m/s^2, world
    angular_velocity: Vec3 = (0.0, 0.0, 0.0)  # deg/s, world

    @property
    def speed_mps(self) -> float:
        """Length of the velocity in the plane."""
        return math.hypot(self.velocity[0], self.velocity[1])


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxView:
    """An upright oriented box in the world, such as a trigger volume."""

    center: Vec3
    extent: Vec3
    yaw: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LightView:
    """One traffic light."""

    actor_id: int
    state: int  # CARLA's number, see LIGHT_NAMES
    pose: PoseView  # of the pole's foot
    trigger: BoxView | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StopSignView:
    """One stop sign."""

    actor_id: int
    pose: PoseView
    trigger: BoxView | None = None
    affects_ego: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlView:
    """The pedals and the wheel, as CARLA takes them: steer positive is right."""

    throttle: float = 0.0  # 0..1
    steer: float = 0.0  # -1..1
    brake: float = 0.0  # 0..1
    hand_brake: bool = False
    reverse: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanView:
    """The waypoints the driver asked for, in the world.

    Point i is where the car shall be ``(i + 1) * step_s`` after ``stamp_s``.
    """

    stamp_s: float  # simulated time of the sensor data the plan was made from
    points: tuple[Point, ...]
    step_s: float = 0.5
    source: str = ""

    @classmethod
    def from_vehicle_frame(
        cls,
        pose: PoseView,
        forward: Sequence[float],
        left: Sequence[float],
        *,
        stamp_s: float,
        step_s: float = 0.5,
        source: str = "",
    ) -> PlanView:
        """A plan as ``flad_msgs/Plan`` has it (x forward, y left), seen from ``pose``."""
        points = tuple(
            pose.to_world(float(f), -float(w)) for f, w in zip(forward, left, strict=True)
        )
        return cls(stamp_s=stamp_s, points=points, step_s=step_s, source=source)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertView:
    """What the privileged expert sees and wants in this tick, whoever drives.

    The lists hold the ids of the actors that make it brake: LMDrive's ``is_*_present`` fields.
    """

    target_speed_mps: float
    control: ControlView | None = None  # what the expert would do, if it is known
    plan: PlanView | None = None
    command: int = (
        4  # RoadOption of the far node: 1 left, 2 right, 3 straight, 4 follow, 5, 6 change
    )
    near_command: int = 4
    near_node: Point | None = None  # world
    far_node: Point | None = None  # world
    is_junction: bool = False
    vehicles: tuple[int, ...] = ()
    bikes: tuple[int, ...] = ()
    lane_vehicles: tuple[int, ...] = ()
    junction_vehicles: tuple[int, ...] = ()
    pedestrians: tuple[int, ...] = ()
    red_lights: tuple[int, ...] = ()
    stop_signs: tuple[int, ...] = ()
    affected_light_id: int = -1  # the next light on the route within 50 m, -1 none
    should_slow: bool = False
    should_brake: bool = False
    reason: str = ""  # one short sentence for a human


@dataclass(frozen=True, kw_only=True, slots=True)
class Infraction:
    """One event of the criteria, booked in this tick."""

    kind: str  # key of the results JSON: collisions_vehicle, red_light, outside_route_lanes, ...
    sim_time_s: float
    x: float
    y: float
    message: str
    actor_id: int = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictedBox:
    """A vehicle or a pedestrian that the vision encoder believes in, seen from the ego.

    In the ROS vehicle frame of :class:`PredictionView`: x forward, y left, yaw counter-clockwise.
    """

    x_m: float
    y_m: float
    yaw_rad: float
    half_length_m: float
    half_width_m: float
    speed_mps: float
    score: float  # 0..1


@dataclass(frozen=True, kw_only=True, slots=True)
class TokensView:
    """Scene tokens as they came over the wire: the fields of ``flad_msgs/SceneTokens``."""

    stamp_ns: int  # simulated time of the simulator, as SensorTick.sim_time_s
    model_hash: str
    contract_version: int
    num_tokens: int
    dim: int
    dtype: int  # SceneTokens' constants: 0 FP32, 1 FP16, 2 INT8
    data: bytes
    scale: tuple[float, ...] = ()
    crc32: int = 0
    views: tuple[str, ...] = ()
    view_valid: tuple[bool, ...] = ()
    lidar_valid: bool = False
    speed_mps: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionView:
    """What the vision encoder on the vehicle made of this tick's sensors.

    Positions are in the ROS vehicle frame at the tick's sensors: x forward, y left, metres,
    radians, origin at the ego's actor location. ``PoseView.to_world(x, -y)`` gives the world.
    """

    stamp_s: float  # simulated time of the sensors, as SensorTick.sim_time_s
    light_red: float  # probability that a red light makes the expert stop, 0..1
    stop: float  # probability that a stop sign does, 0..1
    boxes: tuple[PredictedBox, ...] = ()  # best score first
    waypoints: tuple[Point, ...] = ()  # (x forward, y left); point i is (i + 1) * step_s ahead
    step_s: float = 0.5
    latency_s: float = math.nan  # from the arrival of its last sensor to the tokens, wall clock
    round_trip_s: float = math.nan  # from before the sensors were sent until the tokens were back
    model_hash: str = ""
    missing_views: tuple[str, ...] = ()  # views that had no usable picture
    tokens: TokensView | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DriverView:
    """Who drove a frame by words: the fields of ``flad_msgs/DriverStatus``."""

    stamp_s: float  # simulated time of the frame, as SensorTick.sim_time_s
    who: str  # adllm, adm, nobody
    why: str = ""  # why not the edge, or why nobody
    instruction: str = ""
    notice: str = ""
    edge_alive: bool = False
    completed: float = math.nan  # probability that the instruction has been carried out, 0..1
    latency_s: float = math.nan  # from the frame's tokens to its plan, wall clock
    edge_latency_s: float = math.nan  # of that at the edge
    release: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TickEntry:
    """Everything that is written down of one tick, after its control was chosen."""

    frame: int
    sim_time_s: float  # since the start of the route
    ego: BodyView
    control: ControlView  # what the car was given in this tick
    asked: ControlView | None = None  # what the planner asked for, where a filter changed it
    desired_speed_mps: float = math.nan  # of the planner; NaN where it has none
    plan: PlanView | None = None
    actors: tuple[BodyView, ...] = ()  # without the ego
    lights: tuple[LightView, ...] = ()
    stop_signs: tuple[StopSignView, ...] = ()
    route_index: int = 0  # last dense route point that was passed
    route_completion: float = 0.0  # percent so far
    infractions: tuple[Infraction, ...] = ()  # booked in this tick
    expert: ExpertView | None = None
    planner_state: str = ""  # FOLLOWING, STARTING, STALE, STOPPED, REFUSED, MANUAL
    instruction: str = ""  # what the language model was told
    latency_s: float = math.nan  # from sensor data to control, wall clock; NaN in lockstep
    perturbation: float = 0.0  # steering added on purpose by a ControlFilter; 0 none
    # The encoder's newest, the same object until another one has come; None where none runs.
    prediction: PredictionView | None = None
    # Of the newest frame, the same object until another one is decided; None without words.
    driver: DriverView | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RoutePoint:
    """One point of the dense route, 1 m apart."""

    x: float
    y: float
    z: float = 0.0
    yaw: float = 0.0
    command: int = (
        4  # RoadOption: 1 left, 2 right, 3 straight, 4 follow, 5 change left, 6 change right
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneShape:
    """One lane to be drawn: its two edges ``(x, y)`` in the world."""

    left: tuple[Point, ...]
    right: tuple[Point, ...]
    kind: str = "driving"  # OpenDRIVE's words
    is_junction: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RunInfo:
    """What is known before the first tick of one route run."""

    route_id: str  # "RouteScenario_3"
    town: str
    driver: str
    protocol: str  # lb1.0, lb2.0, lb2.1
    seed: int
    driver_model: str = ""  # of a language driver: names of its files; "" for any other
    encoder: str = ""  # the vision encoder beside the driver, as it was asked for; "" none ran
    route_digest: str = ""  # of what the route is: ids are of one file only
    index: int = 0  # position of the route in the file
    repetition: int = 0
    role: str = "vehicle_0"
    commit: str = ""
    started: str = ""  # ISO 8601 wall time
    route: tuple[RoutePoint, ...] = ()
    lanes: tuple[LaneShape, ...] = ()  # the same object may be given for every run of a town
    weather: Mapping[str, float] = field(default_factory=dict)  # WeatherParameters, CARLA's names
    weather_id: int = -1  # LMDrive's 0..20, -1 is none of them
    step_s: float = 0.05
    geo_origin: Point = (0.0, 0.0)  # latitude, longitude of the map's origin, degrees
    rig: Rig = field(default_factory=Rig)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """The outcome of one route run, in the words of the results JSON."""

    status: str  # Perfect, Completed, "Failed - ..."
    driving_score: float  # score_composed, 0..100
    route_completion: float  # score_route, 0..100
    infraction_penalty: float  # score_penalty, 0..1
    infractions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    route_length_m: float = 0.0
    duration_s: float = 0.0  # simulated
    duration_system_s: float = 0.0


class SensorTick(Protocol):
    """What the session gives per tick; ``data`` maps role -> sensor id -> ``carla.SensorData``."""

    @property
    def frame(self) -> int:
        """Frame number of the simulator."""

    @property
    def sim_time_s(self) -> float:
        """Simulated time since the simulator's episode began."""

    @property
    def data(self) -> Mapping[str, Mapping[str, Any]]:
        """``carla.SensorData`` of every sensor that was due, by role and sensor id."""


class ControlFilter(Protocol):
    """Changes what the car is given, on purpose: the recorder's seeded kicks.

    The harness calls it once per tick between planner and car, and books ``steer`` out minus
    ``steer`` in as ``TickEntry.perturbation``.
    """

    def start(self, info: RunInfo) -> None:
        """A route run begins: forget the last one."""

    def apply(self, sim_time_s: float, speed_mps: float, control: ControlView) -> ControlView:
        """What the car is given instead of ``control``; time since the start of the route."""


class Helper(Protocol):
    """Takes the wheel from a driver that cannot go on: the recorder's expert.

    The harness calls it once per tick between planner and filter, and ends a hopeless run.
    """

    @property
    def is_hopeless(self) -> bool:
        """Whether nobody can drive this run on."""

    def start(self, info: RunInfo) -> None:
        """A route run begins: forget the last one."""

    def apply(self, entry: TickEntry, side_m: float) -> ControlView:
        """What goes on to the car; ``entry.control`` is the driver's, ``side_m`` from the path."""


class Observer:
    """Listens to a run; each method may be left out.

    An observer deals with its own trouble (a full disk ends a recording, not the drive): what it
    raises is a programming error and ends the run. ``on_end`` is called exactly once for every
    ``on_start``, also when the run crashed (``result.status`` then says so).
    """

    def on_start(self, info: RunInfo) -> None:
        """A route run begins."""

    def on_tick(self, tick: SensorTick, entry: TickEntry) -> None:
        """One tick is over: ``tick`` has its sensor data, ``entry`` the rest."""

    def on_end(self, result: RunResult) -> None:
        """The route run is over."""
