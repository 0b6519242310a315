# SPDX-License-Identifier: Apache-2.0
"""Turns, batches, deadlines, histories and swaps of the edge's service."""

from __future__ import annotations

import pytest
from edge_service import ENCODER, Bench, CountingModel, release

from flad_common import error_codes as codes
from flad_edge.service.admission import AdmissionConfig
from flad_edge.service.core import EdgeServiceConfig
from flad_edge.service.driving_model import ServedModel
from flad_edge.service.fair_queue import FairQueue
from flad_edge.service.requests import Outcome


def test_who_waits_is_answered_together_up_to_the_batch_size():
    bench = Bench(EdgeServiceConfig(max_batch=3))
    for i in range(5):
        bench.ask(f"v{i}", instruction=f"say {i}")
    first, second = bench.run(), bench.run()
    assert bench.model.batches == [["say 0", "say 1", "say 2"], ["say 3", "say 4"]]
    assert [len(first), len(second), len(bench.run())] == [3, 2, 0]
    assert first[0].release == "first" and first[0].latency_s == pytest.approx(0.01)


def test_one_vehicle_is_answered_in_order_one_frame_per_batch():
    bench = Bench()
    bench.ask(stamp_s=1.0, frame=3.0)
    bench.ask(stamp_s=1.2, frame=4.0)
    ((first,), (second,)) = bench.run(), bench.run()
    assert (first.waypoints_m[0], second.waypoints_m[0]) == ((1.0, 3.0), (2.0, 7.0))


def test_overload_sheds_the_oldest_of_the_same_vehicle():
    bench = Bench(EdgeServiceConfig(max_waiting=2))
    bench.ask("quiet", 1.0)
    shed = [a for k in range(4) for a in bench.ask("loud", 1.0 + 0.2 * k)]
    assert [(a.head.vehicle, a.head.stamp_ns, a.outcome) for a in shed] == [
        ("loud", 1_000_000_000, Outcome.SHED),
        ("loud", 1_200_000_000, Outcome.SHED),
    ]
    assert all(a.error is codes.REQUEST_SHED for a in shed)
    assert [a.head.stamp_ns for a in bench.run()] == [1_000_000_000, 1_400_000_000]


@pytest.mark.parametrize(("vehicles", "max_batch"), [(7, 1), (7, 3), (5, 2)])
def test_no_vehicle_waits_longer_than_one_turn_of_the_others(vehicles, max_batch):
    bench = Bench(EdgeServiceConfig(max_batch=max_batch))
    served_in = {}
    bound = -(-vehicles // max_batch)
    for turn in range(40):
        for i in range(vehicles):  # all ask all the time, the first ones first
            bench.ask(f"v{i}", 1.0 + 0.2 * turn)
        for answer in bench.run():
            if answer.outcome is Outcome.ANSWERED:
                waited = turn - served_in.get(answer.head.vehicle, -1)
                assert waited <= bound
                served_in[answer.head.vehicle] = turn
    assert len(served_in) == vehicles


def test_what_is_late_before_its_turn_is_not_worked_on():
    bench = Bench()
    bench.ask("a", budget_s=0.5)
    bench.ask("b")
    bench.clock.now_s += 0.6
    late, answered = bench.run()
    assert (late.head.vehicle, late.outcome) == ("a", Outcome.LATE)
    assert late.error is codes.ANSWER_LATE and late.waypoints_m == ()
    assert answered.outcome is Outcome.ANSWERED
    assert [len(b) for b in bench.model.batches] == [1]


def test_what_is_late_after_the_model_is_dropped_but_remembered():
    bench = Bench(step_s=0.3)
    late = bench.ask_and_run(stamp_s=1.0, frame=2.0, budget_s=0.2)
    assert (late.outcome, late.waypoints_m) == (Outcome.LATE, ())
    assert late.latency_s == pytest.approx(0.3)
    assert bench.ask_and_run(stamp_s=1.2, frame=3.0).waypoints_m[0] == (2.0, 5.0)


def test_a_new_instruction_begins_a_new_history():
    bench = Bench()
    bench.ask_and_run(stamp_s=1.0)
    bench.ask_and_run(stamp_s=1.2)
    new = bench.ask_and_run(stamp_s=1.4, instruction="Turn right at the crossing.")
    assert new.waypoints_m[0][0] == 1.0
    assert bench.service.figures()["dropped_instruction"] == 1


def test_completion_ends_a_history_after_the_answer_that_says_so():
    bench = Bench(EdgeServiceConfig(completed_threshold=0.75))
    bench.model.completed = 0.75
    bench.ask_and_run(stamp_s=1.0)
    bench.model.completed = 0.875
    answer = bench.ask_and_run(stamp_s=1.2)
    assert answer.waypoints_m[0][0] == 2.0 and answer.completed == 0.875
    assert bench.ask_and_run(stamp_s=1.4).waypoints_m[0][0] == 1.0
    assert bench.service.figures()["dropped_completed"] == 2


def test_a_gap_between_frames_ends_a_history():
    bench = Bench(EdgeServiceConfig(max_gap_s=1.0))
    bench.ask_and_run(stamp_s=1.0)
    assert bench.ask_and_run(stamp_s=2.0).waypoints_m[0][0] == 2.0
    assert bench.ask_and_run(stamp_s=2.8).waypoints_m[0][0] == 3.0
    assert bench.ask_and_run(stamp_s=3.801).waypoints_m[0][0] == 1.0
    assert bench.service.figures()["dropped_gap"] == 1


def test_notices_reach_the_model_at_their_frame():
    bench = Bench()
    bench.ask_and_run(stamp_s=1.0)
    bench.ask_and_run(stamp_s=1.2, notice="Watch the pedestrian.")
    (kept,) = bench.service._histories._kept.values()
    assert kept.history.notices == [None, "Watch the pedestrian."]


def test_a_model_that_breaks_off_refuses_its_batch_and_the_next_one_goes_on():
    bench = Bench()
    bench.ask_and_run("a", 1.0)
    bench.ask("a", 1.2), bench.ask("b", 1.2)
    bench.model.fail = RuntimeError("out of memory")
    refused = bench.run()
    assert [a.error for a in refused] == [codes.DRIVING_MODEL_FAILED] * 2
    assert "RuntimeError: out of memory" in refused[0].text
    assert bench.failures == [bench.model.fail], "the log needs its traceback, once"
    bench.model.fail = None
    assert bench.ask_and_run("a", 1.4).waypoints_m[0][0] == 1.0, "half a frame may be in it"


def test_an_answer_that_is_not_finite_reaches_nobody():
    bench = Bench()
    bench.model.broken_frame = 9.0
    bench.ask("a", frame=9.0), bench.ask("b", frame=1.0)
    broken, good = bench.run()
    assert broken.error is codes.DRIVING_MODEL_FAILED and good.waypoints_m[0] == (1.0, 1.0)
    assert bench.service.figures()["dropped_failed"] == 1


def test_a_swap_takes_place_between_two_batches_and_drops_every_history():
    bench = Bench()
    bench.ask_and_run("a", 1.0)
    other = CountingModel(bench.clock)
    bench.ask("a", 1.2)
    bench.service.swap(ServedModel(release=release("second", adllm_hash="b" * 16), model=other))
    assert bench.service.figures()["release"] == "first"
    (answer,) = bench.run()
    assert (answer.release, answer.waypoints_m[0][0]) == ("second", 1.0)
    assert (len(bench.model.batches), len(other.batches)) == (1, 1)
    assert bench.service.figures()["dropped_swap"] == 1

    # And back: the first model starts afresh too.
    bench.service.swap(ServedModel(release=release(), model=bench.model))
    assert bench.ask_and_run("a", 1.4).waypoints_m[0][0] == 1.0


def test_a_swap_during_a_batch_waits_for_its_end():
    bench = Bench()
    other = CountingModel(bench.clock)
    step = bench.model.step

    def swapping(*args):
        bench.service.swap(ServedModel(release=release("second"), model=other))
        return step(*args)

    bench.model.step = swapping
    assert bench.ask_and_run(stamp_s=1.0).release == "first"
    assert bench.ask_and_run(stamp_s=1.2).release == "second"


def test_who_is_being_answered_keeps_its_name_and_its_place():
    bench = Bench(EdgeServiceConfig(admission=AdmissionConfig(max_vehicles=1)), step_s=60.0)
    step, refused = bench.model.step, []

    def slow(*args):
        said = step(*args)
        refused.extend(bench.ask("a", 9.0, session="second"))
        refused.extend(bench.ask("b"))
        return said

    bench.model.step = slow
    bench.ask_and_run("a", session="first")
    assert [a.error for a in refused] == [codes.VEHICLE_NAME_TAKEN, codes.EDGE_FULL]


def test_tokens_of_the_old_encoder_that_wait_are_refused_at_a_swap():
    bench = Bench()
    bench.ask("a"), bench.ask("b")
    encoder = "d" * 16
    assert encoder != ENCODER
    other = CountingModel(bench.clock)
    bench.service.swap(ServedModel(release=release("second", encoder_hash=encoder), model=other))
    assert [a.error for a in bench.run()] == [codes.TOKENS_REFUSED] * 2
    assert bench.ask_and_run("a", 1.2, encoder_hash=encoder).release == "second"


def test_who_waits_when_the_edge_stops_is_told():
    bench = Bench()
    bench.ask("a"), bench.ask("b"), bench.ask("b", 1.2)
    stopped = bench.service.close(bench.clock.now_s)
    assert [(a.head.vehicle, a.error) for a in stopped] == [
        (vehicle, codes.EDGE_STOPPED) for vehicle in ("a", "b", "b")
    ]
    assert not bench.service.num_waiting and not bench.run()
    assert bench.service.figures()["refused"] == bench.service.figures()["submitted"] == 3


def test_an_idle_moment_is_used_only_while_nobody_waits_and_no_swap_is_due():
    bench = Bench(EdgeServiceConfig(ahead_frames=7))
    bench.ask_and_run("a", 1.0), bench.ask_and_run("b", 1.0)
    bench.ask("a", 1.2)
    assert not bench.service.read_ahead() and bench.model.ahead == []
    bench.run()
    assert bench.service.read_ahead() and bench.service.read_ahead()
    assert not bench.service.read_ahead(), "there is nothing left to do"
    assert bench.model.ahead == [(2, 7)] * 3
    assert bench.service.figures()["frames_ahead"] == 2
    bench.service.swap(ServedModel(release=release("second"), model=bench.model))
    assert not bench.service.read_ahead() and len(bench.model.ahead) == 3
    never = Bench(EdgeServiceConfig(ahead_frames=0))
    never.ask_and_run()
    assert not never.service.read_ahead() and never.model.ahead == []


def test_a_model_that_fails_while_nobody_waits_is_reported_and_nobody_is_harmed():
    bench = Bench()
    bench.ask_and_run("a", 1.0)
    bench.model.fail = RuntimeError("out of memory")
    assert not bench.service.read_ahead()
    assert bench.failures == [bench.model.fail]
    bench.model.fail = None
    assert bench.ask_and_run("a", 1.2).waypoints_m[0][0] == 2.0


def test_diagnostics_say_rate_and_what_went_wrong():
    bench = Bench()
    for k in range(10):
        bench.ask_and_run(stamp_s=1.0 + 0.2 * k)
    bench.clock.now_s = 102.0
    assert bench.service.close_period(102.0).message == "5.0 answers a second"
    assert bench.service.busy_share == pytest.approx(10 * 0.01 / 2.0)
    bench.ask(contract_version=9)
    assert "1 refused; 0.0 answers" in bench.service.close_period(103.0).message
    assert "no request" in bench.service.close_period(104.0).message
    figures = bench.service.figures()
    assert figures["latency_p99_s"] == pytest.approx(0.01)
    assert (figures["answered"], figures["batch_mean"]) == (10, 1.0)


@pytest.mark.parametrize(
    "bad", [{"max_batch": 0}, {"max_waiting": 0}, {"max_gap_s": 0.0}, {"ahead_frames": -1}]
)
def test_impossible_settings_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        EdgeServiceConfig(**bad)
    with pytest.raises(ValueError, match="completed_threshold"):
        EdgeServiceConfig(completed_threshold=1.0)


def test_a_queue_lets_expired_items_go_without_costing_a_turn():
    queue = FairQueue(2)
    for vehicle, item in (("a", 1), ("a", 2), ("b", 3), ("c", 4)):
        queue.put(vehicle, item)
    taken = queue.take(2, lambda item: item == 1)
    assert (taken.batch, taken.expired) == ([2, 3], [1])
    assert len(queue) == 1 and "c" in queue and "a" not in queue
