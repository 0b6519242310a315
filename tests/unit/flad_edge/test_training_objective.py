# SPDX-License-Identifier: Apache-2.0
"""What counts in training, and what an epoch shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_lessons import clip, features, write_drive

from flad_edge.adllm.history import HistoryConfig
from flad_edge.adllm.losses import driving_loss
from flad_edge.training.config import SharesConfig, WindowConfig, load_train_config
from flad_edge.training.corpus import lesson_of_upload
from flad_edge.training.lessons import Drive, Lesson, LessonConfig
from flad_edge.training.objective import ObjectiveConfig, frame_weights, objective, weighted_error
from flad_edge.training.sampling import draw_epoch, interests, repeats
from flad_planner.language.bank import load_bank

PLAIN = ObjectiveConfig(
    start=1.0, stand=1.0, brake=1.0, turn=1.0, horizon_power=0.0, lateral=1.0, soft_m=0.0
)
HISTORY = HistoryConfig(max_frames=6, dropped_frames=4)


def straight(*speeds_mps: float) -> np.ndarray:
    """``[F, 5, 2]``: each frame's own steady speed."""
    times = 0.5 * np.arange(1, 6)
    ahead = np.asarray(speeds_mps)[:, None] * times
    return np.stack([ahead, np.zeros_like(ahead)], axis=-1).astype(np.float32)


def test_with_all_weights_one_it_is_lmdrives_objective():
    rng = torch.Generator().manual_seed(3)
    predicted, target = torch.randn(2, 7, 5, 2, generator=rng), torch.randn(2, 7, 5, 2)
    logits = torch.randn(2, 7, 2, generator=rng)
    completed = torch.randint(0, 2, (2, 7), generator=rng)
    valid = torch.rand(2, 7, generator=rng) < 0.6
    want = driving_loss(predicted, logits, target, completed.bool(), valid)

    got = objective(
        predicted[valid],
        logits[valid],
        target[valid],
        completed[valid].to(torch.int8),
        torch.ones(int(valid.sum())),
        PLAIN,
    )

    torch.testing.assert_close(got.total, want.total)
    torch.testing.assert_close(got.completed, want.completed)


def test_near_points_and_sides_count_as_told():
    target = torch.zeros(1, 5, 2)
    near, far, side = target.clone(), target.clone(), target.clone()
    near[0, 0, 0] = far[0, 4, 0] = side[0, 0, 1] = 1.0
    config = replace(PLAIN, horizon_power=1.0, lateral=3.0)
    one = torch.ones(1)
    total = (1 / 0.2 + 1 / 0.4 + 1 / 0.6 + 1 / 0.8 + 1.0) * 0.2 * 4.0
    assert weighted_error(near, target, one, config) == pytest.approx(1.0 / total)
    assert weighted_error(far, target, one, config) == pytest.approx(0.2 / total)
    assert weighted_error(side, target, one, config) == pytest.approx(3.0 / total)


def test_small_errors_count_by_their_square_and_large_ones_by_themselves():
    config = replace(PLAIN, soft_m=0.5)
    for error_m, loss in ((0.1, 0.01), (0.5, 0.25), (3.0, 2.75)):
        got = weighted_error(
            torch.full((1, 5, 2), error_m), torch.zeros(1, 5, 2), torch.ones(1), config
        )
        assert got == pytest.approx(loss)


def test_frames_without_a_label_have_no_part_even_as_nan():
    target = torch.zeros(2, 5, 2)
    target[1] = torch.nan
    predicted = torch.ones(2, 5, 2, requires_grad=True)
    loss = weighted_error(predicted, target, torch.tensor([1.0, 0.0]), PLAIN)
    loss.backward()
    assert loss.detach() == pytest.approx(1.0)
    assert (predicted.grad[1] == 0.0).all()
    with pytest.raises(ValueError, match="no frame of the batch has a label"):
        weighted_error(predicted, target, torch.zeros(2), PLAIN)


def test_frames_on_which_something_changes_count_more():
    config = ObjectiveConfig(start=5.0, stand=0.25, brake=3.0, turn=2.0)
    waypoints = straight(0.0, 6.0, 6.0, 6.0, 6.0, 6.0)
    waypoints[1] = straight(2.0)[0]  # stands, and shall go
    waypoints[2, 2:, 0] = waypoints[2, 1, 0]  # stops
    waypoints[3, :, 1] = [0.1, 0.3, 0.8, 1.4, 2.0]  # turns
    waypoints[5] = np.nan
    speeds = np.array([0.0, 0.0, 6.0, 6.0, 6.0, 6.0], dtype=np.float32)
    assert frame_weights(waypoints, speeds, config).tolist() == [0.25, 5.0, 3.0, 2.0, 1.0, 0.0]


@pytest.fixture
def lessons(tmp_path) -> list[Lesson]:
    run = write_drive(tmp_path)
    drive = Drive(run, features(run), LessonConfig())
    return [lesson for seed in range(4) for lesson in drive.lessons(load_bank(), seed)]


def epoch(lessons, number=0, restart=0.5, short=0.0, **shares):
    times = repeats(lessons, replace(SharesConfig(), **shares), 1)
    windows = WindowConfig(restart=restart, short=short, short_frames=3)
    seen = interests(lessons, PLAIN)
    return draw_epoch(lessons, times, seen, HISTORY, windows, batch_frames=20, seed=1, epoch=number)


def test_no_window_is_longer_than_a_history_and_no_batch_than_asked(lessons):
    for batch in epoch(lessons):
        assert len(batch) * max(map(len, batch)) <= 20
        for window in batch:
            assert 1 <= len(window) <= HISTORY.max_frames
            assert window.stop <= lessons[window.lesson].clip.num_frames


def test_an_epoch_depends_on_its_number_alone(lessons):
    assert epoch(lessons, 3) == epoch(lessons, 3)
    assert epoch(lessons, 3) != epoch(lessons, 4)


def test_without_restarts_windows_begin_where_the_rule_drops_frames(lessons):
    starts = {w.start for batch in epoch(lessons, restart=0.0) for w in batch}
    assert {0, 4, 8} <= starts
    assert all(start % HISTORY.dropped_frames == 0 for start in starts)
    anywhere = {w.start for batch in epoch(lessons, restart=1.0) for w in batch}
    assert any(start % HISTORY.dropped_frames for start in anywhere)


def test_short_windows_show_as_many_frames_of_more_places(lessons):
    few, many = (
        [w for n in range(8) for batch in epoch(lessons, n, short=short) for w in batch]
        for short in (0.0, 1.0)
    )
    assert max(map(len, many)) == 3
    assert len(many) > 1.5 * len(few)
    assert sum(map(len, many)) == pytest.approx(sum(map(len, few)), rel=0.1)


def test_a_bend_on_the_road_is_shown_oftener_than_the_straight_before_it():
    steady = np.full(30, 6.0, dtype=np.float32)
    straight_on = lesson_of_upload(clip(30, waypoints_m=straight(*[6.0] * 30), speed_mps=steady))
    waypoints = straight(*[6.0] * 30)
    waypoints[24:28, 4, 1] = 3.0
    bend = lesson_of_upload(clip(30, waypoints_m=waypoints, speed_mps=steady))
    seen = interests([straight_on, bend], ObjectiveConfig(turn=4.0))
    assert seen[0].frames == () and seen[1].frames == (24, 25, 26, 27)
    assert seen[1].factor == pytest.approx(1.4 * seen[0].factor)
    assert seen[0].factor + seen[1].factor == pytest.approx(2.0)

    shown = Counter()
    windows = WindowConfig(short=1.0, short_frames=4, focus=1.0)
    for number in range(10):
        drawn = draw_epoch(
            [bend], {"": 1.0}, [seen[1]], HISTORY, windows, batch_frames=20, seed=1, epoch=number
        )
        for window in (w for batch in drawn for w in batch):
            assert any(window.start <= f < window.stop for f in seen[1].frames)
            shown.update(range(window.start, window.stop))
    assert set(shown) == set(range(21, 30))


def test_shares_decide_which_instructions_are_shown(lessons):
    shown = Counter()
    wanted = {"left": 0.7, "right": 0.1, "follow": 0.2, "straight": 0.0, "start": 0.0}
    for number in range(20):
        for batch in epoch(lessons, number, speed=0.0, change=0.0, max_repeat=99.0, **wanted):
            for window in batch:
                shown[lessons[window.lesson].group] += len(window)
    total = sum(shown.values())
    assert set(shown) == {"left", "right", "follow"}
    assert 0.5 < shown["left"] / total < 0.85
    assert shown["left"] > 3 * shown["right"]


def test_an_upload_without_a_kind_is_learned_in_its_own_words():
    lesson = lesson_of_upload(clip(5, "Please go round the corner."))
    assert lesson.group == "" and lesson.instruction is None
    assert sum(map(len, epoch([lesson]))) >= 1


def test_the_configurations_that_ship_hold_together():
    assert load_train_config("tiny").minutes > 0.0
    assert load_train_config("adm").teacher_weight > 0.0
    with pytest.raises(ValueError, match=r"has no adllm_huge\.yaml; it has adm, tiny"):
        load_train_config("huge")
    with pytest.raises(ValueError, match="phases must be 1 or 2, got 3"):
        replace(load_train_config("tiny"), phases=3)
