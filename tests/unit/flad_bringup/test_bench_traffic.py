# SPDX-License-Identifier: Apache-2.0
"""Which steps of a federation under traffic count, and who arrives as whom."""

from __future__ import annotations

import itertools

import numpy as np

from flad_bringup.bench.traffic_node import PassCounter
from flad_bringup.bench.traffic_tally import Departure, Tally, counted, is_at_work
from flad_bringup.bench.traffic_trace import BEGIN_S, Stay, TrafficTrace, _dealt
from flad_edge.mobility.traces import Visit
from flad_pipeline.partition import Partition, Span
from flad_pipeline.round.order import Order, OrderKind, Stand


def order(epoch: int, vehicles: tuple[str, ...], from_step: int) -> Order:
    spans = tuple(Span(vehicle=v, first=i, last=i) for i, v in enumerate(vehicles))
    whole = Partition(
        digest="d", num_units=len(vehicles) + 1, heads_from=len(vehicles), stages=spans
    )
    return Order(
        kind=OrderKind.TRAIN,
        order=epoch,
        vehicles=vehicles,
        epoch=epoch,
        client="cluster",
        round=1,
        pipelines=(whole,),
        from_step=from_step,
        end_step=4,
    )


def line(epoch: int, step: int) -> dict[str, float]:
    return {"round": 1, "epoch": epoch, "step": step, "seconds": 2.0}


ORDERS = [order(1, ("a", "b", "c"), 0), order(2, ("a", "b"), 1)]
LOGS = {
    "a": [line(1, 0), line(1, 1), line(2, 1), line(2, 2)],
    "b": [line(1, 0), line(2, 1), line(2, 2)],
    "c": [line(1, 0)],
}


def test_a_step_that_was_gone_back_behind_is_in_vain_and_one_before_it_is_not():
    found = counted(ORDERS, LOGS, [{"round": 1, "counted": {"cluster": 12}}])
    # a's step 1 of the first epoch was taken again in the second
    assert (found.steps, found.lost_steps) == (3, 1)
    assert (found.useful_s, found.wasted_s) == (14.0, 2.0)


def test_nothing_of_a_client_that_was_not_averaged_counts():
    found = counted(ORDERS, LOGS, [{"round": 1, "counted": {}}])
    assert (found.steps, found.useful_s, found.wasted_s) == (0, 0.0, 16.0)


def test_a_departure_that_was_announced_and_still_interrupted_is_told_apart():
    departures = [
        Departure(vehicle="a", at_s=1.0, foreseen=True, interrupted=False),
        Departure(vehicle="b", at_s=2.0, foreseen=False, interrupted=True),
        Departure(vehicle="c", at_s=3.0, foreseen=True, interrupted=True),
    ]
    tally = Tally(
        useful_s=30.0,
        wasted_s=5.0,
        at_work_s=60.0,
        present_s=100.0,
        steps=3,
        lost_steps=1,
        rounds=1,
        departures=departures,
        let_go=1,
        recoveries=2,
    )
    assert tally.share == 0.5
    assert (tally.interrupted, tally.planned_interrupted) == (2, 1)


def test_only_who_has_not_ended_is_bound_to_its_client():
    assert is_at_work(Stand.TRAINING) and is_at_work(Stand.BROKEN)
    assert not is_at_work(Stand.DONE) and not is_at_work(Stand.IDLE)


def visit(arrives_s: int, stays_s: int) -> Visit:
    begin = BEGIN_S + arrives_s
    return Visit(vehicle=0, arrival_s=begin, departure_s=begin + stays_s, first_row=0)


def test_a_process_is_one_vehicle_at_a_time_and_away_between_two():
    numbers = np.random.default_rng(3)
    visits = [visit(int(t), int(numbers.integers(5, 60))) for t in range(0, 300, 4)]
    stays = _dealt(visits, np.full(len(visits), 30.0), 3, 250.0, gap_s=7.0)
    assert {stay.process for stay in stays} == {0, 1, 2}
    assert all(stay.visit.dwell_s >= 10.0 and stay.arrives_s < 250.0 for stay in stays)
    for process in range(3):
        own = [stay for stay in stays if stay.process == process]
        assert all(b.arrives_s - a.departs_s >= 7.0 for a, b in itertools.pairwise(own))


class _Rows:
    """The traces of one vehicle that drives east."""

    x_m, y_m = np.arange(100.0), np.zeros(100)
    speed_mps = np.full(100, 1.0)


def test_only_swift_knows_how_long_who_stays_and_random_clusters_not_even_where():
    stay = Stay(process=4, visit=visit(10, 50), said_s=40.0)
    trace = TrafficTrace(_Rows(), [stay])  # type: ignore[arg-type]
    assert list(trace.present(9.0)) == [] and list(trace.present(60.0)) == []
    assert list(trace.present(10.0)) == [stay]
    assert stay.foreseen
    swift = trace.word(stay, 30.0, "swift", "nano")
    static = trace.word(stay, 30.0, "static", "nano")
    random = trace.word(stay, 30.0, "random", "nano")
    assert (swift.name, swift.x_m, swift.dwell_s) == ("vehicle_4", 20.0, 20.0)
    assert (static.x_m, random.x_m) == (20.0, 0.0)
    assert static.dwell_s == random.dwell_s > 1e4


def test_a_pass_in_which_the_process_was_stopped_is_no_overrun_and_the_next_one_is():
    counter = PassCounter()
    counter.take(10, 0)
    counter.stopped()
    counter.take(10, 0)  # nothing has ended since
    counter.take(12, 1)  # the torn pass
    assert counter.overruns == 0
    counter.take(15, 2)
    assert counter.overruns == 1
    counter.stopped()
    counter.take(16, 2)  # it was stopped between two passes, and the first one was in time
    counter.take(19, 4)
    assert (counter.passes, counter.overruns) == (19, 3)
