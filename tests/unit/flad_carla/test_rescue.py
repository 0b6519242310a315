# SPDX-License-Identifier: Apache-2.0
"""The expert takes the wheel from a driver that is lost, and gives it back."""

from __future__ import annotations

from flad_carla.recorder.rescue import Rescue, RescueConfig
from flad_carla.run_log import BodyView, ControlView, ExpertView, PlanView, PoseView, TickEntry

ASKED = ControlView(throttle=0.123)


def _entry(time_s, speed_mps=5.0, wanted_mps=5.0, should_brake=False):
    pose = PoseView(x=0.0, y=0.0)
    ahead = [wanted_mps * 0.5 * (i + 1) for i in range(5)]
    plan = PlanView.from_vehicle_frame(pose, ahead, [0.0] * 5, stamp_s=time_s, source="expert")
    return TickEntry(
        frame=round(time_s * 20),
        sim_time_s=time_s,
        ego=BodyView(
            actor_id=1,
            type_id="vehicle.x",
            pose=pose,
            extent=(2.0, 1.0, 1.0),
            velocity=(speed_mps, 0.0, 0.0),
        ),
        control=ASKED,
        expert=ExpertView(target_speed_mps=wanted_mps, plan=plan, should_brake=should_brake),
    )


def _helped(sides, **moving):
    """Per tick of 0.1 s, whether the expert has the wheel."""
    rescue = Rescue(RescueConfig())
    return [
        rescue.apply(_entry(0.1 * i, **moving), side) is not ASKED for i, side in enumerate(sides)
    ], rescue


def test_off_the_path_the_expert_drives_until_it_is_back_and_some_time_has_passed():
    sides = [0.0] * 5 + [2.0] * 5 + [0.2] * 30
    helped, rescue = _helped(sides)
    # From tick 5 on; back on the path from tick 10, but 2 s have passed only at tick 25.
    assert helped == [False] * 5 + [True] * 20 + [False] * 15
    assert rescue.num_times == 1


def test_left_is_off_the_path_as_right_is():
    assert _helped([-2.0])[0] == [True]


def test_standing_for_no_reason_is_lost_and_waiting_as_the_expert_does_is_not():
    stuck, rescue = _helped([0.0] * 65, speed_mps=0.0)
    assert stuck.index(True) == 60 and rescue.num_times == 1
    waiting, _ = _helped([0.0] * 100, speed_mps=0.0, wanted_mps=0.0)
    assert not any(waiting)


def test_the_experts_control_goes_where_the_expert_wants():
    rescue = Rescue()
    control = rescue.apply(_entry(0.0, speed_mps=1.0, wanted_mps=6.0), 3.0)
    assert control.throttle > 0.3 and control.brake == 0.0


def test_driving_on_where_the_expert_brakes_to_a_stop_is_taken_over_in_time():
    helped, _ = _helped([0.0] * 15, speed_mps=8.0, wanted_mps=0.0, should_brake=True)
    assert helped.index(True) == 10 and all(helped[10:])


def test_a_car_that_the_expert_cannot_move_either_ends_the_run():
    rescue = Rescue()
    hopeless_at = None
    for tick in range(200):
        rescue.apply(_entry(0.1 * tick, speed_mps=0.0), 0.0)
        if rescue.is_hopeless:
            hopeless_at = tick
            break
    assert hopeless_at == 160  # 6 s until it takes over, 10 s of trying
    rescue.start(None)
    assert not rescue.is_hopeless
