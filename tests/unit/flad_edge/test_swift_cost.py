# SPDX-License-Identifier: Apache-2.0
"""Times of Eqs. 7 to 10, 1F1B stepped through, and what rotation moves."""

import dataclasses

import pytest
from swift_problems import best_by_trying, small_problem

from flad_edge.swift.cost import compute_time_s, module_flops, step_time_s, transfer_time_s
from flad_edge.swift.exact import best_plan
from flad_edge.swift.greedy import fill, greedy_plan
from flad_edge.swift.pipeline import Pipeline, Stage
from flad_edge.swift.problem import Problem
from flad_edge.swift.rotation import hand_over, rotation_order, rotation_s
from flad_edge.swift.schedule import one_f_one_b, simulated_step_s
from flad_edge.swift.units import CutCosts, ModelUnits, UnitCosts


def test_equations_by_hand():
    # Eq. 7 and 8: 4 samples of 1 TFLOP on an NX, mu 0.5, nu 1.3
    assert compute_time_s(module_flops(1e12, 4), 0.404e12) == pytest.approx(25.743, abs=1e-3)
    # Eq. 9: 3 MB on, 2 MB back, 100 Mbit/s with a tenth of overhead, 5 ms each way
    assert transfer_time_s(3e6, 2e6, 8.8e-8, 0.005) == pytest.approx(0.45)


def test_a_problem_prices_a_pipeline_as_the_equations_do():
    problem = small_problem(2)
    pipeline = Pipeline.of([2, 0, 1], [3, 5, 7])
    units, vehicles = problem.model.units, problem.cluster.vehicles
    stages = [
        sum(u.flops_forward + u.flops_backward for u in units[s.begin : s.end])
        * vehicles[s.vehicle].seconds_per_flop
        for s in pipeline
    ]
    hops = []
    for a, b, cut in ((2, 0, 3), (0, 1, 5)):
        crossing = problem.model.cuts[cut - 1]
        hops.append(
            transfer_time_s(
                crossing.forward_bytes,
                crossing.backward_bytes,
                problem.cluster.seconds_per_byte[a, b],
                problem.cluster.delay_s[a, b],
            )
        )
    assert problem.path_s(pipeline) == pytest.approx(sum(stages) + sum(hops))


def test_one_micro_batch_takes_the_path():
    for seed in range(4):
        problem = small_problem(seed, room=9.0)
        # the simulation takes each direction's own rate, Eq. 9 one for both
        rate = (problem.cluster.seconds_per_byte + problem.cluster.seconds_per_byte.T) / 2
        delay = (problem.cluster.delay_s + problem.cluster.delay_s.T) / 2
        cluster = dataclasses.replace(problem.cluster, seconds_per_byte=rate, delay_s=delay)
        alone = Problem(cluster, problem.model, micro_batches=1)
        pipeline = greedy_plan(alone)
        assert simulated_step_s(alone, pipeline) == pytest.approx(alone.path_s(pipeline))
        assert alone.step_s(pipeline) == pytest.approx(alone.path_s(pipeline))


def _equal_stages(num_stages: int, micro_batches: int, hop_bytes: float = 0.0) -> Problem:
    model = ModelUnits(
        name="equal",
        batch_size=1,
        units=tuple(
            UnitCosts(
                name=str(i),
                flops_forward=1.0,
                flops_backward=2.0,
                parameter_bytes=1.0,
                gradient_bytes=1.0,
                optimizer_bytes=2.0,
            )
            for i in range(num_stages)
        ),
        cuts=(CutCosts(forward_bytes=hop_bytes, backward_bytes=hop_bytes),) * (num_stages - 1),
    )
    like = small_problem(0, vehicles=num_stages)
    vehicles = tuple(dataclasses.replace(v, seconds_per_flop=1.0) for v in like.cluster.vehicles)
    cluster = dataclasses.replace(
        like.cluster,
        vehicles=vehicles,
        seconds_per_byte=0 * like.cluster.delay_s + 1.0,
        delay_s=0 * like.cluster.delay_s,
    )
    return Problem(cluster, model, micro_batches)


@pytest.mark.parametrize("num_stages, micro_batches", [(1, 3), (2, 2), (4, 4), (4, 8), (5, 2)])
def test_equal_stages_without_links_leave_the_known_bubble(num_stages, micro_batches):
    problem = _equal_stages(num_stages, micro_batches)
    pipeline = Pipeline.of(range(num_stages), range(1, num_stages + 1))
    expected = 3.0 * (micro_batches + num_stages - 1)
    assert simulated_step_s(problem, pipeline) == pytest.approx(expected)
    assert problem.step_s(pipeline) == pytest.approx(expected)


def test_a_slow_shared_channel_decides_the_step():
    problem = _equal_stages(3, 8, hop_bytes=10.0)
    pipeline = Pipeline.of(range(3), range(1, 4))
    air_s = 8 * (2 * 2 * 10.0)  # micro-batches, hops, directions
    assert simulated_step_s(problem, pipeline) >= air_s
    assert problem.step_s(pipeline) == pytest.approx(air_s, rel=0.1)
    alone = dataclasses.replace(problem.cluster, shared_channel=False)
    own_links = Problem(alone, problem.model, 8)
    assert simulated_step_s(own_links, pipeline) < simulated_step_s(problem, pipeline)


def test_1f1b_keeps_no_more_than_memory_counts():
    for following in range(4):
        kept = most = 0
        for which, _ in one_f_one_b(following, 6):
            kept += 1 if which == 0 else -1
            most = max(most, kept)
        assert (kept, most) == (0, following + 1)


def test_step_refuses_no_micro_batches():
    with pytest.raises(ValueError, match="micro_batches must be at least 1, got 0"):
        step_time_s([1.0], [], [], 0, shared_channel=True)


def test_rotation_moves_only_units_that_change_their_owner():
    problem = small_problem(4)
    old = Pipeline.of([0, 1, 2], [2, 4, 7])
    new = Pipeline.of([1, 0, 2], [1, 4, 7])

    moved = hand_over(problem, old, new)

    # units 0 (v0 to v1), 2 and 3 (v1 to v0)
    assert moved.units == 3
    assert moved.bytes == pytest.approx(sum(problem.model.units[u].state_bytes for u in (0, 2, 3)))
    assert hand_over(problem, old, old).bytes == 0.0


def test_rotation_goes_to_the_cheapest_next():
    problem = small_problem(4)
    pipelines = [
        Pipeline.of([0, 1, 2], [2, 4, 7]),
        Pipeline.of([2, 1, 0], [2, 4, 7]),
        Pipeline.of([1, 0, 2], [1, 4, 7]),
    ]
    order = rotation_order(problem, pipelines)
    assert sorted(order) == [0, 1, 2] and order[0] == 0
    first, second = (hand_over(problem, pipelines[0], pipelines[i]).seconds for i in order[1:])
    assert first <= second
    assert rotation_s(problem, [pipelines[i] for i in order]) > 0.0


@pytest.mark.parametrize("seed", range(6))
def test_filling_an_order_fails_only_where_the_order_cannot_fit(seed):
    problem = small_problem(seed, vehicles=3, room=1.1 + 0.15 * seed)
    tried = best_by_trying(problem, "path")
    filled = [fill(problem, order) for order in ([0, 1, 2], [0, 2, 1])]
    for pipeline in filled:
        assert pipeline is None or problem.objections(pipeline) == []
    assert any(filled) == (0 in tried)


def test_greedy_puts_the_stable_first_and_fills_them():
    problem = small_problem(1, room=4.0)
    pipeline = greedy_plan(problem)
    stable = max(range(3), key=lambda v: problem.stability[v])
    assert pipeline.first == stable
    stage = pipeline.stages[0]
    longer = Stage(stable, 0, stage.end + 1)
    too_long = problem.stage_bytes(longer, 2) > problem.cluster.vehicles[stable].available_bytes
    assert too_long or stage.end == problem.num_units - 2
    assert problem.path_s(pipeline) >= best_plan(problem, "path").cost_s
