# SPDX-License-Identifier: Apache-2.0
"""Each criterion on a straight street: what counts, what does not, and how often."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest

from flad_carla.evaluation.criteria import Collision, RouteProgress, Situation
from flad_carla.evaluation.criteria.blocked import Blocked
from flad_carla.evaluation.criteria.collision import CollisionCriterion
from flad_carla.evaluation.criteria.deviation import Deviation
from flad_carla.evaluation.criteria.lanes import OutsideLanes
from flad_carla.evaluation.criteria.min_speed import MinSpeed
from flad_carla.evaluation.criteria.red_light import RedLight
from flad_carla.evaluation.criteria.stop_sign import StopSign
from flad_carla.evaluation.criteria.timeout import Timeout
from flad_carla.evaluation.protocol import PROTOCOLS
from flad_carla.evaluation.road import LanePoint
from flad_carla.evaluation.statistics import BLOCKED, DEVIATED, TIMED_OUT
from flad_carla.route_planner import RoadOption, RoutePoint
from flad_carla.run_log import BodyView, BoxView, LightView, PoseView, StopSignView

STEP_S = 0.05
WIDTH = 3.5
HALF_LENGTH = 2.4
RED, YELLOW, GREEN = 0, 1, 2


class Street:
    """Along +x on y = 0 (lane -1), back on y = -3.5 (lane 1); parking on y = 3 if it has any."""

    def __init__(self, parking: bool = False) -> None:
        self._parking = parking

    def lane_at(self, x, y, z=0.0):
        if y < -WIDTH / 2:
            return LanePoint(1, 0, 1, x, -WIDTH, 0.0, 180.0, WIDTH, False)
        return LanePoint(1, 0, -1, x, 0.0, 0.0, 0.0, WIDTH, False)

    def parking_at(self, x, y, z=0.0):
        return LanePoint(1, 0, -2, x, 3.0, 0.0, 0.0, 2.5, False) if self._parking else None

    def ahead(self, x, y, z, step_m, count):
        first = self.lane_at(x, y)
        sign = 1.0 if first.lane < 0 else -1.0
        return [replace(first, x=x + sign * step_m * i) for i in range(count + 1)]


def _route(length: int = 200) -> list[RoutePoint]:
    return [
        RoutePoint(float(i), 0.0, 0.0, 0.0, RoadOption.LANE_FOLLOW, (1, 0, -1), WIDTH, -1, float(i))
        for i in range(length + 1)
    ]


@dataclass
class Drive:
    """Feeds situations to a criterion, tick by tick."""

    criterion: object
    time_s: float = 0.0
    frame: int = 0
    extras: dict | None = None

    def at(self, x, y=0.0, yaw=0.0, speed=8.0, **changes):
        """One tick with the car there; the events."""
        direction = math.radians(yaw)
        ego = BodyView(
            actor_id=1,
            type_id="vehicle.lincoln.mkz_2020",
            pose=PoseView(x=x, y=y, yaw=yaw),
            extent=(HALF_LENGTH, 1.0, 0.8),
            velocity=(speed * math.cos(direction), speed * math.sin(direction), 0.0),
        )
        self.time_s += STEP_S
        self.frame += 1
        values = {**(self.extras or {}), **changes}
        self.last = Situation(frame=self.frame, sim_time_s=self.time_s, ego=ego, **values)
        return self.criterion.step(self.last)

    def along(self, start, end, step=0.4, **changes):
        """Drive from x = start to end; all events."""
        count = int(abs(end - start) / step)
        sign = 1.0 if end > start else -1.0
        return [e for i in range(count) for e in self.at(start + sign * step * i, **changes)]

    def finish(self):
        return self.criterion.finish(self.last)


# --- route completion ---------------------------------------------------------------------------


def test_completion_counts_only_what_is_passed_forwards():
    drive = Drive(RouteProgress(_route()))
    drive.along(0.0, 100.2)
    assert drive.criterion.percent == pytest.approx(50.0, abs=0.6)
    drive.along(100.0, 50.0)  # going back earns nothing and costs nothing
    assert drive.criterion.percent == pytest.approx(50.0, abs=0.6)


def test_a_shortcut_is_not_counted():
    """From a point far ahead of the window nothing is passed."""
    drive = Drive(RouteProgress(_route()))
    drive.at(150.0)
    assert drive.criterion.percent < 2.0


def test_the_end_is_reached_only_near_it():
    route = [
        *_route(),
        *(replace(p, x=200.0, y=p.x, yaw=90.0, distance=200.0 + p.x) for p in _route(100)),
    ]
    straight = Drive(RouteProgress(_route()))
    straight.along(0.0, 199.9)
    assert straight.criterion.reached and straight.criterion.percent == 100.0
    other = Drive(RouteProgress(route))
    other.along(0.0, 240.0)  # straight on where the route turns
    assert not other.criterion.reached


# --- collisions ---------------------------------------------------------------------------------


def _hit(actor_id=7, type_id="vehicle.audi.a2"):
    return {"collisions": [Collision(frame=0, actor_id=actor_id, type_id=type_id)]}


@pytest.mark.parametrize(
    "type_id, kind",
    [
        ("vehicle.audi.a2", "collisions_vehicle"),
        ("walker.pedestrian.0001", "collisions_pedestrian"),
        ("static.building", "collisions_layout"),
        ("traffic.traffic_light", "collisions_layout"),
        ("static.sidewalk", None),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_collisions_are_told_apart_by_what_was_hit(version, type_id, kind):
    events = Drive(CollisionCriterion(version)).at(0.0, **_hit(type_id=type_id))
    assert [e.kind for e in events] == ([] if kind is None else [kind])


@pytest.mark.parametrize("version", [1, 2])
def test_a_long_contact_is_one_collision(version):
    drive = Drive(CollisionCriterion(version))
    assert len(drive.along(0.0, 30.0, **_hit())) == 1


@pytest.mark.parametrize("version, far_m", [(1, 3.2), (2, 5.4)])
def test_another_actor_counts_once_it_is_far_enough(version, far_m):
    drive = Drive(CollisionCriterion(version))
    assert len(drive.at(0.0, **_hit(7))) == 1
    assert drive.at(far_m - 0.5, **_hit(8)) == []
    assert len(drive.at(far_m, **_hit(9))) == 1


def test_who_stands_is_at_fault_only_in_the_first_generation():
    assert len(Drive(CollisionCriterion(1)).at(0.0, speed=0.0, **_hit())) == 1
    assert Drive(CollisionCriterion(2)).at(0.0, speed=0.0, **_hit()) == []


# --- red lights ---------------------------------------------------------------------------------

LINE = LanePoint(1, 0, -1, 50.0, 0.0, 0.0, 0.0, WIDTH, False)


def _light(state, actor_id=5, x=47.0):
    box = BoxView(center=(x, 0.0, 0.0), extent=(3.0, 1.5, 2.0))
    return LightView(actor_id=actor_id, state=state, pose=PoseView(x=60.0, y=4.0), trigger=box)


def _red_light():
    return Drive(RedLight(Street(), {5: [LINE]}, 0.4))


def test_it_is_the_tail_that_crosses_a_red_light():
    drive = _red_light()
    before = drive.along(30.0, 50.0 + 0.8 * HALF_LENGTH - 0.1, lights=[_light(RED)])
    after = drive.along(50.0 + 0.8 * HALF_LENGTH - 0.1, 60.0, lights=[_light(RED)])

    assert before == [] and [e.kind for e in after] == ["red_light"]


@pytest.mark.parametrize("state", [YELLOW, GREEN, 3, 4])
def test_only_red_is_red(state):
    assert _red_light().along(30.0, 70.0, lights=[_light(state)]) == []


def test_stopping_with_the_bumper_over_the_line_is_no_offence():
    drive = _red_light()
    assert drive.along(30.0, 49.0, lights=[_light(RED)]) == []
    assert [e for _ in range(50) for e in drive.at(49.0, speed=0.0, lights=[_light(RED)])] == []


def test_a_light_for_the_other_direction_is_none_of_ours():
    other = replace(LINE, lane=1, yaw=180.0, y=-WIDTH)
    drive = Drive(RedLight(Street(), {5: [other]}, 0.4))
    assert drive.along(30.0, 70.0, lights=[_light(RED)]) == []


def test_one_light_is_booked_once_in_a_row_and_two_twice():
    drive = _red_light()
    lights = [_light(RED)]
    assert len(drive.along(30.0, 70.0, lights=lights) + drive.along(30.0, 70.0, lights=lights)) == 1
    two = Drive(RedLight(Street(), {5: [LINE], 6: [replace(LINE, x=80.0)]}, 0.4))
    events = two.along(30.0, 100.0, lights=[_light(RED), _light(RED, 6, 77.0)])
    assert [e.actor_id for e in events] == [5, 6]


# --- stop signs ---------------------------------------------------------------------------------

SIGN = StopSignView(
    actor_id=9,
    pose=PoseView(x=50.0, y=4.0),
    trigger=BoxView(center=(50.0, 0.0, 0.0), extent=(1.5, 1.5, 2.0)),
)


def _stop(version):
    return Drive(StopSign(Street(), version), extras={"stop_signs": [SIGN]})


@pytest.mark.parametrize("version", [1, 2])
def test_driving_through_a_stop_sign_is_booked_once(version):
    assert [e.kind for e in _stop(version).along(0.0, 100.0)] == ["stop_infraction"]


@pytest.mark.parametrize("version", [1, 2])
def test_a_full_stop_at_the_sign_is_enough(version):
    drive = _stop(version)
    events = drive.along(0.0, 47.5) + drive.at(47.5, speed=0.0) + drive.along(47.5, 100.0)
    assert events == []


@pytest.mark.parametrize("version", [1, 2])
def test_slowing_down_is_not_stopping(version):
    drive = _stop(version)
    events = drive.along(0.0, 47.5) + drive.at(47.5, speed=0.5) + drive.along(47.5, 100.0)
    assert len(events) == 1


@pytest.mark.parametrize("version", [1, 2])
def test_a_stop_far_before_the_sign_does_not_count(version):
    drive = _stop(version)
    events = drive.along(0.0, 20.0) + drive.at(20.0, speed=0.0) + drive.along(20.0, 100.0)
    assert len(events) == 1


@pytest.mark.parametrize("version", [1, 2])
def test_the_other_direction_has_no_sign(version):
    drive = _stop(version)
    assert drive.along(100.0, 0.0, y=-WIDTH, yaw=180.0) == []


# --- lanes --------------------------------------------------------------------------------------


def _lanes(slack=0.5, parking=False):
    return Drive(OutsideLanes(_route(), Street(parking), slack))


def test_a_clean_drive_has_no_event():
    drive = _lanes()
    drive.along(0.0, 150.0)
    assert drive.finish() == []


def test_the_share_driven_on_the_verge_is_measured():
    drive = _lanes()
    drive.along(0.0, 60.0)
    drive.along(60.0, 90.0, y=WIDTH / 2 + 0.7)
    drive.along(90.0, 150.2)
    (event,) = drive.finish()
    assert event.percentage == pytest.approx(100.0 * 30.0 / 150.0, abs=1.5)
    assert event.outside_m == pytest.approx(30.0, abs=2.0)


def test_the_slack_belongs_to_the_protocol():
    strict, lenient = _lanes(0.5), _lanes(1.3)
    for drive in (strict, lenient):
        drive.along(0.0, 100.0, y=WIDTH / 2 + 0.9)
    assert strict.finish() != [] and lenient.finish() == []


def test_a_parking_lane_is_a_lane():
    drive = _lanes(parking=True)
    drive.along(0.0, 100.0, y=3.0)
    assert drive.finish() == []


def test_the_wrong_side_counts_until_it_is_left():
    drive = _lanes()
    drive.along(0.0, 50.0)
    drive.along(50.0, 75.0, y=-WIDTH)
    drive.along(75.0, 100.2)
    (event,) = drive.finish()
    assert event.percentage == pytest.approx(25.0, abs=2.0)


def test_standing_outside_costs_nothing():
    drive = _lanes()
    drive.along(0.0, 50.0)
    for _ in range(200):
        drive.at(50.0, y=5.0, speed=0.0)
    drive.along(50.0, 100.0)
    (event,) = drive.finish() or (None,)
    assert event is None or event.percentage < 2.5


# --- what ends a route --------------------------------------------------------------------------


def test_thirty_metres_off_is_a_deviation_and_twenty_is_not():
    near, far = Drive(Deviation(_route())), Drive(Deviation(_route()))
    assert near.along(0.0, 20.0, y=20.0) == []
    assert [e.kind for e in far.along(0.0, 20.0, y=30.5)] == ["route_dev"]
    assert (near.criterion.failure, far.criterion.failure) == ("", DEVIATED)


def test_a_third_of_the_route_from_twenty_metres_away_is_a_deviation():
    drive = Drive(Deviation(_route()))
    assert drive.along(0.0, 59.0, y=20.0) == []
    assert [e.kind for e in drive.along(59.0, 70.0, y=20.0)] == ["route_dev"]


def test_blocked_after_three_minutes_without_moving():
    drive = Drive(Blocked())
    for _ in range(int(170 / STEP_S)):
        assert drive.at(0.0, speed=0.0) == []
    drive.at(0.0, speed=0.2)
    for _ in range(int(179 / STEP_S)):
        assert drive.at(0.0, speed=0.05) == []
    assert [e.kind for _ in range(40) for e in drive.at(0.0, speed=0.0)] == ["vehicle_blocked"]
    assert drive.criterion.failure == BLOCKED


def test_the_first_generations_time_is_by_length():
    route = _route(100)
    drive = Drive(Timeout(PROTOCOLS["lb1.0"], RouteProgress(route)))
    events = [e for _ in range(int(86 / STEP_S)) for e in drive.at(0.0)]
    assert drive.criterion.budget_s == 85.0
    assert [e.kind for e in events] == ["route_timeout"] and drive.criterion.failure == TIMED_OUT
    assert events[0].sim_time_s == pytest.approx(85.0, abs=0.1)


def test_the_second_generations_time_grows_with_the_way():
    progress = RouteProgress(_route())
    drive = Drive(Timeout(PROTOCOLS["lb2.0"], progress))
    for i in range(250):
        progress.step(Situation(frame=i, sim_time_s=0.0, ego=_ego_at(i * 0.4)))
        drive.at(i * 0.4, speed_limit_mps=10.0)
    # 10 % of 10 m/s: a metre buys a second
    assert drive.criterion.budget_s == pytest.approx(300.0 + progress.distance_m, abs=1.5)


def _ego_at(x):
    return BodyView(
        actor_id=1, type_id="vehicle", pose=PoseView(x=x, y=0.0), extent=(2.4, 1.0, 0.8)
    )


def test_minimum_speed_is_judged_on_four_parts():
    progress = RouteProgress(_route())
    drive = Drive(MinSpeed(progress))
    events = []
    for i in range(500):
        x = i * 0.4
        speed = 4.0 if x < 50.0 else 8.0  # slow in the first quarter only
        progress.step(Situation(frame=i, sim_time_s=0.0, ego=_ego_at(x)))
        events += drive.at(x, speed=speed, traffic_speed_mps=5.0)
    events += drive.finish()
    assert [e.kind for e in events] == ["min_speed_infractions"]
    assert events[0].percentage == pytest.approx(80.0, abs=2.0)
