# SPDX-License-Identifier: Apache-2.0
"""A drive that no simulator made: for tests of what listens to a run."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flad_carla.rig import Rig, SensorSpec
from flad_carla.run_log import (
    BodyView,
    BoxView,
    ControlView,
    ExpertView,
    Infraction,
    LaneShape,
    LightView,
    PlanView,
    PoseView,
    PredictedBox,
    PredictionView,
    RoutePoint,
    RunInfo,
    RunResult,
    StopSignView,
    TickEntry,
    TokensView,
)
from flad_common.frames import CarlaPose

STEP_S = 0.05
RIG = Rig(
    sensors=(
        *(
            SensorSpec(
                id=name, type="sensor.camera.rgb", pose=CarlaPose(x_m=1.3, z_m=2.3, yaw_deg=yaw)
            )
            for name, yaw in [
                ("rgb_front", 0),
                ("rgb_left", -60),
                ("rgb_right", 60),
                ("rgb_rear", 180),
            ]
        ),
        SensorSpec(id="rgb_focus", type="sensor.camera.rgb", attributes={"fov": 21.6}),
        SensorSpec(
            id="lidar", type="sensor.lidar.ray_cast", pose=CarlaPose(z_m=2.5, yaw_deg=-90.0)
        ),
        SensorSpec(id="imu", type="sensor.other.imu"),
        SensorSpec(id="gnss", type="sensor.other.gnss"),
    )
)


@dataclass
class FakeImage:
    """What carla.Image offers, as far as we use it."""

    width: int
    height: int
    raw_data: bytes
    fov: float = 100.0
    frame: int = 0
    timestamp: float = 0.0


@dataclass
class FakeLidar:
    """What carla.LidarMeasurement offers."""

    raw_data: bytes
    frame: int = 0
    timestamp: float = 0.0


@dataclass
class FakeGnss:
    latitude: float
    longitude: float
    altitude: float = 0.0
    frame: int = 0
    timestamp: float = 0.0


@dataclass
class FakeVector:
    x: float = 0.0
    y: float = 0.0
    z: float = 0.0


@dataclass
class FakeImu:
    accelerometer: FakeVector
    gyroscope: FakeVector
    compass: float
    frame: int = 0
    timestamp: float = 0.0


@dataclass
class FakeTick:
    """What the session gives per tick."""

    frame: int
    sim_time_s: float
    data: dict[str, dict[str, Any]] = field(default_factory=dict)


def square_route(side_m: float = 60.0) -> tuple[RoutePoint, ...]:
    """Once around a square, 1 m apart, turning right at the corners."""
    points = []
    n = int(side_m)
    for k, (x, y, yaw) in enumerate([(0, 0, 0), (n, 0, 90), (n, n, 180), (0, n, -90)]):
        c, s = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
        for i in range(n):
            command = 2 if i > n - 8 and k < 3 else 4
            points.append(RoutePoint(x=x + c * i, y=y + s * i, yaw=yaw, command=command))
    return tuple(points)


def square_lanes(side_m: float = 60.0) -> tuple[LaneShape, ...]:
    """The lanes and pavements under :func:`square_route`."""
    n = side_m
    corners = [(0.0, 0.0), (n, 0.0), (n, n), (0.0, n)]
    lanes = []
    for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
        u = ((bx - ax) / n, (by - ay) / n)
        right = (-u[1], u[0])
        for inner, outer, kind in [
            (-5.25, -1.75, "driving"),
            (-1.75, 1.75, "driving"),
            (1.75, 4.0, "sidewalk"),
        ]:

            def edge(d: float) -> tuple[tuple[float, float], ...]:
                return tuple(
                    (ax + u[0] * t + right[0] * d, ay + u[1] * t + right[1] * d)  # noqa: B023
                    for t in np.linspace(-2.0, n + 2.0, 20)
                )

            lanes.append(LaneShape(left=edge(inner), right=edge(outer), kind=kind))
    return tuple(lanes)


@dataclass
class Drive:
    """A car that follows ``route`` smoothly past lights, other cars and pedestrians."""

    duration_s: float = 20.0
    seed: int = 1
    route: tuple[RoutePoint, ...] = field(default_factory=square_route)
    lanes: tuple[LaneShape, ...] = field(default_factory=square_lanes)
    town: str = "Square"
    index: int = 0
    repetition: int = 0
    image_size: tuple[int, int] = (80, 60)
    sensors: bool = True
    num_actors: int = 6
    mishap: bool = True
    latency: bool = False
    predicts: bool = False  # an encoder that sees every third road user 0.4 m off, at 10 Hz
    _made: list[tuple[FakeTick, TickEntry]] = field(default_factory=list, repr=False)

    def info(self) -> RunInfo:
        return RunInfo(
            route_id=f"RouteScenario_{self.index}",
            town=self.town,
            driver="expert",
            protocol="lb2.1",
            seed=self.seed,
            index=self.index,
            repetition=self.repetition,
            commit="0123456789abcdef",
            started="2026-01-02T03:04:05",
            route=self.route,
            lanes=self.lanes,
            weather={"cloudiness": 10.0, "sun_altitude_angle": 60.0, "fog_falloff": 0.2},
            weather_id=0,
            rig=RIG if self.sensors else Rig(),
        )

    def result(self) -> RunResult:
        hit = ["Agent collided against object with type=vehicle.a and id=101 at (x=1, y=2, z=0)"]
        return RunResult(
            status="Completed",
            driving_score=58.8 if self.mishap else 100.0,
            route_completion=100.0,
            infraction_penalty=0.588 if self.mishap else 1.0,
            infractions={"collisions_vehicle": hit if self.mishap else [], "red_light": []},
            route_length_m=float(len(self.route)),
            duration_s=self.duration_s,
            duration_system_s=self.duration_s * 0.8,
        )

    def ticks(self) -> list[tuple[FakeTick, TickEntry]]:
        """The drive, made once: take another Drive to change it."""
        self._made = self._made or self._make()
        return self._made

    def _make(self) -> list[tuple[FakeTick, TickEntry]]:
        rng = np.random.default_rng(self.seed)
        offsets = rng.integers(8, max(9, len(self.route) - 1), self.num_actors)
        sides = rng.choice([-3.5, 0.0, 5.5], self.num_actors)
        out, s_m, speed, last_plan, last_seen = [], 0.0, 0.0, None, None
        for k in range(round(self.duration_s / STEP_S)):
            t = round(k * STEP_S, 6)
            wanted = 6.5 if (t % 16.0) < 11.0 else 0.0
            desired = max(0.0, wanted)
            acceleration = float(np.clip(desired - speed, -4.0, 2.0))
            speed = max(0.0, speed + acceleration * STEP_S)
            s_m += speed * STEP_S
            here = self.pose(s_m)
            ahead = self.pose(s_m + 3.0)
            steer = ((ahead.yaw - here.yaw + 180.0) % 360.0 - 180.0) / 70.0
            actors = tuple(
                self._actor(i, int(o), float(d), t)
                for i, (o, d) in enumerate(zip(offsets, sides, strict=True))
            )
            lights = self._lights(t)
            if k % 2 == 0:
                points = tuple(
                    (p.x, p.y)
                    for p in (self.pose(s_m + max(0.6, desired) * 0.5 * (i + 1)) for i in range(5))
                )
                last_plan = PlanView(stamp_s=t, points=points, source="expert")
            control = ControlView(
                throttle=float(np.clip(acceleration / 3.0, 0.0, 0.75)),
                brake=float(np.clip(-acceleration / 4.0, 0.0, 1.0)),
                steer=float(np.clip(steer, -1.0, 1.0)),
            )
            events = ()
            if self.mishap and k == round(self.duration_s / STEP_S / 2):
                events = (
                    Infraction(
                        kind="collisions_vehicle",
                        sim_time_s=t,
                        x=here.x,
                        y=here.y,
                        message="hit <b>vehicle</b> 101",
                        actor_id=101,
                    ),
                )
            red = wanted == 0.0
            far = self.pose(s_m + 25.0)
            near = self.pose(s_m + 7.5)
            c, s = math.cos(math.radians(here.yaw)), math.sin(math.radians(here.yaw))
            entry = TickEntry(
                frame=1000 + k,
                sim_time_s=t,
                ego=BodyView(
                    actor_id=7,
                    type_id="vehicle.lincoln.mkz_2020",
                    pose=here,
                    extent=(2.45, 1.06, 0.75),
                    center=(0.0, 0.0, 0.75),
                    velocity=(speed * c, speed * s, 0.0),
                    acceleration=(acceleration * c, acceleration * s, 0.0),
                ),
                control=control,
                desired_speed_mps=desired,
                plan=last_plan,
                actors=actors,
                lights=lights,
                stop_signs=(
                    StopSignView(
                        actor_id=900,
                        pose=PoseView(x=10.0, y=3.0),
                        trigger=BoxView(center=(10.0, 0.0, 0.5), extent=(2.0, 1.75, 1.0)),
                        affects_ego=3.0 < s_m < 11.0,
                    ),
                ),
                route_index=min(len(self.route) - 1, int(s_m)),
                route_completion=min(100.0, 100.0 * s_m / len(self.route)),
                infractions=events,
                expert=ExpertView(
                    target_speed_mps=desired,
                    control=control,
                    plan=last_plan,
                    command=self.route[min(len(self.route) - 1, int(s_m + 25))].command,
                    near_node=(near.x, near.y),
                    far_node=(far.x, far.y),
                    vehicles=(101,) if red else (),
                    red_lights=(500,) if red else (),
                    affected_light_id=500 if t % 16.0 > 6.0 else -1,
                    should_brake=red,
                    reason="red light 500" if red else "cruise",
                ),
                prediction=(
                    last_seen := self._seen(t, here, actors, red) if k % 2 == 0 else last_seen
                )
                if self.predicts
                else None,
                planner_state="FOLLOWING" if t > 0.5 else "STARTING",
                instruction="Turn right at the next crossing."
                if 4.0 < t < 12.0
                else "Follow the road.",
                latency_s=0.03 + 0.01 * math.sin(t) if self.latency else math.nan,
            )
            out.append(
                (
                    FakeTick(frame=1000 + k, sim_time_s=50.0 + t, data=self._data(k, here, rng)),
                    entry,
                )
            )
        return out

    def pose(self, s_m: float) -> PoseView:
        """Where the route is after ``s_m`` metres, corners rounded a little."""
        i = min(len(self.route) - 2, max(0, int(s_m)))
        a, b = self.route[i], self.route[i + 1]
        u = min(1.0, max(0.0, s_m - i))
        turn = (b.yaw - a.yaw + 180.0) % 360.0 - 180.0
        return PoseView(x=a.x + (b.x - a.x) * u, y=a.y + (b.y - a.y) * u, yaw=a.yaw + turn * u)

    def feed(self, *observers: Any) -> None:
        """Run the drive through observers, as the harness does."""
        for observer in observers:
            observer.on_start(self.info())
        for tick, entry in self.ticks():
            for observer in observers:
                observer.on_tick(tick, entry)
        for observer in observers:
            observer.on_end(self.result())

    def _actor(self, i: int, offset: int, side: float, t: float) -> BodyView:
        walker = side > 5.0
        speed = 1.3 if walker else 4.0
        at = self.pose((offset + speed * t) % (len(self.route) - 2))
        x, y = at.to_world(0.0, side)
        c, s = math.cos(math.radians(at.yaw)), math.sin(math.radians(at.yaw))
        kinds = [
            "vehicle.tesla.model3",
            "vehicle.diamondback.century",
            "vehicle.carlamotors.firetruck",
        ]
        extent = (
            (0.2, 0.2, 0.9)
            if walker
            else [(2.4, 1.0, 0.75), (0.8, 0.3, 0.8), (4.2, 1.4, 1.9)][i % 3]
        )
        return BodyView(
            actor_id=100 + i,
            type_id="walker.pedestrian.0001" if walker else kinds[i % 3],
            pose=PoseView(x=x, y=y, yaw=at.yaw + (180.0 if side < 0 else 0.0)),
            extent=extent,
            center=(0.0, 0.0, extent[2]),
            velocity=(speed * c, speed * s, 0.0),
        )

    def _seen(
        self, t: float, here: PoseView, actors: tuple[BodyView, ...], red: bool
    ) -> PredictionView:
        boxes = []
        for actor in actors[::3]:
            forward, right = here.to_local(actor.pose.x, actor.pose.y)
            boxes.append(
                PredictedBox(
                    x_m=forward + 0.4,
                    y_m=-right,
                    yaw_rad=-math.radians(actor.pose.yaw - here.yaw),
                    half_length_m=actor.extent[0],
                    half_width_m=actor.extent[1],
                    speed_mps=actor.speed_mps,
                    score=0.8,
                )
            )
        return PredictionView(
            stamp_s=50.0 + t,
            light_red=0.9 if red else 0.1,
            stop=0.01,
            boxes=tuple(boxes),
            waypoints=tuple((1.5 * i, 0.1 * i) for i in range(1, 6)),
            latency_s=0.05,
            model_hash="fedcba9876543210",
            tokens=_tokens(round((50.0 + t) * 1e9)),
        )

    def _lights(self, t: float) -> tuple[LightView, ...]:
        n, lights = len(self.route), []
        for i in range(4):
            at = self.pose((i + 1) * n / 4 - 9.0)
            px, py = at.to_world(0.0, 3.0)
            phase = (t + (0.0 if i % 2 == 0 else 8.0)) % 16.0
            state = 2 if phase < 9.0 else 1 if phase < 11.0 else 0
            lights.append(
                LightView(
                    actor_id=500 + i,
                    state=state,
                    pose=PoseView(x=px, y=py, yaw=at.yaw + 180.0),
                    trigger=BoxView(center=(at.x, at.y, 0.5), extent=(1.5, 1.75, 1.0), yaw=at.yaw),
                )
            )
        return tuple(lights)

    def _data(self, k: int, here: PoseView, rng: np.random.Generator) -> dict[str, dict[str, Any]]:
        if not self.sensors:
            return {}
        data: dict[str, Any] = {}
        width, height = self.image_size
        for i, name in enumerate(("rgb_front", "rgb_left", "rgb_right", "rgb_rear", "rgb_focus")):
            bgra = np.zeros((height, width, 4), dtype=np.uint8)
            bgra[: height // 2, :, :3] = (230, 180, 120 + 20 * i)
            bgra[height // 2 :, :, :3] = 90
            at = int(here.x + here.y + k / 4) % max(1, width - 6)
            bgra[height // 2 :, at : at + 4, :3] = (60 * i, 220, 240)
            bgra[..., 3] = 255
            data[name] = FakeImage(width, height, bgra.tobytes(), frame=1000 + k)
        points = rng.normal(0.0, 12.0, (200, 4)).astype(np.float32)
        points[:, 3] = rng.uniform(0.0, 1.0, 200)
        data["lidar"] = FakeLidar(points.tobytes(), frame=1000 + k)
        data["imu"] = FakeImu(
            FakeVector(0.1, 0.0, 9.81), FakeVector(), math.radians((here.yaw + 90.0) % 360.0)
        )
        data["gnss"] = FakeGnss(-here.y / 111324.6, here.x / 111319.5)
        return {"vehicle_0": data}


def _tokens(stamp_ns: int) -> TokensView:
    """Three tokens of four numbers in INT8, other ones in every tick."""
    return TokensView(
        stamp_ns=stamp_ns,
        model_hash="fedcba9876543210",
        contract_version=1,
        num_tokens=3,
        dim=4,
        dtype=2,
        data=stamp_ns.to_bytes(12, "little"),
        scale=(0.5, 0.25, 0.125),
        crc32=zlib.crc32(stamp_ns.to_bytes(12, "little")),
        views=("front", "left"),
        view_valid=(True, False),
        lidar_valid=True,
        speed_mps=2.5,
    )
