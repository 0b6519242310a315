# SPDX-License-Identifier: Apache-2.0
"""Average precision against a threshold-by-threshold recount, the others against cases by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flad_perception.metrics import (
    FrameBoxes,
    average_precision,
    balanced_accuracy,
    constant_velocity_m,
    waypoint_l1_m,
)

NOTHING = np.zeros((0, 2))


def boxes(scores, centres, truth, ignored=NOTHING):
    return FrameBoxes(
        scores=np.asarray(scores, dtype=float),
        centres_m=np.asarray(centres, dtype=float).reshape(-1, 2),
        truth_m=np.asarray(truth, dtype=float).reshape(-1, 2),
        ignored_m=np.asarray(ignored, dtype=float).reshape(-1, 2),
    )


def _recount(frames, match_m, threshold):
    """Right and wrong of what stays at a threshold, matched from nothing, object by object."""
    right = wrong = 0
    for f in frames:
        left = [tuple(p) for p in f.truth_m]
        shown = sorted(
            ((s, tuple(c)) for s, c in zip(f.scores, f.centres_m, strict=True) if s >= threshold),
            reverse=True,
        )
        for _, centre in shown:
            near = sorted((math.dist(centre, p), p) for p in left)
            if near and near[0][0] <= match_m:
                left.remove(near[0][1])
                right += 1
            elif not any(math.dist(centre, p) <= match_m for p in f.ignored_m):
                wrong += 1
    return right, wrong


def _area_by_thresholds(frames, match_m):
    """The curve of every threshold there is; under it, the best precision from each recall on."""
    total = sum(len(f.truth_m) for f in frames)
    points = []
    for threshold in sorted({s for f in frames for s in f.scores}):
        right, wrong = _recount(frames, match_m, threshold)
        if right + wrong:
            points.append((right / total, right / (right + wrong)))
    area = 0.0
    for k in range(total):  # recall has only these steps
        area += max((p for r, p in points if r >= (k + 1) / total - 1e-12), default=0.0) / total
    return area


def _ugly_frames(rng):
    frames = []
    for _ in range(int(rng.integers(1, 8))):
        truth = rng.uniform(-6, 6, size=(rng.integers(0, 5), 2))
        ignored = rng.uniform(-6, 6, size=(rng.integers(0, 3), 2))
        near = truth + rng.normal(0, 1.5, size=truth.shape)
        centres = np.concatenate([near, near, rng.uniform(-6, 6, size=(rng.integers(0, 6), 2))])
        # Scores of a few values only: across frames they tie, within one they never do.
        scores = rng.permutation(np.linspace(0.1, 0.9, 20))[: len(centres)]
        frames.append(boxes(scores, centres, truth, ignored))
    frames.append(boxes([0.5], [(0.0, 0.0)], [(0.3, 0.0)]))
    return frames


@pytest.mark.parametrize("seed", range(30))
def test_average_precision_is_the_area_counted_threshold_by_threshold(seed):
    frames = _ugly_frames(np.random.default_rng(seed))

    assert average_precision(frames, 2.0) == pytest.approx(_area_by_thresholds(frames, 2.0))


def test_average_precision_by_hand():
    # Right, wrong, right: precision 1 up to recall 1/2, then 2/3.
    frames = [boxes([0.9, 0.8, 0.7], [(0, 0), (9, 9), (5, 0)], [(0, 1), (5, 1)])]

    assert average_precision(frames) == pytest.approx(0.5 * 1.0 + 0.5 * 2 / 3)


def test_a_second_detection_of_one_vehicle_is_wrong_and_not_taken_by_another_frame():
    twice = boxes([0.9, 0.8], [(0, 0), (0.1, 0)], [(0, 0)])
    missed = boxes([], [], [(0, 0)])

    assert average_precision([twice, missed]) == pytest.approx(0.5)


def test_what_need_not_be_found_costs_nothing_and_hides_nothing():
    frame = boxes([0.9, 0.8, 0.7], [(5, 5), (0, 0), (5.5, 5)], [(0, 0)], ignored=[(5, 6)])

    assert average_precision([frame]) == 1.0


def test_average_precision_without_truth_or_detections():
    assert math.isnan(average_precision([boxes([0.9], [(0, 0)], [])]))
    assert average_precision([boxes([], [], [(0, 0)])]) == 0.0


def test_balanced_accuracy_gives_constant_answers_one_half():
    truth = [1] * 95 + [0] * 5

    assert balanced_accuracy([1] * 100, truth) == pytest.approx(0.5)
    assert balanced_accuracy(truth, truth) == 1.0
    assert balanced_accuracy([0] * 100, truth) == pytest.approx(0.5)
    # 19 of 20 greens and 2 of 5 reds.
    predicted = [1] * 90 + [0] * 5 + [0, 0, 1, 1, 1]
    assert balanced_accuracy(predicted, truth) == pytest.approx((90 / 95 + 2 / 5) / 2)
    assert math.isnan(balanced_accuracy([], []))
    with pytest.raises(ValueError, match="shape"):
        balanced_accuracy([1], [1, 0])


def test_waypoint_distance_is_the_sum_over_axes_and_the_mean_over_frames():
    truth = np.zeros((2, 3, 2))
    predicted = truth.copy()
    predicted[0, 1] = (3.0, -4.0)

    assert waypoint_l1_m(predicted, truth).tolist() == [0.0, 3.5, 0.0]
    assert np.isnan(waypoint_l1_m(truth[:0], truth[:0])).all()


def test_constant_velocity_goes_straight_on():
    points = constant_velocity_m([4.0, 0.0], num_waypoints=3, step_s=0.5)

    assert points[0].tolist() == [[2.0, 0.0], [4.0, 0.0], [6.0, 0.0]]
    assert not points[1].any()
