# SPDX-License-Identifier: Apache-2.0
"""The free-running world, episode changes, TrafficManager: clients in processes of their own."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from contract.carla_world import SimProcess

RunClient = Callable[..., str]
StartSim = Callable[..., SimProcess]


@pytest.fixture(scope="module")
def free_sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimProcess]:
    """A world with traffic in which each script begins its own episode."""
    options = ("--town", "Grid", "--traffic", "10", "--seed", "3")
    with SimProcess(tmp_path_factory.mktemp("free"), *options) as process:
        yield process


def test_a_free_world_runs_at_the_configured_step_in_real_time(
    free_sim: SimProcess, run_client: RunClient
) -> None:
    out = run_client(
        free_sim.port,
        """
        import json
        world = client.load_world("Grid")
        settings = world.get_settings()
        settings.fixed_delta_seconds = 0.04
        world.apply_settings(settings)
        stamps = [world.wait_for_tick().timestamp for _ in range(40)]
        print(json.dumps([[s.frame, s.elapsed_seconds, s.delta_seconds] for s in stamps]))
        """,
    )
    stamps = json.loads(out)
    for (frame, elapsed, _), (next_frame, next_elapsed, delta) in itertools.pairwise(stamps):
        assert delta == pytest.approx(0.04)
        assert next_elapsed - elapsed == pytest.approx(0.04 * (next_frame - frame))


def test_sensors_measure_in_a_free_world(free_sim: SimProcess, run_client: RunClient) -> None:
    out = run_client(
        free_sim.port,
        """
        world = client.load_world("Grid")
        library, points = world.get_blueprint_library(), world.get_map().get_spawn_points()
        blueprint = library.find("vehicle.tesla.model3")
        tried = (world.try_spawn_actor(blueprint, p) for p in points)  # traffic stands on some
        car = next(a for a in tried if a is not None)
        sensor = world.spawn_actor(library.find("sensor.other.gnss"), carla.Transform(), car)
        inbox = queue.Queue()
        sensor.listen(inbox.put)
        frames = [inbox.get(timeout=20.0).frame for _ in range(10)]
        print(frames == list(range(frames[0], frames[0] + 10)))
        """,
    )
    assert out.split() == ["True"]


def test_a_new_episode_has_new_actors_and_a_greater_frame(
    free_sim: SimProcess, run_client: RunClient
) -> None:
    out = run_client(
        free_sim.port,
        """
        world = client.load_world("Grid")
        settings = world.get_settings()
        settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.05
        world.apply_settings(settings)
        library, points = world.get_blueprint_library(), world.get_map().get_spawn_points()
        blueprint = library.find("vehicle.tesla.model3")
        tried = (world.try_spawn_actor(blueprint, p) for p in points)  # traffic stands on some
        car = next(a for a in tried if a is not None)
        world.tick()
        old, frame = world.id, world.get_snapshot().frame
        again = client.reload_world(False)
        assert again.id == old + 1, (again.id, old)
        assert again.get_snapshot().frame > frame
        assert again.get_settings().synchronous_mode
        assert not [a for a in again.get_actors() if a.attributes.get("role_name") == "hero"]
        assert len(again.get_actors().filter("vehicle.*")) == 10
        assert again.get_snapshot().timestamp.elapsed_seconds < 0.06  # the client ticks once
        other = client.load_world("OldTown")
        assert other.get_map().name == "Carla/Maps/OldTown", other.get_map().name
        assert not other.get_settings().synchronous_mode  # load_world resets the settings
        try:
            client.load_world("Atlantis")
        except RuntimeError as error:
            print(error)
        assert other.get_map().name == "Carla/Maps/OldTown"
        """,
    )
    assert "no town 'Atlantis'" in out
    assert "OldTown" in out


def test_a_client_can_send_its_own_map(
    free_sim: SimProcess, run_client: RunClient, tmp_path: Path
) -> None:
    out = run_client(
        free_sim.port,
        """
        text = client.load_world("OldTown").get_map().to_opendrive()
        client.load_world("Grid")
        mine = client.generate_opendrive_world(text, carla.OpendriveGenerationParameters())
        print(mine.get_map().name, mine.get_map().to_opendrive() == text)
        try:
            client.generate_opendrive_world("<OpenDRIVE><road/></OpenDRIVE>")
        except RuntimeError as error:
            print("refused:", error)
        mine.wait_for_tick()
        print("alive", mine.get_map().name)
        """,
    )
    lines = out.splitlines()
    assert lines[0] == "Carla/Maps/OpenDriveMap True"
    assert lines[1].startswith("refused: ")
    assert lines[2] == "alive Carla/Maps/OpenDriveMap"


def test_traffic_manager_drives_its_cars(free_sim: SimProcess, run_client: RunClient) -> None:
    out = run_client(
        free_sim.port,
        """
        world = client.load_world("Grid")
        settings = world.get_settings()
        settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.05
        world.apply_settings(settings)
        with __import__("socket").socket() as free:
            free.bind(("127.0.0.1", 0))
            tm_port = free.getsockname()[1]
        manager = client.get_trafficmanager(tm_port)
        manager.set_synchronous_mode(True)
        manager.set_random_device_seed(1)
        library, points = world.get_blueprint_library(), world.get_map().get_spawn_points()
        spawn, auto = carla.command.SpawnActor, carla.command.SetAutopilot
        future = carla.command.FutureActor
        results = client.apply_batch_sync(
            [
                spawn(library.find("vehicle.tesla.model3"), p).then(auto(future, True, tm_port))
                for p in points[::12]
            ],
            True,
        )
        cars = world.get_actors([r.actor_id for r in results if not r.error])
        world.freeze_all_traffic_lights(True)
        for light in world.get_actors().filter("traffic.traffic_light"):
            light.set_state(carla.TrafficLightState.Green)
        starts = [car.get_location() for car in cars]
        town, worst = world.get_map(), 0.0
        for _ in range(200):
            world.tick()
        ways = [car.get_location().distance(a) for car, a in zip(cars, starts)]
        for car in cars:
            lane = town.get_waypoint(car.get_location())
            worst = max(worst, lane.transform.location.distance(car.get_location()))
        print(len(cars), sorted(ways)[len(ways) // 2] > 15.0, worst < 6.0)
        """,
        timeout_s=60.0,
        attempts=3,  # the client's own lost wake-up (CARLA issue 9172) is rare but not gone
    )
    count, moved, on_lane = out.split()
    assert int(count) > 20
    assert (moved, on_lane) == ("True", "True")
    assert "apply_batch refused" not in free_sim.log


def test_sumo_s_cars_are_actors_that_a_client_may_take_over(
    free_sim: SimProcess, run_client: RunClient
) -> None:
    run_client(
        free_sim.port,
        """
        world = client.load_world("Grid")
        settings = world.get_settings()
        settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.05
        world.apply_settings(settings)
        for _ in range(40):
            world.tick()
        cars = list(world.get_actors().filter("vehicle.*"))
        assert len(cars) == 10, len(cars)
        assert {c.attributes["role_name"] for c in cars} == {"autopilot"}
        assert all(c.get_speed_limit() > 10.0 for c in cars)
        moving = max(cars, key=lambda c: c.get_velocity().length())
        assert moving.get_velocity().length() > 3.0
        moving.apply_control(carla.VehicleControl(brake=1.0, steer=0.0))
        for _ in range(80):
            world.tick()
        stopped = world.get_actor(moving.id)
        assert stopped.get_velocity().length() < 0.1
        assert stopped.get_control().brake == 1.0
        other = next(c for c in cars if c.id != moving.id)
        assert other.destroy()
        world.tick()
        assert not world.get_snapshot().has_actor(other.id)
        """,
    )


SCRIPT = """
    import hashlib
    settings = world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.05
    world.apply_settings(settings)
    world = client.reload_world(False)
    library, points = world.get_blueprint_library(), world.get_map().get_spawn_points()
    car = world.spawn_actor(library.find("vehicle.lincoln.mkz_2020"), points[5])
    inbox = queue.Queue()
    kinds = ["sensor.camera.rgb", "sensor.lidar.ray_cast", "sensor.other.imu"]
    sensors = []
    for kind in kinds:
        blueprint = library.find(kind)
        if blueprint.has_attribute("image_size_x"):
            blueprint.set_attribute("image_size_x", "120")
            blueprint.set_attribute("image_size_y", "90")
        if kind == "sensor.other.imu":
            blueprint.set_attribute("noise_accel_stddev_x", "0.1")
        sensor = world.spawn_actor(blueprint, carla.Transform(carla.Location(z=2.2)), car)
        sensor.listen(inbox.put)
        sensors.append(sensor)
    digest = hashlib.sha256()
    for i in range(60):
        car.apply_control(carla.VehicleControl(throttle=0.6, steer=0.1 * (i % 7 - 3)))
        frame = world.tick()
        data = sorted((inbox.get(timeout=30.0) for _ in kinds), key=lambda d: type(d).__name__)
        assert {d.frame for d in data} == {frame}
        for d in data:
            if hasattr(d, "raw_data"):
                digest.update(bytes(d.raw_data))
            else:
                digest.update(f"{d.accelerometer} {d.gyroscope} {d.compass}".encode())
        for actor in sorted(world.get_snapshot(), key=lambda a: a.id):
            t, v = actor.get_transform(), actor.get_velocity()
            place = (t.location.x, t.location.y, t.location.z, t.rotation.yaw, v.x, v.y)
            digest.update(repr((actor.id, place)).encode())
    print(digest.hexdigest())
"""


def test_the_same_seed_and_calls_give_the_same_bytes(
    start_sim: StartSim, run_client: RunClient
) -> None:
    options = ("--town", "Grid", "--traffic", "15", "--walkers", "5")
    first, second = start_sim(*options, "--seed", "4"), start_sim(*options, "--seed", "4")
    digests = [run_client(s.port, SCRIPT) for s in (first, second)]
    again = run_client(first.port, SCRIPT)  # a reloaded episode is a fresh one
    other = run_client(start_sim(*options, "--seed", "5").port, SCRIPT)
    assert digests[0] == digests[1] == again
    assert other != digests[0]
