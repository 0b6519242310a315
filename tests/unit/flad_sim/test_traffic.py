# SPDX-License-Identifier: Apache-2.0
"""Traffic as the world sees it: repeatable, smooth, lawful, and careful with client's vehicles."""

from __future__ import annotations

import functools
import hashlib
import math
import re
import subprocess
import sys

import numpy as np
import pytest
from shapely import affinity
from shapely.geometry import Point, Polygon, box

from flad_sim.catalogue import find
from flad_sim.opendrive.sections import is_driving
from flad_sim.towns import load_town as load_any_town
from flad_sim.traffic import Traffic, TrafficError, prediction, sweeps
from flad_sim.types import ClientVehicle, LightState, Pose, Transform

DT = 0.05
load_town = functools.cache(load_any_town)  # towns do not change
CAR = "vehicle.lincoln.mkz_2020"
EXTENT = find(CAR).extent


@pytest.fixture
def start(request):
    """Starts traffic; libsumo holds one simulation, so it is closed after the test."""
    started = []

    def run(town="Grid", *, seed=1, num_vehicles=40, num_walkers=0):
        place = load_town(town) if isinstance(town, str) else town
        started.append(
            Traffic(place, seed=seed, num_vehicles=num_vehicles, num_walkers=num_walkers)
        )
        return started[-1]

    yield run
    for traffic in started:
        traffic.close()


def _client(x, y, yaw, speed=0.0, z=0.0, actor_id=77):
    c, s = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
    pose = Pose(Transform(x, y, z, yaw=yaw), (speed * c, speed * s, 0.0))
    return ClientVehicle(actor_id, CAR, pose, EXTENT)


def _outline(transform, extent):
    shape = affinity.rotate(
        box(-extent[0], -extent[1], extent[0], extent[1]), transform.yaw, origin=(0, 0)
    )
    return affinity.translate(shape, transform.x, transform.y)


def _vehicles(traffic):
    return [a for a in traffic.actors() if a.blueprint.startswith("vehicle.")]


def _walkers(traffic):
    return [a for a in traffic.actors() if a.blueprint.startswith("walker.")]


def _hash(traffic, steps, dt=DT):
    digest = hashlib.sha256()
    for k in range(steps):
        client = _client(160.0 + 0.3 * k, -138.25, 0.0, 6.0)
        traffic.step(dt, [client])
        digest.update(repr((traffic.actors(), traffic.lights())).encode())
    return digest.hexdigest()


HASH_SCRIPT = """
import sys
sys.path.insert(0, sys.argv[2])
from test_traffic import _hash
from flad_sim.towns import load_town
from flad_sim.traffic import Traffic
t = Traffic(load_town("Grid"), seed=int(sys.argv[1]), num_vehicles=40, num_walkers=12)
print(_hash(t, 120))
"""


def test_one_seed_gives_the_same_states_to_the_last_bit(start, request):
    def in_a_process(seed):
        done = subprocess.run(
            [sys.executable, "-c", HASH_SCRIPT, str(seed), str(request.path.parent)],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    first = in_a_process(5)
    assert in_a_process(5) == first
    assert in_a_process(6) != first
    for _ in range(2):  # a new episode in a process that has already run one
        traffic = start("Grid", seed=5, num_vehicles=40, num_walkers=12)
        assert _hash(traffic, 120) == first
        traffic.close()


def test_time_may_pass_in_any_steps(start):
    def run(steps):
        traffic = start("OldTown", num_vehicles=20, num_walkers=5)
        for dt in steps:
            traffic.step(dt)
        states = {a.key: a.pose.transform for a in traffic.actors()}
        traffic.close()
        return states

    reference = run([0.05] * 40)
    assert run([0.1] * 20) == reference
    assert run([0.02] * 100) == reference
    # in between, poses lie between those of SUMO's steps
    before, after, between = reference, run([0.05] * 41), run([0.05] * 40 + [0.02])
    for key, here in between.items():
        if key in before and key in after:
            a, b = before[key], after[key]
            assert here.x == pytest.approx(a.x + 0.4 * (b.x - a.x), abs=1e-6)
            assert here.y == pytest.approx(a.y + 0.4 * (b.y - a.y), abs=1e-6)


@pytest.mark.parametrize("town", ["Grid", "OldTown", "Ring"])
def test_vehicles_move_smoothly_on_the_road_without_touching(start, town):
    traffic = start(town, num_vehicles=40)
    network = load_town(town).network
    last = {a.key: a for a in _vehicles(traffic)}
    moved = set()
    for k in range(800):
        traffic.step(DT)
        now = {a.key: a for a in _vehicles(traffic)}
        for key in now.keys() & last.keys():
            a, b = last[key].pose.transform, now[key].pose.transform
            distance = math.hypot(b.x - a.x, b.y - a.y)
            assert distance < 30.0 * DT, "no jumps"
            turn = abs((b.yaw - a.yaw + 180.0) % 360.0 - 180.0)
            assert turn / DT < 90.0
            assert distance > 1e-4 or turn < 1e-3, "a standing vehicle does not turn"
            moved.update([key] if distance > 0.1 else [])
        if k % 20 == 0:
            shapes = [
                (_outline(a.pose.transform, find(a.blueprint).extent), a.pose.transform.z)
                for a in now.values()
            ]
            for i, (shape, z) in enumerate(shapes):
                for other, other_z in shapes[:i]:
                    assert abs(z - other_z) > 2.0 or not shape.intersects(other)
            for a in now.values():
                t = a.pose.transform
                assert abs(network.height(t.x, t.y, t.z) - t.z) < 0.15
        last = now
    assert len(moved) > 25


def test_nobody_drives_through_a_red_light(start):
    town = load_town("Grid")
    traffic = start(town, num_vehicles=50)
    stops = [
        (s.signal_id, p) for s in town.network.signals if s.kind == "1000001" for p in s.stop_points
    ]
    passed = {"green or yellow": 0}
    last = {}
    for _ in range(1500):
        states = {s.signal_id: s.state for s in traffic.lights()}
        traffic.step(DT)
        for a in _vehicles(traffic):
            t = a.pose.transform
            nose = np.array([[t.x, t.y, t.z]]) + find(a.blueprint).extent[0] * np.array(
                [a.pose.transform.forward()]
            )
            before = last.get(a.key)
            last[a.key] = nose
            if before is None:
                continue
            for signal_id, stop in stops:
                if abs(stop.x - t.x) + abs(stop.y - t.y) > 15.0:
                    continue
                (x0, y0, _), (x1, y1, _) = stop.to_local(np.vstack([before, nose]))
                if x0 < 0.0 <= x1 and abs(y1) < 1.5 and abs(y0) < 1.5:
                    assert states[signal_id] != LightState.RED, (a.key, signal_id)
                    passed["green or yellow"] += 1
    assert passed["green or yellow"] > 30


def test_a_light_that_a_client_sets_red_holds_the_queue(start):
    traffic = start("Grid", num_vehicles=50)
    traffic.freeze_lights(True)
    for status in traffic.lights():
        traffic.set_light(status.signal_id, LightState.RED)
    for _ in range(1400):
        traffic.step(DT)
    speeds = [math.hypot(*a.pose.velocity[:2]) for a in _vehicles(traffic)]
    assert sum(v < 0.5 for v in speeds) > 0.6 * len(speeds)
    for status in traffic.lights():
        traffic.set_light(status.signal_id, LightState.GREEN)
    for _ in range(200):
        traffic.step(DT)
    freed = [math.hypot(*a.pose.velocity[:2]) for a in _vehicles(traffic)]
    assert sum(v < 0.5 for v in freed) < 0.5 * sum(v < 0.5 for v in speeds)


def test_vehicles_keep_to_the_speed_limit(start):
    traffic = start("Ring", num_vehicles=40)
    network = load_town("Ring").network
    fastest = 0.0
    for k in range(400):
        traffic.step(DT)
        if k % 20 == 0:
            for a in _vehicles(traffic):
                t = a.pose.transform
                limit = network.speed_limits_kmh(np.array([[t.x, t.y]]), np.array([t.z]))[0] / 3.6
                speed = math.hypot(*a.pose.velocity[:2])
                fastest = max(fastest, speed)
                assert speed < 1.12 * limit + 4.0  # they may still be braking after a faster road
    assert fastest > 15.0


def test_nobody_cycles_on_the_fast_road(start):
    traffic = start("Ring", num_vehicles=60, seed=8)
    network = load_town("Ring").network
    found = 0
    for k in range(600):
        traffic.step(DT)
        if k % 30 == 0:
            for a in _vehicles(traffic):
                if find(a.blueprint).base_type == "bicycle":
                    t = a.pose.transform
                    at = np.array([[t.x, t.y]])
                    assert network.speed_limits_kmh(at, np.array([t.z]))[0] < 60.0
                    found += 1
    assert found


def test_the_population_is_kept_and_nobody_appears_in_sight(start):
    traffic = start("OldTown", num_vehicles=30)
    client = _client(285.0, -230.0, -90.0)
    seen = {a.key for a in _vehicles(traffic)}
    assert len(seen) >= 28
    for victim in sorted(seen)[:6]:
        traffic.remove(victim)
    assert len(_vehicles(traffic)) == len(seen) - 6
    for _ in range(200):
        traffic.step(DT, [client])
        for a in _vehicles(traffic):
            if a.key not in seen:
                t, c = a.pose.transform, client.pose.transform
                assert math.hypot(t.x - c.x, t.y - c.y) > 60.0 - 5.0
                seen.add(a.key)
    assert len(_vehicles(traffic)) == 24, "what a client removes is not replaced"


def test_a_vehicle_drives_round_no_corner_into_a_client_that_stands_in_a_junction(start):
    """SUMO alone drives into it; afterwards traffic has to flow again."""
    town = load_town("OldTown")
    traffic = start(town, num_vehicles=40, seed=2)
    client = _client(395.0, -135.0, 40.0)  # in the middle of the all-way stop
    shape = _outline(client.pose.transform, EXTENT)
    near = [a for a in _vehicles(traffic) if _outline(a.pose.transform, (4, 2)).intersects(shape)]
    for a in near:
        traffic.remove(a.key)
    for _ in range(900):
        traffic.step(DT, [client])
        for a in _vehicles(traffic):
            t = a.pose.transform
            if math.hypot(t.x - 395.0, t.y + 135.0) < 12.0:
                assert not _outline(t, find(a.blueprint).extent).intersects(shape), a.key
    waiting = [
        a
        for a in _vehicles(traffic)
        if math.hypot(a.pose.transform.x - 395.0, a.pose.transform.y + 135.0) < 45.0
    ]
    assert waiting, "somebody had to wait"
    for _ in range(600):
        traffic.step(DT)
    still = {
        a.key
        for a in _vehicles(traffic)
        if math.hypot(a.pose.transform.x - 395.0, a.pose.transform.y + 135.0) < 45.0
    }
    assert len(still & {a.key for a in waiting}) < len(waiting)


def test_a_client_that_ignores_every_right_of_way_is_not_run_into(start):
    """It drives straight through the town at 8 m/s; only what it runs into itself may touch it."""
    town = load_town("OldTown")
    traffic = start(town, num_vehicles=50, seed=4)
    road = max(
        (s for s in town.network.lanes if is_driving(s.lane_type) and s.junction_id < 0),
        key=lambda s: len(s.left),
    )
    lanes = _drive(town, road, 700.0)
    run = np.concatenate(([0.0], np.cumsum(np.linalg.norm(np.diff(lanes, axis=0), axis=1))))
    s, v = 5.0, 0.0
    while s < run[-1] - 10.0:
        front = [float(np.interp(s + 1.4, run, lanes[:, k])) for k in (0, 1)]
        rear = [float(np.interp(s - 1.4, run, lanes[:, k])) for k in (0, 1)]
        x, y = (front[0] + rear[0]) / 2.0, (front[1] + rear[1]) / 2.0
        yaw = math.degrees(math.atan2(front[1] - rear[1], front[0] - rear[0]))
        client = _client(x, y, yaw, v)
        ahead = _gap_ahead(client, _vehicles(traffic))
        wanted = min(8.0, math.sqrt(max(0.0, 8.0 * (ahead - 2.0))))
        v += max(-0.3, min(0.15, wanted - v))
        s += max(v, 0.02) * DT if ahead > 1.0 else 0.0
        traffic.step(DT, [client])
        if traffic_time_is_up(traffic):
            break
        shape = _outline(client.pose.transform, EXTENT)
        for a in _vehicles(traffic):
            t = a.pose.transform
            if math.hypot(t.x - x, t.y - y) < 10.0:
                assert not _outline(t, find(a.blueprint).extent).intersects(shape), (a.key, s)
    assert s > 150.0


def traffic_time_is_up(traffic, steps=2400):
    """Counts the calls for one traffic; a stuck client must not hang the test."""
    traffic.test_steps = getattr(traffic, "test_steps", 0) + 1
    return traffic.test_steps > steps


def _drive(town, strip, length):
    """Centre line of lanes that follow each other, straight on where possible."""
    center = ((strip.left + strip.right) / 2.0)[:, :2]
    lanes = [s for s in town.network.lanes if is_driving(s.lane_type)]
    points = [center]
    total = 0.0
    while total < length:
        tail, before = points[-1][-1], points[-1][-2]
        heading = (tail - before) / np.linalg.norm(tail - before)
        options = []
        for lane in lanes:
            c = ((lane.left + lane.right) / 2.0)[:, :2]
            if np.linalg.norm(c[0] - tail) < 0.2 and np.linalg.norm(c[-1] - tail) > 1.0:
                first = (c[1] - c[0]) / np.linalg.norm(c[1] - c[0])
                last = (c[-1] - c[-2]) / np.linalg.norm(c[-1] - c[-2])
                if first @ heading > 0.9:
                    options.append((float(last @ heading), c))
        if not options:
            break
        chosen = max(options, key=lambda o: o[0])[1]
        points.append(chosen)
        total += float(np.linalg.norm(np.diff(chosen, axis=0), axis=1).sum())
    line = np.concatenate(points)
    keep = np.concatenate(([True], np.linalg.norm(np.diff(line, axis=0), axis=1) > 1e-3))
    return line[keep]


def _gap_ahead(client, vehicles):
    gap = 100.0
    for a in vehicles:
        t = a.pose.transform
        local = client.pose.transform.to_local(np.array([[t.x, t.y, 0.0]]))[0]
        turned = math.radians(t.yaw - client.pose.transform.yaw)
        ex, ey, _ = find(a.blueprint).extent
        half_x = abs(ex * math.cos(turned)) + abs(ey * math.sin(turned))
        half_y = abs(ex * math.sin(turned)) + abs(ey * math.cos(turned))
        if local[0] > 0.0 and abs(local[1]) < EXTENT[1] + half_y + 0.3:
            gap = min(gap, float(local[0]) - EXTENT[0] - half_x)
    return gap


def test_a_car_on_the_bridge_does_not_stop_the_traffic_below(start):
    town = load_town("Ring")

    def mean_speed(clients):
        traffic = start(town, num_vehicles=40, seed=3)
        speeds = []
        for _ in range(500):
            traffic.step(DT, clients)
            speeds += [
                math.hypot(*a.pose.velocity[:2])
                for a in _vehicles(traffic)
                if a.pose.transform.z < 1.0
                and abs(abs(a.pose.transform.x) - 300.0) < 20.0
                and abs(a.pose.transform.y) < 40.0
            ]
        traffic.close()
        return sum(speeds) / len(speeds)

    deck = town.network.height(-300.0, 1.75, 6.0)
    free = mean_speed([])
    with_cars = mean_speed([_client(-300.0, 1.75, 0.0, z=deck), _client(300.0, 1.75, 0.0, z=deck)])
    assert with_cars > 0.9 * free > 8.0


def test_traffic_queues_behind_a_client_and_goes_on_when_it_has_gone(start):
    town = load_town("Grid")
    traffic = start(town, num_vehicles=50, seed=2)
    stop = next(s for s in town.network.signals if s.kind == "1000001").stop_points[0]
    forward = stop.forward()
    client = _client(stop.x - 60.0 * forward[0], stop.y - 60.0 * forward[1], stop.yaw)
    for a in _vehicles(traffic):
        t, c = a.pose.transform, client.pose.transform
        if math.hypot(t.x - c.x, t.y - c.y) < 15.0:
            traffic.remove(a.key)
    for _ in range(1600):
        traffic.step(DT, [client])
    shape = _outline(client.pose.transform, EXTENT)
    behind = []
    for a in _vehicles(traffic):
        t = a.pose.transform
        assert not _outline(t, find(a.blueprint).extent).intersects(shape)
        local = client.pose.transform.to_local(np.array([[t.x, t.y, 0.0]]))[0]
        if -40.0 < local[0] < 0.0 and abs(local[1]) < 1.5:
            behind.append(a)
    assert behind and all(math.hypot(*a.pose.velocity[:2]) < 0.5 for a in behind[:1])
    for _ in range(300):
        traffic.step(DT)
    gone = {a.key: a for a in _vehicles(traffic)}
    first = gone[behind[0].key].pose.transform
    assert (
        math.hypot(first.x - behind[0].pose.transform.x, first.y - behind[0].pose.transform.y) > 5
    )


@pytest.mark.parametrize("town", ["Grid", "OldTown"])
def test_walkers_walk_on_pavements_and_crossings_without_jumps(start, town):
    place = load_town(town)
    traffic = start(place, num_vehicles=15, num_walkers=25, seed=3)
    pavements = [
        Polygon(np.vstack([s.left[:, :2], s.right[::-1, :2]])).buffer(0.6)
        for s in place.network.lanes
        if s.lane_type == "sidewalk"
    ]
    last = {a.key: a.pose.transform for a in _walkers(traffic)}
    begun = dict(last)
    assert len(last) == 25
    off_pavement = 0
    for k in range(1200):
        traffic.step(DT)
        now = {a.key: a.pose.transform for a in _walkers(traffic)}
        assert now.keys() == last.keys()
        for key, t in now.items():
            before = last[key]
            assert math.hypot(t.x - before.x, t.y - before.y) < 1.7 * DT
            assert abs(t.z - before.z) < 0.06
            assert abs((t.yaw - before.yaw + 180.0) % 360.0 - 180.0) < 160.0 * DT
        if k % 40 == 0:
            for t in now.values():
                on = any(p.contains(Point(t.x, t.y)) for p in pavements)
                off_pavement += not on
        last = now
    walked = [math.hypot(last[k].x - begun[k].x, last[k].y - begun[k].y) for k in last]
    assert sum(d > 10.0 for d in walked) > 18
    assert 0 < off_pavement < 0.35 * 25 * 30, "some cross, most are on pavements"


def test_vehicles_and_walkers_do_not_touch(start):
    traffic = start("Grid", num_vehicles=50, num_walkers=40, seed=7)
    for k in range(1200):
        traffic.step(DT)
        if k % 4:
            continue
        walkers = np.array([[a.pose.transform.x, a.pose.transform.y] for a in _walkers(traffic)])
        for a in _vehicles(traffic):
            t = a.pose.transform
            local = t.to_local(np.column_stack([walkers, np.full(len(walkers), t.z)]))
            ex, ey, _ = find(a.blueprint).extent
            inside = (np.abs(local[:, 0]) < ex + 0.1) & (np.abs(local[:, 1]) < ey + 0.1)
            assert not inside.any(), (k, a.key)


def test_vehicles_stop_for_a_client_walker_on_the_road(start):
    town = load_town("Grid")
    traffic = start(town, num_vehicles=50, seed=2)
    stop = next(s for s in town.network.signals if s.kind == "1000001").stop_points[0]
    forward = stop.forward()
    here = Transform(stop.x - 50.0 * forward[0], stop.y - 50.0 * forward[1], 0.93, yaw=0.0)
    walker = ClientVehicle(5, "walker.pedestrian.0001", Pose(here), (0.19, 0.19, 0.93))
    for a in _vehicles(traffic):
        if math.hypot(a.pose.transform.x - here.x, a.pose.transform.y - here.y) < 25.0:
            traffic.remove(a.key)
    waited = False
    for _ in range(1200):
        traffic.step(DT, [], [walker])
        for a in _vehicles(traffic):
            t = a.pose.transform
            if math.hypot(t.x - here.x, t.y - here.y) < 12.0:
                shape = _outline(t, find(a.blueprint).extent)
                assert not shape.contains(Point(here.x, here.y))
                waited |= math.hypot(*a.pose.velocity[:2]) < 0.1
    assert waited


def test_without_vehicles_the_lights_still_run(start):
    traffic = start("Grid", num_vehicles=0)
    before = [s.state for s in traffic.lights()]
    for _ in range(400):
        traffic.step(DT)
    assert traffic.actors() == []
    assert [s.state for s in traffic.lights()] != before


def test_a_map_without_signals_drives_by_priority(start, tmp_path):
    path = tmp_path / "plain.xodr"
    text = load_town("OldTown").xodr_text
    path.write_text(re.sub(r"<signals>.*?</signals>", "", text, flags=re.DOTALL))
    traffic = start(load_any_town(path, cache_dir=tmp_path), num_vehicles=30)
    assert traffic.lights() == []
    travelled = {}
    for _ in range(600):
        traffic.step(DT)
        for a in _vehicles(traffic):
            travelled[a.key] = travelled.get(a.key, 0.0) + DT * math.hypot(*a.pose.velocity[:2])
    assert sum(d > 60.0 for d in travelled.values()) > 20


def test_kernels_and_predictions_agree_on_time():
    assert sweeps.TIME_STEP_S == prediction.TIME_STEP_S


def test_a_second_simulation_in_one_process_is_refused(start):
    start("Grid", num_vehicles=0)
    with pytest.raises(TrafficError, match="only one"):
        start("Grid", num_vehicles=0)


def test_bad_arguments_are_named(start):
    with pytest.raises(ValueError, match="num_vehicles"):
        start("Grid", num_vehicles=-1)
    traffic = start("Grid", num_vehicles=0)
    with pytest.raises(ValueError, match="dt_s must be positive"):
        traffic.step(0.0)
    with pytest.raises(ValueError, match="no traffic light"):
        traffic.set_light("no such", LightState.RED)
    traffic.remove("no such")


@pytest.mark.needs_carla_towns
@pytest.mark.parametrize("name", ["Town01", "Town02"])
@pytest.mark.parametrize("own_net", [False, True])
def test_carlas_towns_drive_and_every_light_is_obeyed(start, carla_towns, caplog, name, own_net):
    net = carla_towns / f"{name}.net.xml" if own_net else None
    town = load_town(carla_towns / f"{name}.xodr", net)
    traffic = start(town, num_vehicles=30, num_walkers=10)
    assert "do not see" not in caplog.text
    if name == "Town01":
        assert len(traffic.lights()) == 36
    travelled = {}
    for _ in range(500):
        traffic.step(DT)
        for a in traffic.actors():
            travelled[a.key] = travelled.get(a.key, 0.0) + DT * math.hypot(*a.pose.velocity[:2])
            t = a.pose.transform
            assert town.network.height(t.x, t.y) is not None
    assert sum(d > 30.0 for d in travelled.values()) > 12
    assert len(_walkers(traffic)) == 10
