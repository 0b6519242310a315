# SPDX-License-Identifier: Apache-2.0
"""Scenarios on a street without a simulator: where actors stand, when they move, that they go."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import carla
import pytest
from toy_road import corner, straight

from flad_carla.evaluation.road import LanePoint, Neighbour
from flad_carla.evaluation.routes import ScenarioConfig
from flad_carla.evaluation.world_view import WorldState
from flad_carla.run_log import BodyView, PoseView
from flad_carla.scenarios.base import Scenario, Stage, Track
from flad_carla.scenarios.blocked_lane import ConstructionObstacle, ParkedObstacle
from flad_carla.scenarios.manager import KINDS, ScenarioManager
from flad_carla.scenarios.path_driver import CarShape, PathDriver, pedals
from flad_carla.scenarios.pedestrian import PedestrianCrossing
from flad_carla.scenarios.vehicles import CutIn, HardBrake, OncomingDrift

DT_S = 0.05
SHAPE = CarShape(wheelbase_m=2.8, full_steer_rad=1.2)


class Street:
    """Our lane on y = 0, one against us on y = -3.5."""

    def lane_at(self, x, y, z=0.0):
        return LanePoint(1, 0, -1, x, 0.0, 0.0, 0.0, 3.5, False)

    def beside(self, here, sign):
        if sign > 0:
            return None
        point = replace(here, road=2, y=-3.5, yaw=180.0)
        return Neighbour(point, -3.5, True)


@dataclass
class Actor:
    """As much of a carla.Actor as scenarios use; moves like a simple car or walker."""

    id: int
    type_id: str
    pose: PoseView
    speed: float = 0.0
    yaw_rate: float = 0.0
    control: object = None
    destroyed: bool = False
    attributes: dict = field(default_factory=dict)
    bounding_box: object = field(
        default_factory=lambda: SimpleNamespace(extent=SimpleNamespace(x=2.2, y=0.9, z=0.8))
    )

    def apply_control(self, control):
        self.control = control

    def set_light_state(self, state):
        pass

    def get_physics_control(self):
        return SimpleNamespace(wheels=[SimpleNamespace(max_steer_angle=69.0)])

    def destroy(self):
        self.destroyed = True

    def body(self):
        yaw = math.radians(self.pose.yaw)
        return BodyView(
            actor_id=self.id,
            type_id=self.type_id,
            pose=self.pose,
            extent=(2.2, 0.9, 0.8),
            velocity=(self.speed * math.cos(yaw), self.speed * math.sin(yaw), 0.0),
        )

    def move(self):
        c = self.control
        yaw = math.radians(self.pose.yaw)
        if isinstance(c, carla.VehicleControl):
            accel = 5.0 * c.throttle - 8.0 * c.brake - 0.1 * self.speed
            self.speed = max(0.0, self.speed + accel * DT_S)
            yaw += self.speed * DT_S / 2.8 * math.tan(c.steer * 1.2)
        elif isinstance(c, carla.WalkerControl):
            self.speed = c.speed
            yaw = math.atan2(c.direction.y, c.direction.x)
        self.pose = replace(
            self.pose,
            x=self.pose.x + self.speed * DT_S * math.cos(yaw),
            y=self.pose.y + self.speed * DT_S * math.sin(yaw),
            yaw=math.degrees(yaw),
        )


class World:
    """Spawns actors and remembers them all."""

    def __init__(self, room=True):
        self.room = room
        self.all: list[Actor] = []

    @property
    def alive(self):
        return [a for a in self.all if not a.destroyed]

    def get_blueprint_library(self):
        def find(pattern):
            blueprint = SimpleNamespace(
                id=pattern.replace("*", "0001"), has_attribute=lambda name: False
            )
            return [blueprint]

        return SimpleNamespace(filter=find)

    def try_spawn_actor(self, blueprint, transform):
        if not self.room:
            return None
        at, turn = transform.location, transform.rotation
        pose = PoseView(x=at.x, y=at.y, z=at.z, yaw=turn.yaw)
        self.all.append(Actor(len(self.all) + 100, blueprint.id, pose))
        return self.all[-1]

    def get_actors(self, ids=()):
        return [a for a in self.all if a.id in ids]

    def add_traffic(self, x, y=0.0, role="background"):
        actor = Actor(len(self.all) + 100, "vehicle.audi.a2", PoseView(x=x, y=y))
        actor.attributes["role_name"] = role
        self.all.append(actor)
        return actor


def _play(
    kind, *, speed=8.0, seconds=30.0, start=60.0, seed=1, world=None, on_tick=None, **numbers
):
    """Drive past at a constant speed; returns the scenario and the world."""
    world = world or World()
    config = ScenarioConfig(
        name="it",
        kind="It",
        trigger=(start, 0.0, 0.0),
        parameters={k: {"value": str(v)} for k, v in numbers.items()},
    )
    stage = Stage(world=world, road=Street(), track=Track(straight(400)))
    scenario: Scenario = kind(stage, config, start, random.Random(seed))
    for tick in range(int(seconds / DT_S)):
        t = tick * DT_S
        ego_s = speed * t
        ego = Actor(1, "vehicle.ego", PoseView(x=ego_s, y=0.0), speed).body()
        state = WorldState(
            ego=ego,
            actors=tuple(a.body() for a in world.alive),
            lights=(),
            stop_signs=(),
            speed_limit_mps=14.0,
            traffic_speed_mps=None,
        )
        scenario.step(t, state, ego_s)
        if on_tick:
            on_tick(t, ego_s, world)
        for actor in world.alive:
            actor.move()
    return scenario, world


ALL = [PedestrianCrossing, CutIn, OncomingDrift, HardBrake, ParkedObstacle, ConstructionObstacle]


@pytest.mark.parametrize("kind", ALL)
def test_nothing_of_a_scenario_is_left_when_it_is_over(kind):
    scenario, world = _play(kind, seconds=45.0)
    assert len(world.all) > 0
    assert scenario.state == "over"
    assert world.alive == []


@pytest.mark.parametrize("kind", ALL)
def test_without_room_it_fails_and_leaves_nothing(kind):
    scenario, world = _play(kind, world=World(room=False))
    assert scenario.state == "failed"
    assert world.alive == []


@pytest.mark.parametrize("kind", ALL)
def test_the_same_seed_plays_the_same_scene(kind):
    def record(seed):
        rows = []
        _play(
            kind,
            seed=seed,
            seconds=15.0,
            on_tick=lambda t, s, w: rows.append([(a.type_id, a.pose) for a in w.alive]),
        )
        return rows

    assert record(3) == record(3)


def test_background_traffic_makes_room_and_others_stay():
    world = World()
    near = world.add_traffic(75.0)
    far = world.add_traffic(200.0)
    other = world.add_traffic(70.0, role="vehicle_1")
    _play(HardBrake, seconds=6.0, world=world)
    assert near.destroyed and not far.destroyed and not other.destroyed


def test_the_pedestrian_waits_at_the_kerb_and_crosses_the_whole_road():
    track = []
    _play(
        PedestrianCrossing,
        distance=20,
        on_tick=lambda t, s, w: track.extend((s, a.pose.x, a.pose.y) for a in w.alive),
    )
    waiting = [y for s, _, y in track if s < 60.0]
    assert min(waiting) > 1.75 + 0.5  # not on the lane
    assert all(x == pytest.approx(80.0, abs=0.3) for _, x, _ in track)
    assert track[-1][2] < -1.75 - 3.5  # beyond the lane on the other side


def test_comfortable_braking_suffices_for_the_pedestrian():
    """At 8 m/s with the defaults: time and way are left when he steps on the lane."""
    entered = []

    def watch(t, ego_s, world):
        if not entered and world.alive and world.alive[0].pose.y < 1.75:
            entered.append(world.alive[0].pose.x - ego_s)

    for seed in range(5):
        entered.clear()
        _play(PedestrianCrossing, seed=seed, on_tick=watch)
        assert entered[0] > 8.0**2 / (2 * 8.0) + 2.45  # the hardest braking would do
        # and he can be seen starting, at 60 m, with 24 m to go: 4 m/s^2 would do from there
        assert 8.0**2 / (2 * 4.0) < 24.0


def test_the_oncoming_car_comes_into_our_lane_and_leaves_it():
    seen = []
    _play(
        OncomingDrift,
        speed=6.0,
        seconds=40.0,
        on_tick=lambda t, s, w: seen.extend((a.pose.x - s, a.pose.y) for a in w.alive),
    )
    beside = [y for gap, y in seen if 5.0 < gap < 15.0]
    after = [y for gap, y in seen if gap < -20.0]
    far = [y for gap, y in seen if gap > 60.0]
    assert max(beside) == pytest.approx(-3.5 + 1.4, abs=0.25)
    assert max(far) < -3.2 and after and max(after) < -3.2


def test_the_leading_car_brakes_as_hard_as_it_can_and_goes_on():
    speeds = []
    _play(
        HardBrake,
        speed=6.0,
        seconds=40.0,
        on_tick=lambda t, s, w: speeds.extend(a.speed for a in w.alive),
    )
    begun = next(i for i, v in enumerate(speeds) if v > 5.0)
    stop = next(i for i in range(begun, len(speeds)) if speeds[i] < 0.01)
    drops = [a - b for a, b in itertools.pairwise(speeds[begun : stop + 1])]
    assert max(drops) > 0.3  # 0.4 per tick is full braking
    assert stop - begun < (5.0 + 2.0) / DT_S  # 30 m at 6 m/s, and the braking
    assert max(speeds[stop:]) > 4.0


def test_the_cutting_car_starts_beside_and_ends_in_the_lane():
    seen = []
    _play(CutIn, speed=5.0, on_tick=lambda t, s, w: seen.extend((s, a.pose.y) for a in w.alive))
    before = [y for s, y in seen if s < 60.0]
    assert min(before) > 1.75 + 0.2
    assert abs(seen[-1][1]) < 0.4


@pytest.mark.parametrize("direction", [1, -1])
def test_the_path_driver_keeps_to_a_bend(direction):
    track = Track(corner(12.0))
    start_s = 5.0 if direction > 0 else 130.0
    x, y, _, yaw = track.place(start_s)
    car = Actor(1, "vehicle", PoseView(x=x, y=y, yaw=yaw + (0 if direction > 0 else 180)), 4.0)
    driver = PathDriver(track, start_s, direction, SHAPE)
    off = []
    for _ in range(400):
        car.apply_control(driver.control(car.body(), 0.0, 4.0))
        car.move()
        off.append(track.project(car.pose.x, car.pose.y, driver.s)[1])
    assert max(map(abs, off)) < 0.6
    assert (driver.s - start_s) * direction > 50.0


def test_pedals_never_push_both():
    for speed in (0.0, 2.0, 6.0, 12.0):
        for wish in (0.0, 3.0, 6.0):
            c = pedals(Actor(1, "vehicle", PoseView(x=0, y=0), speed).body(), wish)
            assert 0.0 <= c.throttle <= 1.0 and 0.0 <= c.brake <= 1.0
            assert c.throttle * c.brake == 0.0


def test_the_manager_names_what_it_leaves_out(monkeypatch):
    monkeypatch.setattr("flad_carla.scenarios.manager.Road", lambda town_map: Street())
    configs = [
        ScenarioConfig(name="a", kind="YieldToEmergencyVehicle", trigger=(50.0, 0.0, 0.0)),
        ScenarioConfig(name="b", kind="ParkedObstacle", trigger=(50.0, 9.0, 0.0)),
        ScenarioConfig(name="c", kind="ParkedObstacle", trigger=(50.0, 0.5, 0.0)),
    ]
    manager = ScenarioManager(World(), None, straight(), configs, seed=1)
    assert "not implemented" in manager.states["a"]
    assert "9.0 m off the route" in manager.states["b"]
    assert manager.states["c"] == "waiting"


def test_every_kind_that_the_issue_asks_for_has_a_name():
    assert set(KINDS.values()) == set(ALL)
