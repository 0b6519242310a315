# SPDX-License-Identifier: Apache-2.0
"""How good an encoder's predictions are, per town, with naive baselines beside them.

:class:`Evaluator` gathers predictions batch by batch and keeps what the figures need as flat
arrays; the figures themselves are plain functions of arrays. Detections become boxes in
:mod:`flad_perception.detections`; which bars the project promises stands in the benchmark.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from flad_perception.batch import COMMAND_ON, Batch
from flad_perception.config import EncoderConfig
from flad_perception.detections import decode_detections
from flad_perception.model.encoder import EncoderOutput

LIGHT_RANGE_M = 30.0
"""A light that is relevant to the vehicle counts up to this distance to its stop line."""
MATCH_M = 2.0
"""A detection is right if its centre is at most this far from the vehicle's."""
MOVING_MPS = 0.5
"""The baseline "moving means green" calls this speed moving."""
ALL_TOWNS = "all"
"""The key of the figures over every town together."""

_LOWEST_SCORE = 0.02  # below it precision is settled; it only bounds the work

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class FrameBoxes:
    """Detections and truth of one frame; centres in metres, any one frame."""

    scores: Floats
    """``[D]``"""
    centres_m: Floats
    """``[D, 2]`` of the detections."""
    truth_m: Floats
    """``[G, 2]`` of the objects that must be found."""
    ignored_m: Floats
    """``[I, 2]`` of objects that need not be found, but may be."""


def balanced_accuracy(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Mean over the classes present in ``truth`` of the share of them that was predicted.

    A constant answer scores one half of two classes, whatever their shares. NaN without frames.

    Args:
        predicted: class numbers, shape ``[N]``.
        truth: class numbers, shape ``[N]``.

    Example:
        >>> balanced_accuracy([1, 1, 1, 1], [1, 1, 1, 0])  # always green
        0.5
    """
    p, t = np.asarray(predicted), np.asarray(truth)
    if p.shape != t.shape or p.ndim != 1:
        raise ValueError(f"predicted {p.shape} and truth {t.shape} must both have shape [N]")
    if t.size == 0:
        return float("nan")
    return float(np.mean([np.mean(p[t == c] == c) for c in np.unique(t)]))


def waypoint_l1_m(predicted_m: ArrayLike, truth_m: ArrayLike) -> Floats:
    """``mean_n(|dx| + |dy|)`` of each waypoint: ``[N, W, 2]`` twice gives ``[W]``, metres."""
    difference = np.asarray(predicted_m, dtype=np.float64) - np.asarray(truth_m, dtype=np.float64)
    if difference.ndim != 3 or difference.shape[-1] != 2:
        raise ValueError(f"waypoints must have shape [N, W, 2], got {list(difference.shape)}")
    if len(difference) == 0:
        return np.full(difference.shape[1], np.nan)
    distances: Floats = np.abs(difference).sum(axis=-1).mean(axis=0)
    return distances


def constant_velocity_m(speed_mps: ArrayLike, num_waypoints: int, step_s: float) -> Floats:
    """Straight ahead at the speed of now: ``[N]`` gives ``[N, W, 2]`` in the vehicle frame."""
    times_s = step_s * np.arange(1, num_waypoints + 1)
    x = np.asarray(speed_mps, dtype=np.float64)[:, None] * times_s[None, :]
    return np.stack([x, np.zeros_like(x)], axis=-1)


def average_precision(frames: list[FrameBoxes], match_m: float = MATCH_M) -> float:
    r"""Area under the precision-recall curve of detections matched by centre distance.

    From the highest score down, a detection takes the nearest object of its frame that is still
    free and at most ``match_m`` away, as nuScenes does (Caesar et al., 2020, Sec. 3.1); if there
    is none but an ignored object is as near, it counts as neither right nor wrong; else it is
    wrong. The area is that below the highest precision at each recall or a greater one:
    :math:`\sum_k (r_k - r_{k-1}) \max_{j \ge k} p_j`. NaN without objects to find.
    """
    num_truth = sum(len(f.truth_m) for f in frames)
    if num_truth == 0:
        return float("nan")
    scores, right = _match_all(frames, match_m)
    if scores.size == 0:
        return 0.0
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(right[order])
    # Equal scores cannot be told apart by a threshold: only the last of each is a point.
    last = np.flatnonzero(np.append(np.diff(scores) != 0.0, True))
    recall = hits[last] / num_truth
    precision = hits[last] / (last + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def _match_all(frames: list[FrameBoxes], match_m: float) -> tuple[Floats, NDArray[np.bool_]]:
    """Scores and verdicts of the detections that count. Frames do not share objects."""
    scores: list[float] = []
    right: list[bool] = []
    for f in frames:
        free = np.ones(len(f.truth_m), dtype=bool)
        for index in np.argsort(-f.scores, kind="stable"):
            centre = f.centres_m[index]
            distances = np.hypot(*(f.truth_m - centre).T) if len(free) else np.empty(0)
            distances = np.where(free, distances, np.inf)
            if len(free) and distances.min() <= match_m:
                free[distances.argmin()] = False
                right.append(True)
            elif len(f.ignored_m) and np.hypot(*(f.ignored_m - centre).T).min() <= match_m:
                continue
            else:
                right.append(False)
            scores.append(float(f.scores[index]))
    return np.asarray(scores), np.asarray(right, dtype=bool)


@dataclass
class _Gathered:
    """What one town's frames said, in order of arrival."""

    light: list[NDArray[Any]] = field(default_factory=list)  # [n, 4] predicted, truth, m, m/s
    stop: list[NDArray[Any]] = field(default_factory=list)  # [n, 2] predicted, truth
    predicted_m: list[NDArray[Any]] = field(default_factory=list)
    truth_m: list[NDArray[Any]] = field(default_factory=list)
    speed_mps: list[NDArray[Any]] = field(default_factory=list)
    across_m: list[NDArray[Any]] = field(default_factory=list)  # [n, P, 2] path said, truth
    on: list[NDArray[Any]] = field(default_factory=list)  # [n] no turn within the path's reach
    seen: list[FrameBoxes] = field(default_factory=list)
    all_boxes: list[FrameBoxes] = field(default_factory=list)


class Evaluator:
    """Gathers predictions and truth of a data set; :meth:`result` gives the figures.

    Single-threaded. Ground truth of the detection figure are vehicles whose centre is on the
    detection grid and that at least one LiDAR point hit (as nuScenes filters them); beside it
    stands the figure over all vehicles of the grid. The head has no class, so a detection on a
    walker, or on a vehicle just off the grid, is neither right nor wrong.
    """

    def __init__(self, config: EncoderConfig) -> None:
        self._config = config
        self._towns: dict[str, _Gathered] = defaultdict(_Gathered)

    def update(self, output: EncoderOutput, batch: Batch) -> None:
        """Take in one batch of predictions with its targets."""
        waypoints = _numpy(output.waypoints_m)
        light = _numpy(output.light_logits).argmax(axis=-1)
        stop = _numpy(output.stop_logits).argmax(axis=-1)
        truth_m, speed = _numpy(batch.targets.waypoints_m), _numpy(batch.input.speed_mps)
        distance, state = _numpy(batch.info.light_distance_m), _numpy(batch.info.light_state)
        lit = np.where(state >= 0, distance, np.nan)
        lights = np.stack([light, _numpy(batch.targets.light), lit, speed], axis=-1)
        stops = np.stack([stop, _numpy(batch.targets.stop)], axis=-1)
        names = np.asarray(batch.info.town)
        across, on = _across_m(output, batch), _numpy(batch.targets.command) == COMMAND_ON
        for town in sorted(set(batch.info.town)):
            mine = names == town
            gathered = self._towns[town]
            gathered.light.append(lights[mine])
            gathered.stop.append(stops[mine])
            gathered.predicted_m.append(waypoints[mine])
            gathered.truth_m.append(truth_m[mine])
            gathered.speed_mps.append(speed[mine])
            gathered.across_m.append(across[mine])
            gathered.on.append(on[mine])
        boxes, num_boxes = _numpy(batch.info.boxes), batch.info.num_boxes.tolist()
        for index, town in enumerate(batch.info.town):
            self._add_boxes(town, output.detection[index], boxes[index, : num_boxes[index]])

    def result(self) -> dict[str, dict[str, float]]:
        """Figures by town, and those over all of them under :data:`ALL_TOWNS`.

        ``light_balanced_accuracy`` with ``light_frames``, ``light_red_recall``,
        ``light_green_recall`` and baselines ``..._always_green``, ``..._moving_is_green``;
        ``waypoint_l1_m_at_0.5s`` to the last with ``..._constant_velocity``;
        ``path_across_m_at_2m`` and on, the mean error across the road, with ``..._straight``, and
        ``path_explained_at_2m``, of the variance where no turn is near;
        ``vehicle_ap_2m`` with ``vehicles``, and ``vehicle_ap_2m_all`` with ``vehicles_all``;
        ``stop_balanced_accuracy``; ``frames``.
        """
        together = _Gathered()
        for town in sorted(self._towns):
            for name, rows in vars(self._towns[town]).items():
                getattr(together, name).extend(rows)
        towns = {town: self._figures(g) for town, g in sorted(self._towns.items())}
        return {**towns, ALL_TOWNS: self._figures(together)} if towns else {}

    def _add_boxes(self, town: str, detection: torch.Tensor, boxes: NDArray[Any]) -> None:
        found = decode_detections(_numpy(detection), self._config, threshold=_LOWEST_SCORE)
        scores = np.asarray([d.score for d in found], dtype=np.float64)
        centres = np.asarray([(d.x_m, d.y_m) for d in found], dtype=np.float64).reshape(-1, 2)
        grid = self._config.grid
        x, y, kind, points = boxes[:, 0], boxes[:, 1], boxes[:, 6], boxes[:, 7]
        on_grid = (x >= grid.x_min_m) & (x < grid.x_max_m)
        on_grid &= (y >= grid.y_min_m) & (y < grid.y_max_m)
        vehicle = (kind == 0) & on_grid
        other = boxes[~vehicle, :2].astype(np.float64)
        gathered = self._towns[town]
        for rows, wanted in (
            (gathered.seen, vehicle & (points > 0)),
            (gathered.all_boxes, vehicle),
        ):
            truth = boxes[wanted, :2].astype(np.float64)
            rows.append(
                FrameBoxes(scores=scores, centres_m=centres, truth_m=truth, ignored_m=other)
            )

    def _figures(self, g: _Gathered) -> dict[str, float]:
        lights = np.concatenate(g.light)
        lights = lights[lights[:, 2] <= LIGHT_RANGE_M]
        predicted, truth, speed = lights[:, 0], lights[:, 1], lights[:, 3]
        stops = np.concatenate(g.stop)
        waypoints_m, driven_m = np.concatenate(g.predicted_m), np.concatenate(g.truth_m)
        num, step_s = waypoints_m.shape[1], self._config.waypoint_step_s
        straight_m = constant_velocity_m(np.concatenate(g.speed_mps), num, step_s)
        figures = {
            "frames": float(len(stops)),
            "light_frames": float(len(lights)),
            "light_balanced_accuracy": balanced_accuracy(predicted, truth),
            "light_red_recall": _recall(predicted, truth, 0),
            "light_green_recall": _recall(predicted, truth, 1),
            "light_balanced_accuracy_always_green": balanced_accuracy(np.ones_like(truth), truth),
            "light_balanced_accuracy_moving_is_green": balanced_accuracy(speed > MOVING_MPS, truth),
            "stop_balanced_accuracy": balanced_accuracy(stops[:, 0], stops[:, 1]),
        }
        ours = waypoint_l1_m(waypoints_m, driven_m)
        naive = waypoint_l1_m(straight_m, driven_m)
        for i in range(num):
            name = f"waypoint_l1_m_at_{step_s * (i + 1):.1f}s"
            figures[name] = float(ours[i])
            figures[f"{name}_constant_velocity"] = float(naive[i])
        across_m, on = np.concatenate(g.across_m), np.concatenate(g.on)
        for i, at_m in enumerate(self._config.path_at_m):
            said_m, true_m = across_m[:, i].T
            name = f"path_across_m_at_{at_m:g}m"
            figures[name] = _mean(np.abs(said_m - true_m))
            figures[f"{name}_straight"] = _mean(np.abs(true_m))
            figures[f"path_explained_at_{at_m:g}m"] = explained(said_m[on], true_m[on])
        figures["vehicle_ap_2m"] = average_precision(g.seen)
        figures["vehicles"] = float(sum(len(f.truth_m) for f in g.seen))
        figures["vehicle_ap_2m_all"] = average_precision(g.all_boxes)
        figures["vehicles_all"] = float(sum(len(f.truth_m) for f in g.all_boxes))
        return figures


def _across_m(output: EncoderOutput, batch: Batch) -> NDArray[Any]:
    """Places across the road that the path of the told command says, and true ones, [B, P, 2]."""
    truth_m = _numpy(batch.targets.path_m)[..., 1]
    if not truth_m.shape[1]:
        return np.zeros((*truth_m.shape, 2))
    told = _numpy(output.paths_m)[np.arange(len(truth_m)), _numpy(batch.targets.command), :, 1]
    return np.stack((told, truth_m), axis=-1)


def explained(said: Floats, truth: Floats) -> float:
    """Share of the truth's variance that is not left in the error; NaN where there is none.

    Example:
        >>> explained(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 4.0])).__round__(2)
        0.69
    """
    known = np.isfinite(truth)
    variance = float(np.var(truth[known])) if known.any() else 0.0
    return 1.0 - float(np.var((said - truth)[known])) / variance if variance else float("nan")


def _mean(values: NDArray[Any]) -> float:
    known = values[np.isfinite(values)]
    return float(np.mean(known)) if len(known) else float("nan")


def _recall(predicted: NDArray[Any], truth: NDArray[Any], wanted: int) -> float:
    return (
        float(np.mean(predicted[truth == wanted] == wanted))
        if np.any(truth == wanted)
        else (float("nan"))
    )


def _numpy(tensor: torch.Tensor) -> NDArray[Any]:
    values: NDArray[Any] = (
        tensor.detach().cpu().float().numpy()
        if tensor.is_floating_point()
        else (tensor.detach().cpu().numpy())
    )
    return values
