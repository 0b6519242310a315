# SPDX-License-Identifier: Apache-2.0
"""The DQN: legal actions only, Eq. 12's reward, what it learns, its file, the environment."""

import itertools

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from swift_problems import small_problem

from flad_edge.swift import dqn_fills, dqn_training
from flad_edge.swift.compare import fill_planner
from flad_edge.swift.devices import load_devices
from flad_edge.swift.dqn_network import NetworkConfig, QNetwork, q_values, rest_shares
from flad_edge.swift.dqn_orders import fixed_orders
from flad_edge.swift.dqn_planner import (
    DqnPlanner,
    load_network,
    load_planner,
    save_network,
)
from flad_edge.swift.dqn_replay import play
from flad_edge.swift.dqn_rollout import masked
from flad_edge.swift.dqn_states import NUM_FEATURES, Scene, States, candidates, scale_of
from flad_edge.swift.dqn_training import DqnTrainConfig, scores_of, train_dqn
from flad_edge.swift.environment import PlanningEnv
from flad_edge.swift.exact_table import ExactTable
from flad_edge.swift.greedy import fill
from flad_edge.swift.pipeline import Pipeline
from flad_edge.swift.random_problems import RandomProblemConfig, random_problems
from flad_edge.swift.reward import RewardConfig


def _random_network(seed: int = 0) -> QNetwork:
    torch.manual_seed(seed)
    network = QNetwork(NetworkConfig(hidden=8))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


@pytest.mark.parametrize("seed", range(6))
def test_candidates_are_exactly_the_legal_stages(seed):
    problem = small_problem(seed, vehicles=3, room=1.2 + 0.1 * seed)
    n, last = problem.num_vehicles, problem.num_units
    # after one stage of vehicle 1 with two units, vehicle 1 first
    states = States.begin(problem, [1]).after(np.array([1]), np.array([2]))
    found = candidates(Scene(problem), states)
    listed = set(zip(found.vehicle.tolist(), found.end.tolist(), strict=True))
    legal = {
        (v, end)
        for v, end in itertools.product((0, 2), range(3, last))
        if end <= problem.reach[1, v, 2]
    }
    assert listed == legal
    first = candidates(Scene(problem), States.begin(problem, [1]))
    assert set(first.vehicle.tolist()) <= {1}
    assert first.end.max(initial=0) <= last - (n - 1)


@pytest.mark.parametrize("seed", range(4))
def test_estimates_are_costs_of_pipelines_that_exist(seed):
    problem = small_problem(seed, vehicles=4, units=9, room=2.5)
    scene = Scene(problem)
    found = candidates(scene, States.begin(problem, range(4)))
    table = ExactTable(problem)
    compared = 0
    for c in range(len(found.state)):
        v, end = int(found.vehicle[c]), int(found.end[c])
        optimum = table.onward(0b1111 & ~(1 << v), v)[end]
        if found.known[c]:
            assert np.isfinite(optimum)
            assert found.after[c] >= optimum * (1 - 1e-9)
            compared += 1
        # an order reaches the end wherever the largest stages along it do
        rests = (np.arange(4) != v)[None, :]
        for order in fixed_orders(problem, np.array([v]), rests, np.array([0])):
            assert sorted(order[0].tolist()) == [u for u in range(4) if u != v]
            if _fill_behind(problem, v, end, order[0]) is not None:
                assert found.known[c]
    assert compared


@pytest.mark.parametrize("seed", range(3))
def test_a_fill_of_the_best_order_is_near_the_optimum(seed):
    """On the optimum's own order, with its own first stage: only the cuts are the fill's."""
    problem = small_problem(seed, vehicles=4, units=9, room=3.0)
    best = ExactTable(problem).pipeline(0b1111, seed)
    order = np.array([best.order[1:]])
    end = np.array([best.stages[0].end])
    seconds, reached = dqn_fills._fill(problem, np.array([seed]), order, np.array([0]), end)
    assert reached[0]
    rest_s = problem.path_s(best) - problem.stage_s(best.stages[0])
    assert rest_s * (1 - 1e-9) <= seconds[0] <= 1.3 * rest_s


def _fill_behind(problem, vehicle, end, order) -> float | None:
    at, seconds, before = end, 0.0, vehicle
    for place, u in enumerate(order):
        following = len(order) - 1 - place
        to = min(int(problem.reach[following, u, at]), problem.num_units - following)
        if to <= at:
            return None
        seconds += float(problem.hop_s[before, u, at])
        seconds += float((problem.work[to] - problem.work[at]) * problem.seconds_per_flop[u])
        at, before = to, u
    return seconds if at == problem.num_units else None


@pytest.mark.parametrize("seed", range(5))
def test_any_network_plans_only_what_can_run(seed):
    problem = small_problem(seed, vehicles=4, units=9, room=1.5 + 0.2 * seed)
    plans = DqnPlanner(_random_network(seed))(problem, "path", range(4))
    assert set(plans) == set(range(4))
    for first, pipeline in plans.items():
        if pipeline is not None:
            assert pipeline.first == first and len(pipeline) == 4
            assert problem.objections(pipeline) == []


def test_who_is_said_to_have_a_way_has_one():
    """Where memory is tight and a vehicle may hold nothing at its place; by the exact table."""
    checked = 0
    config = RandomProblemConfig(vehicles=(5, 5), units=(8, 10), load=(0.6, 0.95))
    for problem in itertools.islice(random_problems(12, load_devices(), config), 25):
        n, table = problem.num_vehicles, ExactTable(problem)
        found = candidates(Scene(problem), States.begin(problem, range(n)))
        everybody = (1 << n) - 1
        for c in np.nonzero(found.known)[0]:
            vehicle, end = int(found.vehicle[c]), found.end[c]
            assert np.isfinite(table.onward(everybody & ~(1 << vehicle), vehicle)[end])
            checked += 1
    assert checked > 20


def test_a_known_way_goes_before_a_better_score_without_one():
    problem = next(
        p
        for p in (small_problem(s, vehicles=4, units=9, room=1.6) for s in itertools.count())
        if 0.0 < candidates(Scene(p), States.begin(p, [0])).known.mean() < 1.0
    )
    found = candidates(Scene(problem), States.begin(problem, [0]))
    liked = np.where(found.known, 5.0, -5.0)
    assert found.known[np.argmin(masked(found, liked))]
    assert not found.known[np.argmin(liked)]


def test_plans_do_not_depend_on_what_is_planned_beside_them():
    problem = small_problem(3, vehicles=4, units=9, room=3.0)
    planner = DqnPlanner(_random_network(1))
    together = planner(problem, "path", range(4))
    assert all(planner(problem, "path", [v])[v] == together[v] for v in range(4))


def test_q_is_the_return_of_the_environment():
    """With the true cost in the correction's place, Q of a state is what Eq. 12 still pays."""
    problem = small_problem(5, vehicles=3, room=3.0)
    env = PlanningEnv(lambda seed: iter([problem]))
    observation, _ = env.reset(seed=1, options={"first": 2})
    rng, rewards, expected = np.random.default_rng(0), [], []
    scene, states, spent = Scene(problem), States.begin(problem, [2]), 0.0
    done = False
    while not done:
        count = int(observation["mask"].sum())
        found = candidates(scene, states)
        assert count == len(found.state)
        assert np.array_equal(observation["features"][:count], found.features)
        action = int(rng.integers(count))
        expected.append((found, action, spent, int(states.left.sum())))
        spent += float(found.cost[action])
        states = states.after(found.vehicle[[action]], found.end[[action]])
        observation, reward, done, cut, info = env.step(action)
        rewards.append(reward)
        assert not cut
    path_s, scale_s = problem.path_s(info["pipeline"]), scale_of(scene)
    assert spent == pytest.approx(path_s)
    for number, (found, action, before, left) in enumerate(expected):
        shares = rest_shares(found, scene)
        correction = torch.full((len(shares),), (path_s - before) / scale_s) - torch.tensor(shares)
        ones = np.ones(len(shares))
        q = q_values(correction, shares, before * ones, left * ones, scale_s)
        assert float(q[action]) == pytest.approx(sum(rewards[number:]), rel=1e-5)


def test_an_illegal_action_ends_the_episode_without_indicators():
    problem = small_problem(5, vehicles=3, room=3.0)
    env = PlanningEnv(lambda seed: iter([problem]))
    observation, _ = env.reset(seed=1)
    _, reward, done, _, info = env.step(int(observation["mask"].sum()))
    assert done and "pipeline" not in info
    assert reward == -RewardConfig().dead_end


def test_the_environment_passes_gymnasiums_own_check():
    from gymnasium.utils.env_checker import check_env

    config = RandomProblemConfig(vehicles=(3, 4), units=(12, 20), load=(0.3, 0.5))
    devices = load_devices()
    env = PlanningEnv(lambda seed: random_problems(seed, devices, config))
    check_env(env, skip_render_check=True)


def test_demonstrations_carry_the_true_costs():
    problem = small_problem(2, vehicles=3, room=3.0)
    scene, table = Scene(problem), ExactTable(problem)
    rng = np.random.default_rng(0)
    policy = scores_of(_random_network(), scene)

    shown = play(scene, table, policy, rng, explore=0.0, shown=1.0)

    # whoever follows the demonstration reaches the optimum of every first vehicle
    optima = sorted(table.costs(0b111) / scale_of(scene))
    first_states = range(3)
    best = [float(shown.best[shown.state == m].min()) for m in first_states]
    assert sorted(best) == pytest.approx(optima, rel=1e-5)
    ended = shown.next_state == -1
    assert int(ended.sum()) == 3
    taken = shown.taken[shown.taken >= 0]
    assert torch.allclose(
        shown.best[taken] + shown.spent,
        torch.tensor([best[int(i) % 3] for i in range(9)]),
        rtol=1e-5,
    )


def _gaps(problem, plans) -> list[float]:
    table, everybody = ExactTable(problem), (1 << problem.num_vehicles) - 1
    return [
        np.inf if p is None else problem.path_s(p) / table.cost(everybody, v) - 1.0
        for v, p in plans.items()
    ]


def test_training_finds_the_optimum_where_the_estimate_does_not(monkeypatch):
    problem = next(
        p
        for p in (small_problem(s, vehicles=4, units=9, room=3.0) for s in itertools.count())
        if 0.05 < max(_gaps(p, fill_planner(p, "path", range(4)))) < np.inf
    )
    monkeypatch.setattr(dqn_training, "random_problems", lambda *_: itertools.repeat(problem))
    config = DqnTrainConfig(problems=120, network=NetworkConfig(hidden=32))

    network = train_dqn(config, load_devices())

    assert max(_gaps(problem, DqnPlanner(network)(problem, "path", range(4)))) < 0.01


def test_training_repeats():
    config = DqnTrainConfig(
        problems=6,
        network=NetworkConfig(hidden=8),
        random=RandomProblemConfig(vehicles=(3, 4), units=(12, 20), load=(0.3, 0.7)),
    )
    first, second = (train_dqn(config, load_devices()) for _ in range(2))
    untrained = QNetwork(config.network)
    assert torch.count_nonzero(first.layers[-1].weight) > 0
    assert torch.count_nonzero(untrained.layers[-1].weight) == 0
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_network_survives_its_file(tmp_path):
    network = _random_network()
    path = tmp_path / "q.safetensors"
    save_network(path, network)
    features = torch.randn(5, NUM_FEATURES)
    assert torch.equal(load_network(path)(features), network(features))


@pytest.mark.parametrize(
    "make, complaint",
    [
        (lambda path: None, "cannot be used as planner dqn"),
        (lambda path: path.write_bytes(b"nothing"), "cannot be used as planner dqn"),
        (lambda path: save_file({"a": torch.zeros(1)}, path), "not a planner's network"),
    ],
)
def test_files_that_are_no_network_are_named(tmp_path, make, complaint):
    path = tmp_path / "q.safetensors"
    make(path)
    with pytest.raises(ValueError, match=complaint):
        load_planner(path)


def test_a_network_of_other_features_is_refused():
    with pytest.raises(ValueError, match="reads 3 features, the code makes"):
        NetworkConfig(features=3)


def test_the_shipped_network_beats_phase_1():
    config = RandomProblemConfig(vehicles=(3, 5), units=(12, 24), load=(0.3, 0.7))
    planner, ours, greedy = load_planner(), [], []
    for problem in itertools.islice(random_problems(991, load_devices(), config), 8):
        plans = planner(problem, "path", range(problem.num_vehicles))
        for first, pipeline in plans.items():
            order = [first, *(v for v in range(problem.num_vehicles) if v != first)]
            other: Pipeline | None = fill(problem, order)
            if pipeline is not None and other is not None:
                ours.append(problem.path_s(pipeline))
                greedy.append(problem.path_s(other))
    assert len(ours) > 10
    assert np.mean(np.array(ours) / np.array(greedy)) < 0.9
