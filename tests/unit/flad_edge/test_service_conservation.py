# SPDX-License-Identifier: Apache-2.0
"""Whatever arrives whenever: every request ends exactly once, and nobody starves."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

from edge_service import Bench, CountingModel, release, request
from hypothesis import given, settings
from hypothesis import strategies as st

from flad_edge.service.admission import AdmissionConfig
from flad_edge.service.core import EdgeServiceConfig
from flad_edge.service.driving_model import ServedModel
from flad_edge.service.requests import Outcome

ARRIVAL = st.fixed_dictionaries(
    {
        "wait_s": st.sampled_from([0.0, 0.0, 0.01, 0.1, 0.4, 3.0]),
        "vehicle": st.integers(0, 5),
        "session": st.sampled_from(["s1", "s1", "s1", "s2"]),
        "stamp_step_s": st.sampled_from([0.2, 0.2, 0.2, 0.2, 0.0, -0.4, 2.0]),
        "budget_s": st.sampled_from([0.0, 0.05, 0.3]),
        "instruction": st.sampled_from(["left", "left", "right", "bad\n"]),
        "contract_version": st.sampled_from([3, 3, 3, 3, 7]),
        "then": st.sampled_from(["run", "run", "wait", "wait", "swap", "break"]),
    }
)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    arrivals=st.lists(ARRIVAL, max_size=40),
    max_batch=st.integers(1, 4),
    max_waiting=st.integers(1, 3),
    max_vehicles=st.integers(2, 6),
    step_s=st.sampled_from([0.0, 0.02, 0.2, 1.0]),
)
def test_every_request_ends_exactly_once(arrivals, max_batch, max_waiting, max_vehicles, step_s):
    config = EdgeServiceConfig(
        max_batch=max_batch,
        max_waiting=max_waiting,
        admission=AdmissionConfig(max_vehicles=max_vehicles),
    )
    bench = Bench(config, step_s=step_s)
    stamps_s = defaultdict(lambda: 10.0)
    asked, answers = {}, []
    swaps = 0
    for number, a in enumerate(arrivals):
        bench.clock.now_s += a["wait_s"]
        stamps_s[a["vehicle"]] += a["stamp_step_s"]
        sent = request(
            f"v{a['vehicle']}",
            stamps_s[a["vehicle"]],
            session=a["session"],
            arrived_s=bench.clock.now_s,
            budget_s=a["budget_s"],
            instruction=a["instruction"],
            contract_version=a["contract_version"],
        )
        # A head of its own, also where name and stamp are those of another request.
        sent = replace(sent, head=replace(sent.head, arrived_s=bench.clock.now_s + number * 1e-9))
        asked[sent.head] = sent
        answers += bench.service.submit(sent)
        if a["then"] == "swap":
            swaps += 1
            contract = 3 if swaps % 2 == 0 else 7
            bench.service.swap(
                ServedModel(
                    release=release(f"r{swaps}", contract_version=contract),
                    model=CountingModel(bench.clock, step_s),
                )
            )
        bench.model.fail = RuntimeError("broken") if a["then"] == "break" else None
        if a["then"] in ("run", "break"):
            answers += bench.service.run_batch(bench.clock.now_s)
        figures = bench.service.figures()
        assert figures["submitted"] == len(answers) + figures["waiting"]
        assert figures["vehicles"] <= max_vehicles and figures["histories"] <= max_vehicles
    bench.model.fail = None
    rounds = 0
    while bench.service.num_waiting:
        before = bench.service.num_waiting
        answers += bench.service.run_batch(bench.clock.now_s)
        rounds += 1
        assert bench.service.num_waiting < before, "a batch that takes nothing would go on forever"
    assert rounds <= max_waiting * -(-6 // max_batch)
    answers += bench.service.run_batch(bench.clock.now_s)

    assert Counter(a.head for a in answers) == Counter(asked.keys())
    assert bench.service.outcomes() == {
        outcome: sum(a.outcome is outcome for a in answers) for outcome in Outcome
    }
    answered = defaultdict(list)
    for a in answers:
        assert (a.error is None) == (a.outcome is Outcome.ANSWERED) == bool(a.waypoints_m)
        assert a.error is None or a.text
        if a.outcome is Outcome.ANSWERED:
            budget_s = asked[a.head].budget_s
            assert budget_s == 0.0 or a.latency_s <= budget_s
            answered[a.head.vehicle, a.head.session].append(a.head.arrived_s)
    for arrivals_s in answered.values():
        assert arrivals_s == sorted(arrivals_s), "a vehicle is answered in the order it asked"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    loud=st.lists(st.integers(0, 4), min_size=1, max_size=6, unique=True),
    flood=st.integers(1, 6),
    max_batch=st.integers(1, 3),
    before=st.integers(0, 5),
)
def test_a_quiet_vehicle_is_served_within_one_turn_of_the_loud_ones(loud, flood, max_batch, before):
    config = EdgeServiceConfig(max_batch=max_batch, admission=AdmissionConfig(min_period_s=0.0))
    bench = Bench(config, step_s=0.001)
    stamps_s = defaultdict(lambda: 1.0)

    def shout():
        for i in loud:
            for _ in range(flood):
                stamps_s[i] += 0.2
                bench.ask(f"loud_{i}", stamps_s[i])

    for _ in range(before):
        shout()
        bench.run()
    shout()
    bench.ask("quiet")
    for _ in range(-(-(len(loud) + 1) // max_batch)):
        if any(a.head.vehicle == "quiet" for a in bench.run()):
            return
        shout()
    raise AssertionError("the quiet vehicle starved")
