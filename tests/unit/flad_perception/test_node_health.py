# SPDX-License-Identifier: Apache-2.0
"""The health says what is wrong, once it is and no longer than it is."""

from __future__ import annotations

from flad_perception.node_health import ERROR, OK, WARN, NodeHealth


def close(health, now_s, waiting_for=(), late=None, num_dropped=0):
    health.close_period(now_s, waiting_for=waiting_for, late=late or {}, num_dropped=num_dropped)
    return health.verdict()


def test_ticks_make_it_well_and_rate_is_of_the_period():
    health = NodeHealth("0123456789abcdef", now_s=100.0)
    assert health.verdict().level == WARN
    for _ in range(20):
        health.ticked(0.03, 0.02, ())
    assert close(health, 102.0).level == OK
    assert health.figures()["rate_hz"] == 10.0
    health.ticked(0.05, 0.02, ())
    close(health, 103.0)
    figures = health.figures()
    assert (figures["rate_hz"], figures["ticks"]) == (1.0, 21)
    assert (figures["latency_p50_s"], figures["latency_p99_s"]) == (0.03, 0.05)


def test_silence_names_what_is_waited_for():
    health = NodeHealth("0", now_s=0.0)
    verdict = close(health, 1.0, waiting_for=("rgb_left", "lidar"))
    assert verdict.level == WARN and "rgb_left, lidar" in verdict.message


def test_a_missing_sensor_is_named_in_its_period_and_counted_after_it():
    health = NodeHealth("0", now_s=0.0)
    health.ticked(0.1, 0.1, ("rgb_left",))
    health.ticked(0.1, 0.1, ("rgb_left", "lidar"))
    assert close(health, 1.0).message == "missing in 2 ticks: lidar 1, rgb_left 2"
    health.ticked(0.1, 0.1, ())
    assert close(health, 2.0).level == OK
    assert health.figures()["missing"] == "lidar 1, rgb_left 2"


def test_a_bad_message_is_told_once_and_stays_counted():
    health = NodeHealth("0", now_s=0.0)
    for now_s, level in ((1.0, WARN), (2.0, OK)):
        if now_s == 1.0:
            health.got_bad("lidar", "got 7 bytes")
        health.ticked(0.1, 0.1, ())
        verdict = close(health, now_s, late={"lidar": 2, "odometry": 1}, num_dropped=4)
        assert verdict.level == level
    figures = health.figures()
    assert (figures["bad_messages"], figures["messages_late"]) == ("lidar 1", 3)
    assert figures["ticks_dropped"] == 4


def test_a_tick_that_could_not_be_encoded_is_an_error_of_its_period():
    health = NodeHealth("0", now_s=0.0)
    health.failed("the rear computer is lost")
    health.ticked(0.1, 0.1, ())
    verdict = close(health, 1.0)
    assert verdict.level == ERROR
    assert (
        verdict.message == "1 ticks could not be encoded, the last one: the rear computer is lost"
    )
    health.ticked(0.1, 0.1, ())
    assert close(health, 2.0).level == OK
    assert health.figures()["ticks_failed"] == 1
