# SPDX-License-Identifier: Apache-2.0
"""The learning bench: who trains on what, how a vehicle trains, what is promised."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_training import TINY, TRAIN, make_packed

from flad_bringup.bench import learning_encoder
from flad_bringup.bench.learning import curves, light, rows, steps_of, virtual_vehicles
from flad_bringup.bench.learning_encoder import EncoderTrainer
from flad_bringup.bench.learning_frames import frame_table, near_lights, own_frames
from flad_perception.data.dataset import PackedDataset, PackedRun
from flad_perception.model.encoder import build_encoder
from flad_pipeline.aggregation.layout import ModelLayout, state_hash
from flad_pipeline.federated.report import ClientReport, RoundReport
from flad_pipeline.federated.trainer import FederatedConfig, FederatedTrainer
from flad_pipeline.federated.workload import VirtualVehicle, WorkloadConfig

FRAMES_A_RUN = 300


def made_up(num_runs=6, red_runs=frozenset(range(6))):
    """Runs of two towns; every fifth frame is near a light, red in half of them."""
    rng = np.random.default_rng(0)
    fields = [("run", "<i4"), ("light", "<i4"), ("light_state", "i1")]
    fields += [("light_distance_m", "<f4"), ("speed_mps", "<f4")]
    runs, rows_ = [], []
    for i in range(2 * num_runs):
        town = "Old" if i < num_runs else "New"
        runs.append(
            PackedRun(
                name=f"{town}_{i}",
                town=town,
                weather_id=i % 3,
                start=i * FRAMES_A_RUN,
                num_frames=FRAMES_A_RUN,
                folder=Path(),
            )
        )
        part = np.zeros(FRAMES_A_RUN, dtype=fields)
        part["run"] = i
        near = np.arange(FRAMES_A_RUN) % 5 == 0
        part["light_distance_m"] = np.where(near, 12.0, np.nan)
        part["light_state"] = np.where(near, 0, -1)
        red = near & (rng.random(FRAMES_A_RUN) < 0.5) & (i % num_runs in red_runs)
        part["light"] = np.where(red, 0, 1)
        rows_.append(part)
    return SimpleNamespace(runs=tuple(runs), table=np.concatenate(rows_), path=Path("made_up"))


def dealt(dataset, **other):
    values = {"num_vehicles": 4, "level": 2.0, "held_out": 0.3, "at_most": 1000, "seed": 3}
    return own_frames(dataset, {"New"}, **values | other)


def test_nobody_trains_on_a_run_that_is_looked_at_nor_on_another_town():
    dataset = made_up()

    own = dealt(dataset)

    looked_at = set(dataset.table["run"][own.evaluation].tolist())
    trained = [set(table.run.tolist()) for table in own.tables.values()]
    assert len(looked_at) == 2
    assert all(not looked_at & runs for runs in trained)
    assert all(dataset.runs[run].town == "New" for runs in (looked_at, *trained) for run in runs)
    together = np.concatenate([table.index for table in own.tables.values()])
    assert len(np.unique(together)) == len(together)
    assert set(own.groups.values()) == {"New"}


def test_vehicles_drive_in_the_weathers_that_are_asked_for():
    dataset = made_up()

    own = dealt(dataset, weathers=[1, 2])

    parts = [own.evaluation, *(table.index for table in own.tables.values())]
    runs = {dataset.runs[run] for part in parts for run in dataset.table["run"][part].tolist()}
    assert {run.weather_id for run in runs} == {1, 2}
    with pytest.raises(ValueError, match="0 runs of 'New' in these weathers"):
        dealt(dataset, weathers=[9])


def test_only_frames_near_a_light_are_looked_at_evenly_and_not_too_many():
    dataset = made_up()

    own = dealt(dataset, at_most=50)

    assert len(own.evaluation) == 50
    assert (near_lights(dataset, own.evaluation) == own.evaluation).all()
    assert len(dealt(dataset).evaluation) == 2 * FRAMES_A_RUN // 5


def test_an_evaluation_without_both_kinds_of_light_is_refused():
    found = dealt(made_up(red_runs={2}), seed=1)
    runs = {int(run) for run in made_up(red_runs={2}).table["run"][found.evaluation]}
    assert 6 + 2 in runs  # the only run with red lights was found

    with pytest.raises(ValueError, match="20 frames of a red light"):
        dealt(made_up(red_runs=set()))
    with pytest.raises(ValueError, match="needs 2"):
        own_frames(
            made_up(),
            {"Nowhere"},
            num_vehicles=2,
            level=0.0,
            held_out=0.3,
            at_most=9,
            seed=0,
        )


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return PackedDataset(make_packed(tmp_path_factory.mktemp("learning")), TINY)


def test_a_vehicle_trains_the_encoder_and_a_round_averages_it(packed):
    torch.manual_seed(0)
    model = build_encoder(TINY)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    halves = np.array_split(np.arange(len(packed)), 2)
    tables = {f"vehicle_{i}": frame_table(packed, half) for i, half in enumerate(halves)}
    local = EncoderTrainer(packed, TINY, TRAIN, tables, np.arange(4), np.arange(4), 3)

    def train(seed, steps=12, mu=0.0, number=1):
        return local.train(
            "vehicle_1", start, round_number=number, num_steps=steps, proximal_mu=mu, seed=seed
        )

    first, again, other = train(1), train(1), train(2)
    assert state_hash(first.state) == state_hash(again.state) != state_hash(other.state)
    assert state_hash(start) == state_hash(model.state_dict())  # as it was
    assert first.num_samples <= 12 * TRAIN.batch_size
    assert train(1, steps=40).loss < train(1, steps=2).loss

    def went(number):
        state = train(1, number=number).state
        moved = [(state[n] - start[n]).double().square().sum() for n in start]
        return float(torch.stack(moved).sum().sqrt())

    assert went(1) > 1.5 * went(2) > 3.0 * went(3) > 0.0  # the rate falls over the rounds

    vehicles = [
        VirtualVehicle(name=n, group="", num_samples=len(t), samples_per_s=9.0, dwell_s=99.0)
        for n, t in tables.items()
    ]
    workload = WorkloadConfig(batch_size=3, max_steps=2, compute_spread=0.0, dwell_spread=0.0)
    trainer = FederatedTrainer(
        FederatedConfig(active=2, workload=workload),
        ModelLayout.of(model),
        vehicles,
        local,
        start,
    )
    report = trainer.run_round()
    assert report.num_updates == 2
    assert report.model_hash == state_hash(trainer.state) != state_hash(start)
    assert all("light_balanced_accuracy" in figures for figures in report.figures.values())


def test_the_threshold_is_set_on_the_frames_that_are_given_before_a_look(packed, monkeypatch):
    seen = []

    def calibrate(model, batches):
        seen.append(sum(len(batch) for batch in batches))

    monkeypatch.setattr(learning_encoder, "calibrate_light", calibrate)
    state = build_encoder(TINY).state_dict()
    local = EncoderTrainer(packed, TINY, TRAIN, {}, np.arange(4), np.arange(6), 1)

    local.evaluate(state)
    local.evaluate_on(state, np.arange(4), calibration=None)
    local.evaluate_on(state, np.arange(4), calibration=np.arange(3))

    assert seen == [6, 3]


def figures(**towns):
    return {
        town: {"light_balanced_accuracy": value, "light_frames": 100.0}
        for town, value in towns.items()
    }


def report(number, *clients):
    return RoundReport(
        round=number,
        clients=tuple(
            ClientReport(client=name, num_steps=steps, seconds=5.0, missing=missing)
            for name, steps, missing in clients
        ),
        model_hash="",
        failed=None,
        seconds=5.0,
        figures={},
    )


def test_gains_are_points_over_the_start_and_over_each_baseline():
    after = figures(a=0.9, b=0.8)
    found = {
        row.name: row
        for row in rows(
            before=figures(a=0.8, b=0.7),
            threshold=figures(a=0.82, b=0.72),
            after=after,
            central=figures(a=0.84, b=0.72),
            alone=[figures(a=0.9, b=0.6), figures(a=0.6, b=0.9)],
            kept={"a": figures(a=0.95, b=0.1), "b": figures(a=0.1, b=0.7)},
            old=None,
            reports=[report(1, ("v0", 4, None), ("v1", 6, "late")), report(2, ("v0", 3, None))],
        )
    }

    assert found["learning_gain_points"].value == pytest.approx(10.0)
    assert found["learning_gain_points"].holds is True
    assert found["learning_over_central_points"].value == pytest.approx(7.0)
    assert found["learning_over_threshold_points"].value == pytest.approx(8.0)
    assert found["learning_over_local_points"].baseline_value == pytest.approx(0.0)
    assert found["learning_a_light_kept"].value == 0.95
    assert found["learning_b_light_kept"].ratio == pytest.approx(0.7 / 0.8)
    assert found["learning_steps"].value == 7
    assert found["learning_updates_missing"].value == 1
    assert found["learning_frames_looked_at"].value == 200
    assert light(after) == pytest.approx(0.85)


def test_the_curves_begin_at_the_start_and_leave_out_rounds_nobody_looked_at():
    rounds = [report(1), dataclasses.replace(report(2), figures=figures(a=0.9, b=0.8))]

    plot = curves(figures(a=0.8, b=0.7), rounds, figures(a=0.84, b=0.72), [figures(a=0.9, b=0.6)])

    np.testing.assert_allclose(plot.lines["federated, mean"], [(0.0, 0.75), (2.0, 0.85)])
    assert plot.lines["b"] == [(0.0, 0.7), (2.0, 0.8)]
    assert plot.lines["more central training"][-1] == pytest.approx((2.0, 0.78))
    assert ">0.7<" in plot.svg() and ">0<" in plot.svg()  # heights do not begin at nought


def test_vehicles_differ_in_compute_and_dwell_and_repeat_by_seed():
    own = dealt(made_up())
    first, again, other = (virtual_vehicles(own, seed=s) for s in (1, 1, 2))

    assert first == again != other
    assert len({v.dwell_s for v in first}) == len(first)
    assert steps_of([report(1, ("v0", 4, None)), report(2, ("v0", 4, "left"))]) == {"v0": 4}
