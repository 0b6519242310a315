# SPDX-License-Identifier: Apache-2.0
"""Training learns, obeys words, goes on where it was cut off, and hands down to a student."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_adllm import CONFIG
from tiny_lessons import DIM, HASH, NUM_TOKENS, clip

from flad_common.error_codes import FladError
from flad_edge.adllm.config import TextConfig
from flad_edge.adllm.model import build_adllm
from flad_edge.training.answers import answers_of, swapped
from flad_edge.training.cli import new_tokenizer
from flad_edge.training.clip_file import YES
from flad_edge.training.config import AdLlmTrainConfig, SharesConfig
from flad_edge.training.corpus import Corpus
from flad_edge.training.examine import examine, some, summary_line
from flad_edge.training.figures import by_part, figures
from flad_edge.training.lessons import Lesson, group_of
from flad_edge.training.trainer import Trainer, begin_at_the_mean
from flad_planner.language.bank import load_bank
from flad_planner.language.kinds import Instruction, Kind

BANK = load_bank()
SIZES = replace(
    CONFIG,
    text=TextConfig(vocab_size=512),
    qformer=replace(CONFIG.qformer, layers=1, cross_every=1, dropout=0.1),
    llm=replace(CONFIG.llm, layers=1),
)
TRAIN = AdLlmTrainConfig(
    epochs=3,
    batch_frames=120,
    lr=0.01,
    ema_decay=0.5,
    shares=SharesConfig(max_repeat=1.0),
    holdout_towns=(),
    threads=1,
)
FAR_M = 6.0


def lesson(kind: Kind, seed: int, town: str = "Grid") -> Lesson:
    """The tokens tell the speed (their first number), only the words the side."""
    rng = np.random.default_rng(seed)
    speed = rng.uniform(1.0, 8.0, 5).astype(np.float32)
    tokens = rng.normal(0.0, 0.1, (5, NUM_TOKENS, DIM))
    tokens[:, :, 0] = speed[:, None] - 4.0
    side = {"left": 1.0, "right": -1.0}.get(group_of(kind), 0.0)
    times = 0.5 * np.arange(1, 6)
    ahead = speed[:, None] * times
    waypoints = np.stack([ahead, np.broadcast_to(side * FAR_M * times / 2.5, ahead.shape)], -1)
    completed = np.zeros(5, dtype=np.int8)
    completed[-1] = YES
    return Lesson(
        clip=clip(
            5,
            tokens=tokens.astype(np.float16),
            waypoints_m=waypoints.astype(np.float32),
            speed_mps=speed,
            completed=completed,
        ),
        group=group_of(kind),
        town=town,
        weather_id=seed % 3,
        instruction=Instruction(kind),
    )


KINDS = (Kind.TURN_LEFT, Kind.TURN_RIGHT, Kind.KEEP_STRAIGHT, Kind.T_JUNCTION_LEFT)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus(
        training=tuple(lesson(k, 10 * i + n) for n, k in enumerate(KINDS) for i in range(12)),
        other_weathers=tuple(lesson(k, 500 + n) for n, k in enumerate(KINDS)),
        other_towns=(),
        encoder_hash=HASH,
        num_versions=1,
        refused=(),
    )


def new_model(corpus, seed=1, **changes):
    config = replace(SIZES, **changes)
    model = build_adllm(config, new_tokenizer(config, BANK, None), seed=seed)
    begin_at_the_mean(model, corpus)
    return model


def trainer(corpus, path, train=TRAIN, **options):
    model = options.pop("model", None) or new_model(corpus)
    return Trainer(model, train, corpus, BANK, path / "checkpoint.pt", **options)


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    run = trainer(corpus, tmp_path_factory.mktemp("run"), replace(TRAIN, epochs=70))
    assert run.fit() == "finished"
    return run.best_model()


def test_it_learns_speed_from_tokens_and_the_side_from_words(trained, corpus):
    parts = examine(trained, corpus.other_weathers, BANK)

    assert parts["all"]["waypoint_l1_m"] < 0.65 * parts["all"]["waypoint_l1_m_constant_velocity"]
    assert parts["blind"]["waypoint_l1_m"] > 1.3 * parts["all"]["waypoint_l1_m"]
    assert parts["all"]["turns_to_the_right_side"] == 1.0
    exchanged = parts["words exchanged"]
    assert exchanged["goes_the_recorded_way_told_truly"] == 1.0
    assert exchanged["goes_the_recorded_way_told_the_opposite"] < 0.4
    assert "told the opposite still" in summary_line(parts)


def test_a_student_learns_what_its_teacher_says_where_nothing_is_known(trained, corpus, tmp_path):
    unknown = replace(
        corpus,
        training=tuple(
            replace(n, clip=replace(n.clip, waypoints_m=np.full_like(n.clip.waypoints_m, np.nan)))
            if i % 2
            else n
            for i, n in enumerate(corpus.training)
        ),
    )
    student = new_model(corpus, seed=5, llm=replace(SIZES.llm, ffn=12))
    train = replace(TRAIN, epochs=30, teacher_weight=1.0)
    run = trainer(unknown, tmp_path, train, model=student, teacher=trained)
    before = _distance(student, trained, corpus)
    run.fit()
    assert _distance(run.best_model(), trained, corpus) < 0.6 * before


def _distance(model, other, corpus) -> float:
    a, b = (answers_of(m, corpus.other_weathers, BANK).predicted_m for m in (model, other))
    model.train()
    return float(np.abs(a - b).mean())


def test_a_run_that_was_cut_off_ends_with_the_same_weights(corpus, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    steps = itertools.count()
    first = trainer(corpus, whole)
    first.fit()
    interrupted = trainer(corpus, cut, should_stop=lambda: next(steps) >= 7)
    assert interrupted.fit() == "interrupted"
    assert 0 < interrupted.state.step < first.state.step

    second = trainer(corpus, cut, model=new_model(corpus, seed=9))
    second.fit()

    assert second.state.step == first.state.step
    for (name, a), b in zip(
        first.best_model().state_dict().items(),
        second.best_model().state_dict().values(),
        strict=True,
    ):
        assert torch.equal(a, b), name


def test_a_checkpoint_of_other_settings_or_data_is_refused_by_name(corpus, tmp_path):
    trainer(corpus, tmp_path, replace(TRAIN, epochs=1)).fit()
    with pytest.raises(FladError, match=r"train\.lr is 0\.01 there and 0\.02 here"):
        trainer(corpus, tmp_path, replace(TRAIN, epochs=1, lr=0.02))
    less = replace(corpus, training=corpus.training[1:])
    with pytest.raises(FladError, match="data is"):
        trainer(less, tmp_path, replace(TRAIN, epochs=1))


def test_a_time_budget_ends_a_run_and_validation_is_not_counted(corpus, tmp_path):
    now = itertools.count()
    run = trainer(
        corpus, tmp_path, replace(TRAIN, epochs=0, minutes=1.0), clock=lambda: float(next(now))
    )
    run.pause(lambda: [next(now) for _ in range(1000)] and None)
    assert run.fit() == "budget"
    assert 60.0 <= run.state.elapsed_s < 100.0
    with pytest.raises(ValueError, match="neither epochs nor minutes"):
        trainer(corpus, tmp_path, replace(TRAIN, epochs=0))


def test_weights_that_are_not_finite_end_a_run(corpus, tmp_path):
    broken = new_model(corpus)
    with torch.no_grad():
        broken.waypoint_head[-1].weight[0, 0] = torch.nan
    with pytest.raises(FladError, match="5 batches in a row gave no finite gradient"):
        trainer(corpus, tmp_path, model=broken).fit()


def test_answers_of_a_long_clip_are_those_of_driving(trained, corpus):
    shown = corpus.training[0]
    many = replace(
        shown,
        instruction=None,
        clip=clip(60, "Turn left.", waypoints_m=np.ones((60, 5, 2), dtype=np.float32)),
    )
    asked = answers_of(trained, [many], BANK)
    history = trained.start(["Turn left."])
    tokens = torch.from_numpy(many.clip.tokens.astype(np.float32))
    driven = [trained.step(history, tokens[i : i + 1], [None]).waypoints_m for i in range(60)]
    np.testing.assert_allclose(asked.predicted_m, torch.cat(driven).numpy(), atol=1e-3)


def test_left_and_right_are_exchanged_where_there_are_any():
    assert swapped(lesson(Kind.T_JUNCTION_LEFT, 1)).kind is Kind.T_JUNCTION_RIGHT
    assert swapped(lesson(Kind.KEEP_STRAIGHT, 1)) is None


def test_figures_say_who_stands_and_who_starts(corpus):
    answers = answers_of(new_model(corpus), corpus.training[:2], BANK)
    n = len(answers)
    target = np.zeros((n, 5, 2), dtype=np.float32)
    target[: n // 2, :, 0] = [0.5, 1.0, 2.0, 3.0, 4.0]
    perfect = replace(
        answers, target_m=target, predicted_m=target, speed_mps=np.zeros(n, dtype=np.float32)
    )
    asleep = replace(perfect, predicted_m=np.zeros_like(target))
    assert figures(perfect)["starts_when_it_shall"] == 1.0
    assert figures(perfect)["stands_when_it_shall"] == 1.0
    assert figures(asleep)["starts_when_it_shall"] == 0.0
    assert figures(asleep)["stands_when_it_shall"] == 1.0
    assert figures(perfect)["waypoint_l1_m"] == 0.0
    assert figures(asleep)["waypoint_l1_m_at_2.5s"] == pytest.approx(4.0 * (n // 2) / n)
    assert {"all", "town Grid", "instruction left"} <= set(by_part(perfect))


def test_some_lessons_are_whole_ones_and_about_as_many_as_asked(corpus):
    chosen = some(corpus.training, 42)
    assert 42 <= sum(n.clip.num_frames for n in chosen) < 42 + 5
    everything = [id(lesson) for lesson in some(corpus.training, 10**6)]
    assert everything != [id(lesson) for lesson in corpus.training]
    assert sorted(everything) == sorted(id(lesson) for lesson in corpus.training)
