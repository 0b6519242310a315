# SPDX-License-Identifier: Apache-2.0
"""The expert drives a toy car through the real planner law; nobody may be touched."""

import math

import numpy as np
import pytest
from toy_road import HALF_LENGTH, HALF_WIDTH, Other, corner, drive, straight

from flad_carla.expert.passing import Side, SideLane
from flad_carla.expert.scene import EgoState, Light, StopBox, StopLine

WALKER, VEHICLE, PROP = 2, 0, 3


def test_a_free_road_is_driven_at_the_limit():
    run = drive(straight(), duration_s=20.0, limit_mps=7.0)
    assert run.speeds[200:].max() < 7.0
    assert run.speeds[200:300].mean() == pytest.approx(0.9 * 7.0, abs=0.3)
    assert np.abs(run.sides).max() < 0.05


@pytest.mark.parametrize("radius", [7.0, 10.0, 20.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_corners_are_kept_to(radius, sign):
    run = drive(corner(radius, sign), duration_s=22.0)
    off = [abs(d.side_m) for d in run.decisions]
    assert max(off) < 0.6
    lateral = [
        v**2 / radius
        for v, d in zip(run.speeds, run.decisions, strict=True)
        if 62 < d.ego_s < 60 + radius
    ]
    assert max(lateral) < 4.0
    assert run.decisions[-1].ego_s > 120.0


def test_a_sideways_error_is_corrected_without_swinging():
    start = EgoState(0.0, 1.2, 0.0, 7.0, HALF_LENGTH, HALF_WIDTH)
    run = drive(straight(), duration_s=10.0, start=start)
    assert abs(run.sides[-1]) < 0.05
    assert run.sides.min() > -0.35


def test_it_stops_at_a_red_light_and_goes_on_green():
    line = StopLine(5, 80.0, 0.0, 0.0)
    run = drive(
        straight(),
        duration_s=40.0,
        stop_lines=[line],
        lights=lambda t: {5: Light.RED if t < 25.0 else Light.GREEN},
    )
    front = run.xs[480] + HALF_LENGTH  # 24 s
    assert run.speeds[480] < 0.05
    assert 77.0 < front < 80.0
    assert run.xs[-1] > 120.0


@pytest.mark.parametrize("yellow_at_s", [5.0, 7.0, 8.5, 9.0, 9.5, 10.0, 10.5, 11.0])
def test_nobody_crosses_on_red_whenever_yellow_comes(yellow_at_s):
    """Three seconds of yellow, then red: the tail is over the line in time, or the nose is not."""
    run = drive(
        straight(),
        duration_s=25.0,
        stop_lines=[StopLine(5, 80.0, 0.0, 0.0)],
        lights=lambda t: {
            5: Light.GREEN
            if t < yellow_at_s
            else Light.YELLOW
            if t < yellow_at_s + 3.0
            else Light.RED
        },
    )
    red = np.array(run.time_s) >= yellow_at_s + 3.0
    tail = run.xs - HALF_LENGTH - 1.0
    nose = run.xs + HALF_LENGTH
    assert np.all((tail[red] > 80.0) | (nose[red] < 80.0))


def test_a_stop_sign_is_stopped_at_and_left():
    box = StopBox(9, 80.0, 0.0, 0.0, 1.5, 1.5)
    run = drive(straight(), duration_s=35.0, stop_boxes=[box])
    stood = run.xs[run.speeds < 0.08]
    stood = stood[stood > 10.0] + HALF_LENGTH
    assert len(stood) > 0 and stood.min() > 76.5 and stood.max() < 80.5
    assert run.xs[-1] > 110.0


def test_it_follows_a_slower_car_at_a_safe_distance():
    run = drive(
        straight(400), duration_s=40.0, others=lambda t, e: [Other(x=30.0 + 4.0 * t, speed=4.0)]
    )
    assert min(run.gaps_m) > 3.0
    assert run.speeds[-100:].mean() == pytest.approx(4.0, abs=0.25)
    assert 4.0 < run.gaps_m[-1] < 16.0


def test_it_survives_a_car_that_brakes_hard():
    def others(t, ego):
        """6.5 m/s until 10 s, then 7 m/s^2 to a stop."""
        braking = min(max(t - 10.0, 0.0), 6.5 / 7.0)
        x = 18.0 + 6.5 * min(t, 10.0) + 6.5 * braking - 3.5 * braking**2
        return [Other(x=x, speed=6.5 - 7.0 * braking if t > 10.0 else 6.5)]

    run = drive(straight(300), duration_s=26.0, others=others)
    assert min(run.gaps_m) > 1.0
    assert run.speeds[-1] < 0.2


@pytest.mark.parametrize("speed", [0.8, 1.4, 2.2])
@pytest.mark.parametrize("begins_at", [40.0, 48.0, 52.0])
def test_a_crossing_pedestrian_is_let_across(speed, begins_at):
    """He starts when the car is at ``begins_at``, 3.5 m beside a crossing at x = 70."""
    state = {}

    def others(t, ego):
        if ego.x > begins_at:
            state.setdefault("t", t)
        walked = (t - state["t"]) * speed if "t" in state else 0.0
        moving = 0.0 < walked < 12.0
        return [
            Other(
                kind=WALKER,
                x=70.0,
                y=3.5 - min(walked, 12.0),
                yaw=-math.pi / 2,
                speed=speed if moving else 0.0,
                half_length=0.2,
                half_width=0.2,
            )
        ]

    run = drive(straight(), duration_s=40.0, others=others)
    touched = min(gap for gap, v in zip(run.gaps_m, run.speeds, strict=True) if v > 0.1)
    assert touched > 0.3
    assert run.xs[-1] > 110.0


def test_a_standing_pedestrian_beside_the_road_is_passed():
    walker = Other(kind=WALKER, x=60.0, y=3.2, half_length=0.2, half_width=0.2)
    run = drive(straight(), duration_s=25.0, others=lambda t, e: [walker])
    assert run.speeds[200:].min() > 6.0


@pytest.mark.parametrize("x, y", [(67.1, -1.5), (69.1, -0.6), (69.1, -0.9)])
def test_a_car_that_stands_where_our_front_swings_out_is_not_scraped(x, y):
    """We turn right, it waits to go straight on: its rear corner is just beside our path."""
    truck = Other(x=x, y=y, half_length=3.1, half_width=1.2)
    run = drive(corner(7.0), duration_s=35.0, others=lambda t, e: [truck] if t < 20.0 else [])
    assert min(run.gaps_m) > 0.25
    assert run.decisions[-1].ego_s > 90.0


def test_a_crossing_car_is_let_across():
    def others(t, ego):
        return [Other(x=70.0, y=35.0 - 5.0 * max(t - 5.0, 0.0), yaw=-math.pi / 2, speed=5.0)]

    run = drive(straight(junction=(60, 80)), duration_s=30.0, others=others)
    assert min(run.gaps_m) > 1.0
    assert run.xs[-1] > 110.0


def test_oncoming_traffic_in_its_own_lane_is_no_reason_to_brake():
    def others(t, ego):
        return [
            Other(agent_id=i, x=100.0 + 30.0 * i - 8.0 * t, y=-3.5, yaw=math.pi, speed=8.0)
            for i in range(6)
        ]

    run = drive(straight(), duration_s=22.0, others=others)
    assert run.speeds[120:400].min() > 7.0
    assert np.abs(run.sides).max() < 0.1


@pytest.mark.parametrize("drift_m", [1.5, 1.9])
def test_an_oncoming_car_in_our_lane_is_made_room_for(drift_m):
    """It drifts over the line for a while; there is room on the right."""

    def others(t, ego):
        gap = 120.0 - 6.0 * t - ego.x
        over = drift_m if 2.0 < gap < 38.0 else 0.0
        return [Other(x=120.0 - 6.0 * t, y=-3.5 + over, yaw=math.pi, speed=6.0, half_width=0.95)]

    run = drive(straight(), duration_s=25.0, others=others)
    assert min(run.gaps_m) > 0.25
    assert run.sides.max() > 0.3  # it gave way
    assert abs(run.sides[-1]) < 0.15  # and came back


SAME_LEFT = SideLane(Side.SAME, -3.5)
AGAINST = SideLane(Side.OPPOSITE, -3.5)
NONE = SideLane(Side.NONE, 0.0)


@pytest.mark.parametrize("kind", [PROP, VEHICLE])
@pytest.mark.parametrize("left", [SAME_LEFT, AGAINST])
def test_a_blocked_lane_is_left_and_taken_again(kind, left):
    run = drive(
        straight(300),
        duration_s=50.0,
        others=lambda t, e: [Other(kind=kind, x=90.0)],
        side_lanes=lambda i: (left, NONE),
    )
    assert min(run.gaps_m) > 0.3
    assert run.xs[-1] > 150.0
    assert abs(run.sides[-1]) < 0.2


def test_oncoming_traffic_is_waited_for_before_passing():
    """A car every two seconds until 30 s: the other lane is not taken before it is free."""

    def others(t, ego):
        oncoming = [
            Other(agent_id=10 + i, x=250.0 + 16.0 * i - 8.0 * t, y=-3.5, yaw=math.pi, speed=8.0)
            for i in range(8)
        ]
        return [Other(kind=PROP, x=90.0), *oncoming]

    run = drive(straight(300), duration_s=80.0, others=others, side_lanes=lambda i: (AGAINST, NONE))
    assert min(run.gaps_m) > 0.3
    assert run.xs[-1] > 150.0


def test_a_queue_at_a_red_light_is_joined_and_not_passed():
    line = StopLine(5, 100.0, 0.0, 0.0)
    queue = [Other(agent_id=1, x=96.0), Other(agent_id=2, x=89.0)]
    run = drive(
        straight(),
        duration_s=40.0,
        others=lambda t, e: queue,
        stop_lines=[line],
        lights=lambda t: {5: Light.RED},
        side_lanes=lambda i: (SAME_LEFT, NONE),
    )
    assert np.abs(run.sides).max() < 0.1
    assert 1.0 < run.gaps_m[-1] < 6.0


def test_the_same_drive_twice_is_the_same_to_the_last_bit():
    def run():
        return drive(
            corner(9.0), duration_s=15.0, others=lambda t, e: [Other(x=40.0 + 3.0 * t, speed=3.0)]
        )

    assert [d.forward for d in run().decisions] == [d.forward for d in run().decisions]
