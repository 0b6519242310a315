# SPDX-License-Identifier: Apache-2.0
"""Training goes on after an interruption as if there had been none, and stops where it must."""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import pairwise

import pytest
import torch
from tiny_training import TINY, TRAIN, make_packed

from flad_common.error_codes import FladError
from flad_perception.data.dataset import PackedDataset
from flad_perception.model.encoder import build_encoder
from flad_perception.training.frames import split_frames
from flad_perception.training.run_log import RunLog
from flad_perception.training.trainer import Trainer


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield make_packed(tmp_path_factory.mktemp("training"))
    torch.set_num_threads(before)


@pytest.fixture
def trainer(packed, tmp_path):
    def make(out="run", train=TRAIN, config=TINY, **options):
        folder = tmp_path / out
        folder.mkdir(exist_ok=True)
        log = RunLog(folder, config, show_progress=False)
        frames = split_frames(PackedDataset(packed, config), train)
        return Trainer(
            build_encoder(config, train.seed),
            config,
            train,
            frames,
            log,
            folder / "checkpoint.pt",
            torch.device("cpu"),
            **options,
        )

    return make


def stop_after(num_steps):
    """Say so at the ``num_steps``-th question."""
    asked = iter(range(num_steps))
    return lambda: next(asked, None) is None


def same(a, b):
    assert a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("num_steps", [2, 4, 6])
def test_an_interrupted_run_ends_with_the_same_weights_bit_for_bit(trainer, num_steps):
    whole = trainer("whole")
    assert whole.fit() == "finished"

    first = trainer("parts", should_stop=stop_after(num_steps))
    assert first.fit() == "interrupted"
    assert 0 < first.state.step < whole.state.step
    torch.rand(7)  # whatever else this process draws
    second = trainer("parts")
    assert second.state.step == first.state.step
    assert second.fit() == "finished"

    assert second.state.step == whole.state.step
    assert same(second.best_model().state_dict(), whole.best_model().state_dict())
    a, b = (t._stepper.state_dict()["optimizer"]["state"] for t in (second, whole))
    assert all(same(a[i], b[i]) for i in b)
    assert not same(first.best_model().state_dict(), whole.best_model().state_dict())


def test_another_seed_gives_other_weights(trainer):
    runs = [trainer(f"s{seed}", dataclasses.replace(TRAIN, seed=seed)) for seed in (1, 2)]
    for run in runs:
        run.fit()

    assert not same(runs[0].best_model().state_dict(), runs[1].best_model().state_dict())


def test_a_checkpoint_of_another_configuration_is_refused_by_name(trainer):
    trainer(should_stop=stop_after(2)).fit()

    with pytest.raises(FladError, match=r"train\.lr is 0\.003 there and 0\.004 here"):
        trainer(train=dataclasses.replace(TRAIN, lr=0.004))
    with pytest.raises(FladError, match=r"encoder\.ffn_dim is 16 there and 32 here"):
        trainer(config=dataclasses.replace(TINY, ffn_dim=32))
    trainer(train=dataclasses.replace(TRAIN, checkpoint_minutes=1.0))  # that changes nothing


def test_a_damaged_checkpoint_is_refused(trainer, tmp_path):
    trainer(should_stop=stop_after(2)).fit()
    path = tmp_path / "run/checkpoint.pt"
    path.write_bytes(path.read_bytes()[:2000])

    with pytest.raises(FladError, match="cannot be read"):
        trainer()


def test_a_checkpoint_is_written_whole_or_not_at_all(trainer, tmp_path, monkeypatch):
    run = trainer(should_stop=stop_after(2))
    run.fit()
    path = tmp_path / "run/checkpoint.pt"
    before = path.read_bytes()

    def half(value, file):
        file.write(b"half a file")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="no space"):
        run.save()
    assert path.read_bytes() == before


def test_the_held_out_town_and_weathers_are_not_trained_on(packed):
    dataset = PackedDataset(packed, TINY)
    frames = split_frames(dataset, TRAIN)
    origin = {(r.town, r.weather_id): i for i, r in enumerate(dataset.runs)}
    run = dataset.table["run"]

    assert set(frames.training.run) == {origin["Town05", 8]}
    assert set(run[frames.other_weathers]) == {origin["Town05", 12]}
    assert set(run[frames.other_towns]) == {origin["Town02", 8]}
    assert len(frames.validation) == len(frames.other_weathers) > 0
    everything = dataclasses.replace(TRAIN, holdout_towns=("Town02", "Town05"))
    with pytest.raises(ValueError, match=r"no frames are left .*'Town05', 8.*'Town02', 'Town05'"):
        split_frames(dataset, everything)


def test_time_ends_a_run_and_stretches_its_schedule(trainer):
    now = iter(range(0, 100_000, 2))  # every look at the clock takes two seconds
    timed = dataclasses.replace(TRAIN, epochs=0, minutes=2.0, warmup=0.0, lr_floor=0.0)
    run = trainer(train=timed, clock=lambda: next(now))
    rates = []
    step = run._stepper.step
    run._stepper.step = lambda batch, factor: rates.append(factor) or step(batch, factor)

    assert run.fit() == "budget"
    assert 120.0 <= run.state.elapsed_s <= 150.0
    assert rates[0] > 0.9
    assert rates[-1] < 0.1
    assert all(a >= b for a, b in pairwise(rates))


def test_losses_that_are_not_finite_are_skipped_and_then_end_the_run(trainer):
    run = trainer()
    stepper = run._stepper
    batch = next(iter(run._loader.epoch(0)))
    bad_targets = dataclasses.replace(
        batch.targets, waypoints_m=torch.full_like(batch.targets.waypoints_m, math.nan)
    )
    bad = dataclasses.replace(batch, targets=bad_targets)
    stepper.step(batch, 1.0)
    weights = {k: v.clone() for k, v in stepper.model.state_dict().items()}
    for _ in range(TRAIN.max_bad_batches - 1):
        assert not stepper.step(bad, 1.0).taken
    assert same(weights, stepper.model.state_dict())

    assert stepper.step(batch, 1.0).taken  # the count begins anew
    for _ in range(TRAIN.max_bad_batches - 1):
        stepper.step(bad, 1.0)
    with pytest.raises(FladError, match=r"FLAD-602.*5 batches in a row.*waypoints nan.*w8"):
        stepper.step(bad, 1.0)
    assert stepper.num_skipped == 2 * TRAIN.max_bad_batches - 1
    assert all(torch.isfinite(v).all() for v in run.best_model().state_dict().values())


def test_slices_of_a_batch_give_the_gradient_of_the_waypoints_of_the_whole(trainer):
    # Detection's losses are normalised within a slice, the others are means: only those are equal.
    loss = dataclasses.replace(TRAIN.loss, traffic=0.0, speed=0.0)
    still = dataclasses.replace(TINY, dropout=0.0)
    norms = []
    for size in (0, 1):
        train = dataclasses.replace(TRAIN, loss=loss, micro_batch=size)
        run = trainer(f"m{size}", train, still)
        norms.append(run._stepper.step(next(iter(run._loader.epoch(0))), 1.0).gradient_norm)

    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_fp16_needs_a_gpu(trainer):
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        trainer(train=dataclasses.replace(TRAIN, precision="fp16"))


def test_bf16_trains_on_a_cpu(trainer):
    run = trainer(train=dataclasses.replace(TRAIN, precision="bf16", epochs=1))

    assert run.fit() == "finished"
    assert run.num_skipped == 0


def test_the_log_of_an_interrupted_run_is_whole(trainer, tmp_path):
    trainer(should_stop=stop_after(6)).fit()
    trainer().fit()

    epochs = json.loads((tmp_path / "run/metrics.json").read_text())["epochs"]
    assert [record["epoch"] for record in epochs] == [1, 2]
    assert "waypoint_l1_m_at_1.0s" in epochs[0]["towns"]["Town05"]
