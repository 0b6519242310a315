# SPDX-License-Identifier: Apache-2.0
"""The PID against its definition written out, and LMDrive's law against numbers by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flad_planner.control import control_complaint
from flad_planner.lmdrive_law import LmdriveLaw, LmdriveLawConfig
from flad_planner.pid import WindowPid, WindowPidConfig


@pytest.mark.parametrize("seed", range(5))
def test_pid_is_gain_mean_and_last_difference(seed):
    rng = np.random.default_rng(seed)
    window = int(rng.integers(2, 50))
    kp, ki, kd = rng.uniform(0.1, 5.0, size=3)
    pid = WindowPid(WindowPidConfig(kp=kp, ki=ki, kd=kd, window=window))
    padded = np.zeros(window).tolist()

    for error in rng.normal(size=3 * window):
        padded.append(error)
        expected = kp * error + ki * np.mean(padded[-window:]) + kd * (padded[-1] - padded[-2])
        assert pid.step(error) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_reset_forgets_everything():
    pid = WindowPid(WindowPidConfig(kp=1.0, ki=1.0, kd=1.0, window=3))
    first = pid.step(2.0)
    pid.step(-1.0)
    pid.reset()

    assert pid.step(2.0) == first


def test_first_step_of_the_law_by_hand():
    # 6 m/s asked, 5 m/s driven, aim 4.5 m ahead and 0.5 m to the left.
    control = LmdriveLaw(LmdriveLawConfig()).step((3.0, 0.2), (6.0, 0.2 + 0.6), 5.0)

    left = math.degrees(math.atan2(0.5, 4.5)) / 90.0
    assert control.steer == pytest.approx(-0.8 * (1.25 + 0.75 / 40 + 0.3) * left)
    # The speed error is clipped to 0.35: 5 * 0.35 + ... is far above the cap.
    assert control.throttle == 0.75
    assert control.brake == 0.0


def test_small_speed_error_is_not_clipped():
    control = LmdriveLaw(LmdriveLawConfig()).step((3.0, 0.0), (6.0, 0.0), 5.95)

    assert control.throttle == pytest.approx((5.0 + 0.5 / 40 + 1.0) * 0.05)
    assert control.steer == 0.0


@pytest.mark.parametrize(
    "near, far, speed_mps, brakes",
    [
        ((0.0, 0.0), (0.04, 0.0), 0.0, True),  # 0.08 m/s asked: that is standing
        ((0.0, 0.0), (0.06, 0.0), 0.0, False),
        ((3.0, 0.0), (6.0, 0.0), 6.61, True),  # more than 1.1 times 6 m/s
        ((3.0, 0.0), (6.0, 0.0), 6.59, False),
        ((3.0, 0.0), (6.0, 0.0), 5.0, False),
    ],
)
def test_brake_rules(near, far, speed_mps, brakes):
    control = LmdriveLaw(LmdriveLawConfig()).step(near, far, speed_mps)

    assert control.brake == (1.0 if brakes else 0.0)
    assert not (control.brake and control.throttle)


def test_standing_vehicle_keeps_its_wheels_straight():
    aside = ((2.0, 2.0), (4.0, 4.0))
    assert LmdriveLaw(LmdriveLawConfig()).step(*aside, 0.0).steer == 0.0
    assert LmdriveLaw(LmdriveLawConfig()).step(*aside, 1.0).steer < 0.0  # left is negative


@pytest.mark.parametrize("seed", range(10))
def test_law_stays_within_carla_ranges(seed):
    rng = np.random.default_rng(seed)
    law = LmdriveLaw(LmdriveLawConfig())
    for _ in range(200):
        near, far = rng.normal(scale=20.0, size=(2, 2)).tolist()
        control = law.step(tuple(near), tuple(far), float(rng.normal(scale=10.0)))
        assert control_complaint(control.throttle, control.steer, control.brake) is None
        assert abs(control.steer) <= 0.8
        assert control.throttle <= 0.75


@pytest.mark.parametrize(
    "values, complaint",
    [
        ({"max_throttle": 0.0}, "max_throttle"),
        ({"steer_share": 1.5}, "steer_share"),
        ({"brake_below_mps": 0.0}, "brake_below_mps"),
    ],
)
def test_bad_knobs_are_named(values, complaint):
    with pytest.raises(ValueError, match=complaint):
        LmdriveLawConfig(**values)
