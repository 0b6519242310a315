# SPDX-License-Identifier: Apache-2.0
"""The exact planner against every pipeline there is, and against CP-SAT."""

import dataclasses
import itertools

import numpy as np
import pytest
from ortools.sat.python import cp_model
from swift_problems import best_by_trying, small_problem

from flad_edge.swift.compare import fill_planner
from flad_edge.swift.exact import best_plan, cost_s, everyone, exact_plans, targets_of
from flad_edge.swift.exact_table import MOST_VEHICLES, ExactTable
from flad_edge.swift.problem import Problem


@pytest.mark.parametrize("objective", ["path", "makespan"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_every_first_vehicle_gets_what_trying_everything_finds(seed, shared, objective):
    problem = small_problem(seed, vehicles=3 + seed % 2, shared=shared, room=1.0 + 0.15 * seed)
    tried = best_by_trying(problem, objective)

    found = exact_plans(problem, objective, targets_of(problem))

    assert {first for (_, first), answer in found.items() if answer} == set(tried)
    for (_, first), answer in found.items():
        if answer is not None:
            assert problem.objections(answer.pipeline) == []
            assert answer.pipeline.first == first
            assert answer.cost_s == pytest.approx(cost_s(problem, answer.pipeline, objective))
            assert answer.bound_s <= tried[first] * (1 + 1e-9)
            # where it is said to be proven, it is the optimum
            assert answer.gap > 1e-9 or answer.cost_s == pytest.approx(tried[first], rel=1e-9)


def test_random_problems_hold_both_kinds():
    rooms = [small_problem(s, room=1.0 + 0.15 * s) for s in range(8)]
    solved = [bool(best_by_trying(problem, "path")) for problem in rooms]
    assert True in solved and False in solved


@pytest.mark.parametrize("objective", ["path", "makespan"])
def test_departures_come_from_the_tables_of_the_whole(objective):
    problem = small_problem(5, vehicles=4, shared=False, room=2.6)
    everybody = everyone(problem)

    found = exact_plans(problem, objective, targets_of(problem, departures=1))

    for gone in range(4):
        left = Problem(problem.cluster.without(f"v{gone}"), problem.model, problem.micro_batches)
        tried = best_by_trying(left, objective)
        stay = [v for v in range(4) if v != gone]
        ours = {
            stay.index(first): answer.cost_s
            for (members, first), answer in found.items()
            if members == everybody & ~(1 << gone) and answer
        }
        assert ours == pytest.approx(tried)
        assert tried  # else nothing was compared


def test_cp_sat_finds_the_same_optimum():
    compared = 0
    for seed in range(4):
        problem = small_problem(seed, vehicles=4, units=12, room=2.0)
        ours = best_plan(problem, "path")
        theirs = _by_cp_sat(problem)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            compared += 1
            assert ours.cost_s == pytest.approx(theirs, rel=1e-5)
    assert compared


@pytest.mark.parametrize("limit", [np.inf, 2.0, 1.3])
@pytest.mark.parametrize("seed", range(6))
def test_a_table_is_what_plain_recursion_finds(seed, limit):
    """Six vehicles and limits: windows of units are narrow, and many states impossible."""
    problem = small_problem(seed, vehicles=6, units=16, room=1.5 + 0.5 * seed)
    least_s = problem.work[-1] / np.sum(1.0 / problem.seconds_per_flop)
    plain = _Plain(problem, limit * least_s)

    table = ExactTable(problem, stage_limit_s=limit * least_s, departures=1)

    for gone in (None, *range(6)):
        members = everyone(problem) & ~(0 if gone is None else 1 << gone)
        firsts = [v for v in range(6) if v != gone]
        wanted = [plain.cost(members, v, 0) for v in firsts]
        assert table.costs(members)[firsts] == pytest.approx(wanted, rel=1e-9)
        for first, cost in zip(firsts, wanted, strict=True):
            pipeline = table.pipeline(members, first)
            assert (pipeline is not None) == np.isfinite(cost)
            if pipeline is not None:
                assert problem.path_s(pipeline) == pytest.approx(cost, rel=1e-9)
                assert max(problem.stage_times_s(pipeline)) <= limit * least_s * (1 + 1e-9)


class _Plain:
    """The dynamic programme as it is written down: no windows, no blocks, no look-up of minima."""

    def __init__(self, problem: Problem, limit_s: float) -> None:
        self._problem, self._limit_s = problem, limit_s
        self._known: dict[tuple[int, int, int], float] = {}

    def cost(self, members: int, first: int, begin: int) -> float:
        key = members, first, begin
        if key not in self._known:
            self._known[key] = self._cost(members & ~(1 << first), first, begin)
        return self._known[key]

    def _cost(self, rest: int, first: int, begin: int) -> float:
        problem, last, best = self._problem, self._problem.num_units, np.inf
        reach = int(problem.reach[rest.bit_count(), first, begin])
        for end in range(begin + 1, reach + 1):
            seconds = (problem.work[end] - problem.work[begin]) * problem.seconds_per_flop[first]
            if seconds > self._limit_s or (begin == 0 and end < problem.model.min_first_units):
                continue
            if not rest:
                best = min(best, seconds if end == last else np.inf)
            for after in (v for v in range(problem.num_vehicles) if rest >> v & 1):
                onward = problem.hop_s[first, after, end] + self.cost(rest, after, end)
                best = min(best, seconds + onward)
        return float(best)


def test_too_many_vehicles_are_refused_with_what_to_do():
    problem = small_problem(1, vehicles=MOST_VEHICLES + 1, units=20)
    with pytest.raises(ValueError, match="at most 16 vehicles, got 17; use planner dqn"):
        ExactTable(problem)


def test_memory_depends_on_the_position():
    # the last stage keeps one micro-batch, the first of two keeps two
    problem = small_problem(3, vehicles=2, units=4)
    both = problem.held[-1] + 2 * problem.saved[-1]
    roomy = _with_memory(problem, both)
    tight = _with_memory(problem, float(problem.held[3] + problem.saved[3]))

    assert roomy.reach[1, 0, 0] == 4
    assert tight.reach[0, 0, 0] >= 3 > tight.reach[1, 0, 0]


def _with_memory(problem: Problem, bytes_each: float) -> Problem:
    vehicles = tuple(
        dataclasses.replace(v, available_bytes=float(bytes_each)) for v in problem.cluster.vehicles
    )
    cluster = dataclasses.replace(problem.cluster, vehicles=vehicles)
    return Problem(cluster, problem.model, problem.micro_batches)


def _by_cp_sat(problem: Problem) -> float | None:
    """Position p is held by a vehicle with units [a, b): one literal each, hops as products."""
    n, last = problem.num_vehicles, problem.num_units
    model = cp_model.CpModel()
    scale = 1e9
    stage, costs = {}, []
    for place, vehicle, begin in itertools.product(range(n), range(n), range(last)):
        reach = int(problem.reach[n - 1 - place, vehicle, begin])
        for end in range(begin + 1, reach + 1):
            if (begin == 0) != (place == 0) or (end == last) != (place == n - 1):
                continue
            literal = model.NewBoolVar("")
            stage[place, vehicle, begin, end] = literal
            seconds = (problem.work[end] - problem.work[begin]) * problem.seconds_per_flop[vehicle]
            costs.append((literal, round(seconds * scale)))
    for place in range(n):
        model.AddExactlyOne(v for (p, *_), v in stage.items() if p == place)
    for vehicle in range(n):
        model.AddExactlyOne(v for (_, w, *_), v in stage.items() if w == vehicle)
    for place, cut in itertools.product(range(n - 1), range(1, last)):
        hops = {}
        for a, b in itertools.permutations(range(n), 2):
            hops[a, b] = model.NewBoolVar("")
            costs.append((hops[a, b], round(float(problem.hop_s[a, b, cut]) * scale)))
        for v in range(n):
            leaves = [x for (p, w, _, e), x in stage.items() if (p, w, e) == (place, v, cut)]
            enters = [x for (p, w, s, _), x in stage.items() if (p, w, s) == (place + 1, v, cut)]
            model.Add(sum(leaves) == sum(x for (a, _), x in hops.items() if a == v))
            model.Add(sum(enters) == sum(x for (_, b), x in hops.items() if b == v))
    model.Minimize(sum(literal * cost for literal, cost in costs))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_time_in_seconds = 120.0
    status = solver.Solve(model)
    if status == cp_model.INFEASIBLE:
        return None
    assert status == cp_model.OPTIMAL
    return float(solver.ObjectiveValue()) / scale


def test_bounds_of_the_step_are_below_what_is_possible():
    problem = small_problem(11, vehicles=4, shared=True, room=3.0)
    found = best_plan(problem, "makespan")
    assert found is not None
    tried = min(best_by_trying(problem, "makespan").values())
    assert found.bound_s <= tried * (1 + 1e-9)
    assert np.isfinite(found.gap)


@pytest.mark.parametrize("objective", ["path", "makespan"])
def test_the_first_stage_keeps_raw_inputs(objective):
    problem = small_problem(4, vehicles=3, units=8, room=4.0)
    model = dataclasses.replace(problem.model, min_first_units=4)
    deep = Problem(problem.cluster, model, problem.micro_batches)

    found = exact_plans(deep, objective, targets_of(deep))

    tried = best_by_trying(deep, objective)
    assert {v: answer.cost_s for (_, v), answer in found.items() if answer} == pytest.approx(tried)
    assert min(tried.values()) > min(best_by_trying(problem, objective).values())
    assert all(p.stages[0].end >= 4 for p in fill_planner(deep, "path", range(3)).values() if p)
    shallow = best_plan(problem, objective).pipeline
    assert any("first stage has" in complaint for complaint in deep.objections(shallow))
