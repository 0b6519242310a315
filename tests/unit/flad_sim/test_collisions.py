# SPDX-License-Identifier: Apache-2.0
"""Bodies must not pass through each other, and what they exchange must be physics."""

import math

import numpy as np
import pytest
from moving_bodies import DT_S, car, drive, flat, speed

from flad_sim.catalogue import DEFAULT_VEHICLE, PROPS, VEHICLES, WALKERS, find
from flad_sim.physics import ContactSolver, Obstacle, WalkerBody, WalkerControl
from flad_sim.types import BoundingBox, MovingActor, Pose, StaticBox, Tag, Transform


def wall(x, half_thickness_m, *, y=0.0, half_width_m=50.0, yaw=0.0, z=2.0):
    return StaticBox(
        (x, y, z), (half_thickness_m, half_width_m, 2.0), yaw, Tag.WALLS, "static.wall"
    )


def pole(x, y):
    return StaticBox((x, y, 3.0), (0.08, 0.08, 3.0), 0.0, Tag.POLES, "static.pole")


def run(solver, bodies, seconds, obstacles=(), dt_s=DT_S, surface=flat):
    contacts = []
    for _ in range(round(seconds / dt_s)):
        for body in bodies.values():
            body.step(dt_s, surface)
        contacts.append(solver.resolve(bodies, obstacles, dt_s))
    return contacts


def corners(body):
    """Corners of a body's box ``[4, 2]`` in the world."""
    ex, ey, _ = body.spec.box.extent
    cx, cy, _ = body.spec.box.center
    local = np.array([[cx + sx * ex, cy + sy * ey, 0.0] for sx in (1, -1) for sy in (1, -1)])
    return body.pose.transform.to_world(local)[:, :2]


# --- no tunnelling ------------------------------------------------------------------------------


@pytest.mark.parametrize("blueprint", [DEFAULT_VEHICLE, "vehicle.bh.crossbike"])
@pytest.mark.parametrize("speed_mps", [0.5, 5.0, 17.3, 40.0])
@pytest.mark.parametrize("offset", [0.0, 0.013, 1.4, 1.99])
def test_nothing_drives_through_a_thin_wall(blueprint, speed_mps, offset):
    body = car(blueprint, speed_mps, x=-20.0 + offset)
    solver = ContactSolver([wall(0.0, 0.02)])
    for _ in range(60 if speed_mps > 1.0 else 800):
        run(solver, {1: body}, DT_S)
        assert corners(body)[:, 0].max() <= 0.05

    assert body.pose.velocity[0] <= 0.0 or corners(body)[:, 0].max() < -0.1


@pytest.mark.parametrize("y", [0.0, 0.4, -0.85])
def test_a_pole_stops_the_nose_it_meets_and_does_not_slip_along_the_flank(y):
    body = car(speed_mps=40.0, x=-30.0)
    contacts = run(ContactSolver([pole(0.0, y)]), {1: body}, 2.0)
    first = next(c for frame in contacts for c in frame)

    assert first.normal == pytest.approx((-1.0, 0.0, 0.0), abs=0.05)
    assert first.point[:2] == pytest.approx((-0.08, y), abs=0.1)
    assert speed(body) < 25.0


def test_a_walker_is_stopped_by_a_wall():
    body = WalkerBody(WALKERS["walker.pedestrian.0001"], Transform(x=-2.0, z=0.93))
    body.apply_control(WalkerControl(speed=8.0))
    run(ContactSolver([wall(0.0, 0.05)]), {1: body}, 2.0)

    assert body.pose.transform.x <= -0.05 - body.spec.extent[0] + 1e-6


def test_two_cars_closing_at_80_mps_do_not_pass():
    a, b = car(speed_mps=40.0, x=-30.7), car(speed_mps=40.0, x=30.0, yaw=180.0)
    run(ContactSolver([]), {1: a, 2: b}, 2.0)

    assert a.pose.transform.x < b.pose.transform.x


# --- what is exchanged ----------------------------------------------------------------------------


def momentum(*bodies):
    """Linear momentum and angular momentum about the origin."""
    total = np.zeros(3)
    for body in bodies:
        x, y, vx, vy, r = body.planar_motion
        m = body.mass_kg
        total += (m * vx, m * vy, m * (x * vy - y * vx) + body.yaw_inertia_kgm2 * r)
    return total


@pytest.mark.parametrize("seed", range(12))
def test_momentum_is_kept_and_energy_is_not_made(seed):
    rng = np.random.default_rng(seed)
    yaw = float(rng.uniform(100.0, 260.0))
    a = car(rng.choice(sorted(VEHICLES)), float(rng.uniform(8, 25)), x=-6.0)
    b = car(
        rng.choice(sorted(VEHICLES)),
        float(rng.uniform(0, 20)),
        x=float(rng.uniform(-3, 3)),
        y=float(rng.uniform(-1.0, 1.0)),
        yaw=yaw,
    )
    solver = ContactSolver([])

    def energy():
        parts = []
        for body in (a, b):
            _, _, vx, vy, r = body.planar_motion
            parts.append(body.mass_kg * (vx * vx + vy * vy) + body.yaw_inertia_kgm2 * r * r)
        return sum(parts)

    before, joules = momentum(a, b), energy()
    contacts = solver.resolve({1: a, 2: b}, [], DT_S)
    # Positions are corrected, which moves angular momentum: compare linear exactly, and angular
    # by the impulse's own torque balance, which is the equal and opposite pair below.
    after = momentum(a, b)

    assert after[:2] == pytest.approx(before[:2], rel=1e-9, abs=1e-6)
    assert energy() <= joules * (1.0 + 1e-9)
    for mine, theirs in zip(contacts[::2], contacts[1::2], strict=True):
        assert (mine.self_id, mine.other_id) == (theirs.other_id, theirs.self_id)
        assert np.add(mine.impulse, theirs.impulse) == pytest.approx(np.zeros(3))
        assert mine.point == theirs.point
        assert np.dot(mine.impulse, mine.normal) > 0.0


def test_the_reported_impulse_is_the_change_of_momentum():
    body = car(speed_mps=10.0, x=-5.0)
    solver = ContactSolver([wall(0.0, 0.5)])
    for _ in range(40):
        body.step(DT_S, flat)
        before = np.array(body.planar_motion[2:4])
        contacts = solver.resolve({1: body}, [], DT_S)
        change = body.mass_kg * (np.array(body.planar_motion[2:4]) - before)
        assert sum((np.array(c.impulse[:2]) for c in contacts), np.zeros(2)) == pytest.approx(
            change, abs=1e-6
        )


def test_equal_cars_head_on_stop_each_other():
    a, b = car(speed_mps=10.0, x=-6.0), car(speed_mps=10.0, x=6.0, yaw=180.0)
    run(ContactSolver([]), {1: a, 2: b}, 1.0)

    assert abs(a.pose.velocity[0]) < 2.0 and abs(b.pose.velocity[0]) < 2.0
    assert a.pose.transform.x == pytest.approx(-b.pose.transform.x, abs=0.05)


def test_a_hit_off_centre_spins_the_car_the_right_way():
    body = car(speed_mps=10.0, x=-10.0)
    contacts = run(ContactSolver([pole(0.0, 0.8)]), {1: body}, 1.5)

    assert any(contacts)
    assert body.pose.transform.yaw > 3.0  # held on the right: turns right


@pytest.mark.parametrize("other", ["vehicle.carlamotors.firetruck", "vehicle.lincoln.mkz_2020"])
def test_traffic_holds_a_pushing_car_back(other):
    mover = MovingActor("t", other, Pose(Transform(x=10.0)))
    body = car()
    for _ in range(200):
        drive(body, DT_S, throttle=1.0)
        ContactSolver([]).resolve({1: body}, [Obstacle.of(7, mover)], DT_S)
    gap = 10.0 - find(other).extent[0] - body.spec.extent[0] - body.pose.transform.x

    assert -0.05 < gap < 0.3


def test_a_car_hit_from_behind_by_traffic_is_pushed_forward():
    body = car(x=5.3)
    mover = MovingActor("t", DEFAULT_VEHICLE, Pose(Transform(x=0.5), (8.0, 0.0, 0.0)))
    (mine, theirs) = ContactSolver([]).resolve({1: body}, [Obstacle.of(7, mover)], DT_S)

    assert (mine.self_id, mine.other_id, theirs.self_id) == (1, 7, 7)
    assert mine.impulse[0] > 0.0 > theirs.impulse[0]
    assert 3.0 < body.pose.velocity[0] < 8.0


def test_a_pedestrian_or_a_cone_does_not_stop_a_car():
    person = MovingActor("p", "walker.pedestrian.0001", Pose(Transform(x=10.0, z=0.93)))
    cone = PROPS["static.prop.trafficcone01"]
    light = [
        Obstacle.of(7, person),
        Obstacle(8, Pose(Transform(x=20.0)), cone.box, cone.mass_kg),
    ]
    body = car(speed_mps=10.0)
    contacts = [c for frame in run(ContactSolver([]), {1: body}, 3.0, light) for c in frame]

    assert [c.other_id for c in contacts if c.self_id == 1] == [7, 8]
    assert body.pose.transform.x > 25.0


def test_a_knocked_walker_slides_and_stops():
    person = WalkerBody(WALKERS["walker.pedestrian.0001"], Transform(x=6.0, z=0.93))
    run(ContactSolver([]), {1: car(speed_mps=10.0), 2: person}, 0.5)
    assert speed(person) > 3.0
    drive(person, 10.0)

    assert speed(person) == 0.0


# --- who takes part -----------------------------------------------------------------------------


def test_one_contact_a_pair_and_frame():
    """A car in a corner of two walls touches both, each once a frame."""
    body = car(speed_mps=12.0, x=-5.0, y=-5.0, yaw=45.0)
    boxes = [wall(0.0, 0.3), wall(0.0, 0.3, yaw=90.0)]
    for frame in run(ContactSolver(boxes), {1: body}, 3.0):
        assert len({id(c.scenery) for c in frame}) == len(frame) <= 2


def test_a_bridge_overhead_and_a_kerb_below_are_not_touched():
    bridge = StaticBox((0.0, 0.0, 6.0), (5.0, 20.0, 0.5), 0.0, Tag.BRIDGE, "static.bridge")
    kerb = StaticBox((0.0, 0.0, 0.05), (5.0, 20.0, 0.05), 0.0, Tag.SIDEWALKS, "static.sidewalk")
    body = car(speed_mps=15.0, x=-20.0)

    assert not any(run(ContactSolver([bridge, kerb]), {1: body}, 2.0))


def test_a_frozen_body_is_solid_and_an_airy_one_is_not():
    frozen, airy, body = car(x=10.0), car(x=4.0), car(speed_mps=8.0, x=-4.0)
    frozen.set_simulate_physics(False)
    airy.collides = False
    contacts = run(ContactSolver([]), {1: body, 2: frozen, 3: airy}, 3.0)

    assert {c.other_id for frame in contacts for c in frame if c.self_id == 1} == {2}
    assert frozen.pose.transform == Transform(x=10.0)
    assert body.pose.transform.x < 10.0 - 2 * body.spec.extent[0] + 0.05


def test_a_frozen_bicycle_is_as_hard_as_a_wall():
    frozen, body = car("vehicle.bh.crossbike", x=8.0), car(speed_mps=10.0)
    frozen.set_target_velocity((3.0, 0.0, 0.0))
    frozen.set_simulate_physics(False)
    run(ContactSolver([]), {1: body, 2: frozen}, 2.0)

    assert corners(body)[:, 0].max() < 8.0 - frozen.spec.extent[0] + 0.05


def test_driving_side_by_side_or_apart_is_no_contact():
    a, b = car(speed_mps=10.0), car(speed_mps=10.0, y=2.0 * 0.92 + 0.05)
    assert not any(run(ContactSolver([]), {1: a, 2: b}, 3.0))
    overlapping = car(x=0.5, y=5.0, speed_mps=30.0), car(x=-3.9, y=5.0, speed_mps=0.0)
    # They overlap but separate: parted, without an impulse that would hold them together.
    assert ContactSolver([]).resolve(dict(enumerate(overlapping, 1)), [], DT_S) == []
    assert [b.pose.velocity[0] for b in overlapping] == [30.0, 0.0]


def test_bodies_put_into_each_other_part_without_an_explosion():
    a, b = car(), car(x=1.0, y=0.3)
    run(ContactSolver([]), {1: a, 2: b}, 3.0)

    assert speed(a) < 3.0 and speed(b) < 3.0
    assert not any(run(ContactSolver([]), {1: a, 2: b}, 0.5))


def test_a_spawn_is_told_what_is_in_the_way():
    solver = ContactSolver([wall(10.0, 0.5)])
    box = VEHICLES[DEFAULT_VEHICLE].box
    parked = Obstacle(5, Pose(Transform(x=30.0)), box, 1900.0)

    assert solver.blocker(Transform(), box, [parked]) is None
    assert solver.blocker(Transform(x=27.0, yaw=90.0, y=1.0), box, [parked]) == 5
    blocker = solver.blocker(Transform(x=10.0, yaw=20.0), box, [parked])
    assert isinstance(blocker, StaticBox)
    assert solver.blocker(Transform(x=10.0, z=8.0), box, [parked]) is None


# --- the broad phase -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_the_grid_finds_what_a_search_of_all_pairs_finds(seed):
    """Independent oracle: shapely's polygons, for bodies that stand still."""

    rng = np.random.default_rng(seed)
    boxes = [
        StaticBox(
            (float(x), float(y), 1.0),
            (float(ex), float(ey), 1.0),
            float(yaw),
            Tag.BUILDINGS,
            "static.building",
        )
        for x, y, ex, ey, yaw in zip(
            *rng.uniform(-150, 150, (2, 300)),
            *rng.uniform(0.1, 25, (2, 300)),
            rng.uniform(-180, 180, 300),
            strict=True,
        )
    ]
    outlines = [_polygon(b.center, b.extent, b.yaw) for b in boxes]
    solver = ContactSolver(boxes)
    box = BoundingBox((0.3, 0.0, 0.7), (2.4, 1.0, 0.7))
    for x, y, yaw in rng.uniform([-160, -160, -180], [160, 160, 180], (100, 3)).tolist():
        place = Transform(x, y, 0.0, yaw=yaw)
        center = place.to_world(np.array([box.center]))[0]
        outline = _polygon(center, box.extent, yaw)
        overlaps = [o.intersection(outline).area for o in outlines]
        if 0.0 < max(overlaps) < 1e-3 or any(0 < o.distance(outline) < 1e-6 for o in outlines):
            continue  # too close to call
        found = solver.blocker(place, box, [])
        assert (found is not None) == (max(overlaps) > 0.0)
        if isinstance(found, StaticBox):
            assert overlaps[boxes.index(found)] > 0.0


def _polygon(center, extent, yaw):
    from shapely.geometry import Polygon

    c, s = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
    return Polygon(
        [
            (center[0] + c * lx - s * ly, center[1] + s * lx + c * ly)
            for lx, ly in (
                (extent[0], extent[1]),
                (-extent[0], extent[1]),
                (-extent[0], -extent[1]),
                (extent[0], -extent[1]),
            )
        ]
    )


def test_a_crash_of_many_repeats_bit_for_bit():
    def crash():
        rng = np.random.default_rng(1)
        bodies = {
            i: car(speed_mps=15.0, x=float(x), y=float(y), yaw=float(yaw))
            for i, (x, y, yaw) in enumerate(rng.uniform([-40, -40, 0], [40, 40, 360], (25, 3)), 1)
        }
        contacts = run(ContactSolver([pole(0.0, 0.0), wall(45.0, 0.3)]), bodies, 3.0)
        return [b.pose for b in bodies.values()], contacts

    first, again = crash(), crash()
    assert first == again
    assert sum(map(len, first[1])) > 20
