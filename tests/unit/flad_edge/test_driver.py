# SPDX-License-Identifier: Apache-2.0
"""Who drives, frame by frame, as the edge answers or does not."""

from __future__ import annotations

import pytest

from flad_edge.driver import Driver, DriverConfig, Ended, Who

PERIOD_NS = 200_000_000


def drive(answers: str, *, has_adm: bool = True, **config: object) -> str:
    """One letter per frame in (e: the edge answers), one out: E edge, A ADM, - nobody."""
    driver = Driver(DriverConfig(**config), has_adm=has_adm, aligned=True)
    out = ""
    for i, letter in enumerate(answers):
        stamp_ns = i * PERIOD_NS
        assert driver.takes(stamp_ns)
        if letter == "e":
            driver.answered(stamp_ns)
            driver.close(Who.ADLLM, Ended.ANSWERED)
            out += "E"
        elif driver.is_adms(stamp_ns):
            driver.close(Who.ADM, Ended.UNANSWERED)
            out += "A"
        else:
            driver.close(Who.NONE, Ended.UNANSWERED)
            out += "-"
    assert sum(driver.driven.values()) == sum(driver.ended.values()) == len(answers)
    return out


@pytest.mark.parametrize(
    ("answers", "driven"),
    [
        ("eeee", "EEEE"),
        # The plan of the last answer is followed for 0.5 s: one frame missing is nothing yet, and
        # at the second, 0.4 s after it, the ADM is there before the planner would brake.
        ("ee.ee", "EE-EE"),
        ("ee..ee", "EE-AEE"),
        ("ee.....e", "EE-AAAAE"),
        # An edge that never answers: as long again from the first frame.
        ("....e", "--AAE"),
    ],
)
def test_the_adm_drives_between_the_edges_silence_and_its_next_answer(answers, driven):
    assert drive(answers) == driven


def test_without_an_adm_nobody_drives_and_the_planner_stops_the_vehicle():
    assert drive("ee....e", has_adm=False) == "EE----E"


def test_a_longer_patience_is_kept():
    assert drive("e.....", fallback_after_s=0.65) == "E---AA"


def test_an_adm_that_drives_alone_drives_every_frame():
    driver = Driver(DriverConfig(drive_by="adm"), has_adm=True, aligned=True)
    assert not driver.asks_the_edge
    assert all(driver.takes(i * PERIOD_NS) and driver.is_adms(i * PERIOD_NS) for i in range(3))
    with pytest.raises(ValueError, match="there is no ADM"):
        Driver(DriverConfig(drive_by="adm"), has_adm=False, aligned=True)


def test_only_frames_of_the_models_rate_are_driven_by():
    in_step = Driver(DriverConfig(), has_adm=False, aligned=True)
    taken = [t for t in range(0, 1000, 50) if in_step.takes(t * 1_000_000)]
    assert taken == [0, 200, 400, 600, 800]
    # Ten pictures a second with a jitter, on no common grid: every second one.
    loose = Driver(DriverConfig(), has_adm=False, aligned=False)
    stamps_ms = [37, 136, 235, 337, 438, 535, 637, 736]
    assert [t for t in stamps_ms if loose.takes(t * 1_000_000)] == [37, 235, 438, 637]


def test_time_that_goes_back_is_another_drive():
    driver = Driver(DriverConfig(), has_adm=True, aligned=False)
    driver.takes(10 * PERIOD_NS)
    driver.answered(10 * PERIOD_NS)
    assert driver.begins_anew(0) and not driver.begins_anew(11 * PERIOD_NS)
    # A frame that comes late or twice is neither another drive nor driven by.
    for late_ns in (9 * PERIOD_NS, 10 * PERIOD_NS):
        assert not driver.begins_anew(late_ns) and not driver.takes(late_ns)
    driver.forget()
    assert driver.takes(0) and driver.silence_s(0) == 0.0 and not driver.is_adms(0)
    assert driver.why_not(0) == "the edge has not answered yet"


def test_in_lockstep_a_drive_that_was_left_at_its_first_frame_is_followed_by_another():
    driver = Driver(DriverConfig(), has_adm=False, aligned=True)
    assert driver.takes(PERIOD_NS)
    assert driver.begins_anew(PERIOD_NS)
    assert not driver.begins_anew(2 * PERIOD_NS)


@pytest.mark.parametrize(
    "values",
    [{"frame_period_s": 0.0}, {"fallback_after_s": float("nan")}, {"answer_within_s": -1.0}],
)
def test_times_that_cannot_be_are_named(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        DriverConfig(**values)
    with pytest.raises(ValueError, match="catch_up_frames"):
        DriverConfig(catch_up_frames=0)
