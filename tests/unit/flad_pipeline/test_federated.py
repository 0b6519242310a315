# SPDX-License-Identifier: Apache-2.0
"""Federated rounds on a model small enough to know what must come out."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from flad_common.error_codes import TRAINING_DIVERGED, FladError
from flad_pipeline.aggregation.layout import ModelLayout, state_hash
from flad_pipeline.aggregation.norms import GateConfig
from flad_pipeline.aggregation.privacy import PrivacyConfig
from flad_pipeline.aggregation.proximal import ProximalTerm
from flad_pipeline.aggregation.strategy import StrategyConfig
from flad_pipeline.federated.trainer import ClientResult, FederatedConfig, FederatedTrainer
from flad_pipeline.federated.workload import (
    VirtualVehicle,
    WorkloadConfig,
    outcome,
    planned_steps,
)

TOWNS = ("north", "south")
SIZES = (40, 10, 25, 60, 15, 30)
RATE = 0.2
PUNCTUAL = WorkloadConfig(
    batch_size=10, compute_spread=0.0, dwell_spread=0.0, max_steps=4, least_steps=1
)


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 1))


class Toy:
    """Whether a light is red, from three numbers; towns show it in different ones."""

    def __init__(self, sizes=SIZES):
        rng = np.random.default_rng(5)
        self.data = {f"v{i}": self.draw(rng, TOWNS[i % 2], n) for i, n in enumerate(sizes)}
        self.tests = {town: self.draw(rng, town, 400) for town in TOWNS}
        self.trained: list[str] = []
        self.seeds: list[int] = []
        self.rounds: list[int] = []
        self.broken: dict[str, object] = {}

    @staticmethod
    def draw(rng, town, num):
        red = rng.integers(0, 2, num)
        seen = rng.standard_normal((num, 3))
        seen[:, TOWNS.index(town)] += 3.0 * (2 * red - 1)
        return (
            torch.tensor(seen, dtype=torch.float32),
            torch.tensor(red, dtype=torch.float32)[:, None],
        )

    def train(self, vehicle, start, *, round_number, num_steps, proximal_mu, seed):
        self.trained.append(vehicle)
        self.seeds.append(seed)
        self.rounds.append(round_number)
        own = model()
        own.load_state_dict(dict(start))
        term = ProximalTerm(own, proximal_mu)
        seen, red = self.data[vehicle]
        for _ in range(num_steps):
            loss = nn.functional.binary_cross_entropy_with_logits(own(seen), red)
            own.zero_grad()
            loss.backward()
            term.add_gradient()
            with torch.no_grad():
                for parameter in own.parameters():
                    parameter.sub_(RATE * parameter.grad)
        state = own.state_dict()
        match self.broken.get(vehicle):
            case "nan":
                state["0.bias"].fill_(float("nan"))
            case "far":
                state["0.weight"].add_(1e3)
            case "diverged":
                raise FladError(TRAINING_DIVERGED, "the loss was not a number")
        return ClientResult(state=state, num_samples=min(len(red), 10 * num_steps), loss=0.0)

    def evaluate(self, state):
        own = model()
        own.load_state_dict(dict(state))
        return {
            town: {"accuracy": float(((own(seen) > 0) == (red > 0.5)).float().mean())}
            for town, (seen, red) in self.tests.items()
        }


def fleet(sizes=SIZES, samples_per_s=10.0, dwell_s=100.0):
    return [
        VirtualVehicle(
            name=f"v{i}",
            group=TOWNS[i % 2],
            num_samples=n,
            samples_per_s=samples_per_s,
            dwell_s=dwell_s,
        )
        for i, n in enumerate(sizes)
    ]


def federated(toy=None, vehicles=None, **config):
    values = {"active": 6, "workload": PUNCTUAL, **config}
    return FederatedTrainer(
        FederatedConfig(**values),
        ModelLayout.of(model()),
        vehicles or fleet(),
        toy or Toy(),
        model().state_dict(),
    )


def test_one_step_of_everybody_is_one_step_on_all_their_data():
    toy = Toy()
    one_step = replace(PUNCTUAL, max_steps=1, batch_size=100)

    class Whole(Toy):
        def train(self, vehicle, start, **more):
            result = super().train(vehicle, start, **more)
            return replace(result, num_samples=len(self.data[vehicle][1]))

    trainer = federated(Whole(), workload=one_step)
    trainer.run_round()
    pooled = Toy()
    pooled.data = {"v0": tuple(torch.cat(parts) for parts in zip(*toy.data.values(), strict=True))}
    wanted = pooled.train(
        "v0", model().state_dict(), round_number=1, num_steps=1, proximal_mu=0.0, seed=0
    ).state

    for name, tensor in wanted.items():
        torch.testing.assert_close(trainer.state[name], tensor)


def test_towns_learn_from_each_other_what_none_of_their_vehicles_knows():
    toy = Toy()
    start = toy.evaluate(model().state_dict())
    trainer = federated(toy, active=4)

    reports = list(trainer.run(25))

    alone = [
        toy.evaluate(
            toy.train(
                v, model().state_dict(), round_number=1, num_steps=100, proximal_mu=0.0, seed=0
            ).state
        )
        for v in toy.data
    ]
    for town in TOWNS:
        ours = reports[-1].figures[town]["accuracy"]
        assert ours > 0.97 > start[town]["accuracy"]
        assert ours > np.mean([figures[town]["accuracy"] for figures in alone]) + 0.1
    assert all(report.num_updates == 4 for report in reports)
    assert [set(report.figures) for report in reports] == [set(TOWNS)] * 25


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    def run(seed):
        trainer = federated(active=3, seed=seed, workload=replace(PUNCTUAL, compute_spread=0.5))
        return [(r.model_hash, [c.client for c in r.clients]) for r in trainer.run(4)]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_every_vehicle_and_round_has_a_seed_of_its_own_that_repeats():
    toys = [Toy(), Toy(), Toy()]
    for toy, seed in zip(toys, (1, 1, 2), strict=True):
        list(federated(toy, seed=seed).run(3))

    assert toys[0].rounds == [n for n in (1, 2, 3) for _ in SIZES]
    first, again, other = (toy.seeds for toy in toys)
    assert len(set(first)) == len(first) == 3 * len(SIZES)
    assert first == again
    assert not set(first) & set(other)


def test_a_run_goes_on_from_its_saved_state():
    for strategy in ("fedavg", "fedadam"):
        config = {"active": 3, "strategy": StrategyConfig(name=strategy)}
        through, before, after = (federated(**config) for _ in range(3))
        list(through.run(4))
        list(before.run(2))
        after.load_state_dict(copy.deepcopy(before.state_dict()))
        list(after.run(2))

        assert state_hash(after.state) == state_hash(through.state)
        assert after.state_dict()["norms"] == through.state_dict()["norms"]


def test_who_is_late_or_gone_is_named_and_does_not_count():
    toy = Toy()
    rough = replace(PUNCTUAL, compute_spread=1.5, dwell_spread=1.5, max_steps=0, deadline_s=8.0)
    trainer = federated(toy, vehicles=fleet(dwell_s=9.0), workload=rough)

    reports = list(trainer.run(12))

    missing = [c for r in reports for c in r.clients if c.missing]
    assert {c.missing for c in missing} == {"late", "left"}
    assert all(c.num_samples == 0 for c in missing)
    assert len(toy.trained) == sum(r.num_updates for r in reports)
    late = [r for r in reports if any(c.missing == "late" for c in r.clients)]
    assert {r.seconds for r in late} == {8.0}
    assert any(c.client in r.summary for r in late for c in r.clients if c.missing == "late")


def test_a_round_without_updates_leaves_the_model_and_says_so():
    trainer = federated(vehicles=fleet(samples_per_s=1e-3))

    report = trainer.run_round()

    assert report.clients == ()
    assert "0 updates" in report.failed
    assert state_hash(trainer.state) == state_hash(model().state_dict())


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("nan", "UPDATE_NOT_FINITE"), ("far", "UPDATE_TOO_FAR"), ("diverged", "TRAINING_DIVERGED")],
)
def test_a_broken_vehicle_is_refused_and_the_others_count(kind, reason):
    toy, sound = Toy(), Toy()
    toy.broken["v3"] = kind
    gate = GateConfig(max_norm=100.0)
    trainer = federated(toy, gate=gate)
    without = federated(sound, vehicles=[v for v in fleet() if v.name != "v3"], gate=gate)

    report = trainer.run_round()
    without.run_round()

    reasons = {c.client: c.missing for c in report.clients}
    assert reasons.pop("v3").startswith(reason)
    assert set(reasons.values()) == {None}
    for name, tensor in without.state.items():
        torch.testing.assert_close(trainer.state[name], tensor)


def test_krum_with_too_few_leaves_the_model():
    strategy = StrategyConfig(name="krum", num_byzantine=1)
    trainer = federated(active=4, strategy=strategy)

    assert "4 updates counted, krum needs 5" in trainer.run_round().failed
    assert state_hash(trainer.state) == state_hash(model().state_dict())
    assert federated(active=5, strategy=strategy).run_round().failed is None


@pytest.mark.parametrize("rule", ["median", "trimmed_mean", "krum"])
def test_a_liar_who_passes_the_gate_does_not_get_far_with_a_robust_rule(rule):
    toy = Toy()
    toy.broken["v3"] = "far"
    open_gate = GateConfig(norm_factor=0.0)
    start = model().state_dict()["0.weight"]

    robust = federated(toy, strategy=StrategyConfig(name=rule), gate=open_gate)
    plain = federated(toy, gate=open_gate)
    robust.run_round()
    plain.run_round()

    assert (robust.state["0.weight"] - start).abs().max() < 2.0
    assert (plain.state["0.weight"] - start).abs().min() > 100.0


def test_fedprox_stays_nearer_to_the_start():
    def moved(mu):
        strategy = StrategyConfig(name="fedprox", proximal_mu=mu)
        trainer = federated(strategy=strategy)
        trainer.run_round()
        return float((trainer.state["0.weight"] - model().state_dict()["0.weight"]).norm())

    assert moved(2.0) < 0.8 * moved(0.0)


def test_privacy_is_counted_and_bounds_what_a_round_does():
    privacy = PrivacyConfig(clip_norm=0.01, noise_multiplier=0.0)
    quiet = federated(active=3, privacy=privacy, seed=2)
    noisy = federated(active=3, privacy=replace(privacy, noise_multiplier=1.0))

    report = quiet.run_round()
    spent = [r.epsilon for r in noisy.run(3)]

    moved = quiet.state["0.weight"] - model().state_dict()["0.weight"]
    assert 0.0 < float(moved.norm()) <= 0.01 * report.num_updates / 3.0 + 1e-6
    assert report.epsilon == float("inf")
    assert 0.0 < spent[0] < spent[1] < spent[2] < 100.0
    sizes = {
        len(federated(active=3, privacy=privacy, seed=s).run_round().clients) for s in range(9)
    }
    assert len(sizes) > 1  # a coin each, not three of six


def test_privacy_does_not_go_with_rules_that_it_does_not_cover():
    with pytest.raises(ValueError, match="krum"):
        FederatedConfig(privacy=PrivacyConfig(clip_norm=1.0), strategy=StrategyConfig(name="krum"))


VEHICLE = VirtualVehicle(name="v", group="", num_samples=320, samples_per_s=16.0, dwell_s=1e9)
PLAIN = WorkloadConfig(batch_size=16, margin=1.0, upload_s=0.0, deadline_s=30.0, local_epochs=5)


@pytest.mark.parametrize(
    ("vehicle", "workload", "steps"),
    [
        ({}, {}, 30),  # one step a second, the deadline ends it
        ({"samples_per_s": 8.0}, {}, 15),
        ({"dwell_s": 12.0}, {}, 12),
        ({"dwell_s": 12.0}, {"upload_s": 2.0}, 10),
        ({}, {"margin": 2.0}, 15),
        ({"samples_per_s": 1e6}, {}, 100),  # five passes over its data
        ({"samples_per_s": 1e6, "num_samples": 321}, {}, 105),
        ({"samples_per_s": 1e6}, {"max_steps": 7}, 7),
        ({"dwell_s": 3.0}, {"least_steps": 4}, 0),
        ({"dwell_s": 0.0}, {}, 0),
        ({"num_samples": 0}, {}, 0),
    ],
)
def test_steps_follow_compute_dwell_time_and_data(vehicle, workload, steps):
    assert planned_steps(replace(VEHICLE, **vehicle), replace(PLAIN, **workload)) == steps


def test_who_turns_out_as_it_said_is_always_in_time():
    calm = replace(PLAIN, compute_spread=0.0, dwell_spread=0.0, upload_s=1.0)
    rng = np.random.default_rng(0)
    for rate in (1.0, 7.0, 300.0):
        for dwell_s in (5.0, 29.0, 500.0):
            vehicle = replace(VEHICLE, samples_per_s=rate, dwell_s=dwell_s)
            found = outcome(vehicle, planned_steps(vehicle, calm), calm, rng)
            assert found.missing is None
            assert found.seconds <= min(dwell_s, 30.0) + 1e-9


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: replace(VEHICLE, samples_per_s=0.0), "samples_per_s"),
        (lambda: replace(PLAIN, upload_s=40.0), "deadline_s"),
        (lambda: replace(PLAIN, margin=0.5), "margin"),
        (lambda: replace(PLAIN, max_steps=1), "least_steps"),
        (lambda: FederatedConfig(active=0), "active"),
        (lambda: federated(vehicles=[VEHICLE, VEHICLE]), "names of their own"),
        (
            lambda: FederatedTrainer(
                FederatedConfig(), ModelLayout.of(model()), [VEHICLE], Toy(), {}
            ),
            "is missing",
        ),
    ],
)
def test_what_cannot_be_is_said(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()
