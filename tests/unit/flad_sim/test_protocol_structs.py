# SPDX-License-Identifier: Apache-2.0
"""Decoders trust nothing: what they return is finite and of the right type."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from flad_sim.errors import RequestRefused
from flad_sim.protocol import structs
from flad_sim.types import VehicleControl

NAN, INF = math.nan, math.inf


def _anything(rng: random.Random, depth: int = 0) -> object:
    """Whatever msgpack can carry, mostly lists, often nearly right."""
    if depth < 3 and rng.random() < 0.6:
        return [_anything(rng, depth + 1) for _ in range(rng.randrange(16))]
    return rng.choice([None, True, 0, -1, 2**63, 0.5, NAN, INF, "", "text", b"", b"\xff", {}])


DECODERS = [
    structs.decode_control,
    structs.decode_transform,
    structs.decode_weather,
    structs.decode_settings,
    structs.decode_description,
    structs.decode_walker_control,
    structs.decode_ackermann,
    structs.decode_ids,
]


@pytest.mark.parametrize("decode", DECODERS)
def test_a_decoder_refuses_what_it_cannot_read(decode: Callable[[object], object]) -> None:
    rng = random.Random(1)
    for _ in range(500):
        try:
            decode(_anything(rng))
        except RequestRefused as error:
            assert str(error)


@pytest.mark.parametrize("bad", [NAN, INF, -INF, 1e30, "1", None, True, [1.0]])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_no_pedal_takes_a_value_that_is_no_number(bad: object, at: int) -> None:
    wire: list[object] = [0.5, 0.1, 0.0, False, False, False, 0]
    wire[at] = bad
    with pytest.raises(RequestRefused, match=r"control\.(throttle|steer|brake)"):
        structs.decode_control(wire)


def test_controls_out_of_range_become_the_nearest_possible() -> None:
    sent = VehicleControl(throttle=3.0, steer=-7.0, brake=-1.0, reverse=True)
    clamped = structs.clamp_control(sent)
    assert clamped == VehicleControl(throttle=1.0, steer=-1.0, brake=0.0, reverse=True)


def test_controls_in_range_are_not_touched() -> None:
    sent = VehicleControl(throttle=0.3, steer=-0.7, brake=0.1)
    assert structs.clamp_control(sent) is sent


@pytest.mark.parametrize("yaw", [0.0, 180.0, -180.0, 359.0, -1234.5, 1e5, 540.0, -540.0])
def test_angles_keep_their_direction_and_lose_their_turns(yaw: float) -> None:
    t = structs.decode_transform([[0, 0, 0], [0, yaw, 0]])
    assert -180.0 < t.yaw <= 180.0
    assert math.cos(math.radians(t.yaw)) == pytest.approx(math.cos(math.radians(yaw)), abs=1e-6)


def test_settings_survive_the_round_trip() -> None:
    wanted = structs.EpisodeSettings(synchronous_mode=True, fixed_delta_s=0.05, max_substeps=3)
    assert structs.decode_settings(structs.encode_settings(wanted)) == wanted


@pytest.mark.parametrize("delta", [-0.1, NAN, INF, 11.0])
def test_an_impossible_step_is_refused(delta: float) -> None:
    with pytest.raises(RequestRefused, match="fixed_delta_seconds"):
        structs.decode_settings([True, False, [True, delta]])


def test_a_step_of_zero_means_variable_as_in_the_client() -> None:
    assert structs.decode_settings([False, False, [True, 0.0]]).fixed_delta_s is None
