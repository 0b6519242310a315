# SPDX-License-Identifier: Apache-2.0
"""Figures of answers: errors at each time, and whether what matters while driving is right.

Errors are ``|dx| + |dy|`` in metres, as the encoder's card has them. The planner's law drives by
the first two points alone: their distance is the speed that is wanted, their middle the direction.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flad_edge.training.answers import Answers
from flad_edge.training.clip_file import NO, YES
from flad_edge.training.labels import WAYPOINT_STEP_S
from flad_edge.training.lessons import GROUPS
from flad_edge.training.objective import must_stand, must_start

GOES_MPS = 0.5
"""A wanted speed from which a standing vehicle goes."""
_MOVING_MPS = 2.0
_TURNED_M = 2.0
_COMPLETED = 0.5

Points = NDArray[np.float32]


def figures(answers: Answers) -> dict[str, float]:
    """Every figure of some frames; those without a frame are left out."""
    found: dict[str, float] = {"frames": float(len(answers))}
    if not len(answers):
        return found
    errors = l1_m(answers.predicted_m, answers.target_m)
    still = l1_m(constant_velocity(answers), answers.target_m)
    for point in range(errors.shape[1]):
        at = f"at_{WAYPOINT_STEP_S * (point + 1):.1f}s"
        found[f"waypoint_l1_m_{at}"] = float(errors[:, point].mean())
        found[f"waypoint_l1_m_{at}_constant_velocity"] = float(still[:, point].mean())
    found["waypoint_l1_m"] = float(errors.mean())
    found["waypoint_l1_m_constant_velocity"] = float(still.mean())
    wanted, asked = wanted_speed_mps(answers.predicted_m), wanted_speed_mps(answers.target_m)
    found["wanted_speed_error_mps"] = float(np.abs(wanted - asked).mean())
    moving = (answers.speed_mps > _MOVING_MPS) & (asked > _MOVING_MPS)
    _put(found, "aim_error_deg", _aim_errors_deg(answers)[moving])
    starts = must_start(answers.target_m, answers.speed_mps)
    _put(found, "starts_when_it_shall", wanted[starts] > GOES_MPS)
    stands = must_stand(answers.target_m, answers.speed_mps)
    _put(found, "stands_when_it_shall", wanted[stands] <= GOES_MPS)
    turns = np.abs(answers.target_m[:, -1, 1]) > _TURNED_M
    _put(found, "turns_to_the_right_side", _side(answers)[turns] > 0.5 * _TURNED_M)
    said = answers.completed_p > _COMPLETED
    yes, no = answers.completed == YES, answers.completed == NO
    _put(found, "completed_recall", said[yes])
    _put(found, "completed_specificity", ~said[no])
    _put(found, "completed_accuracy", (said == yes)[yes | no])
    return found


def by_part(answers: Answers) -> dict[str, dict[str, float]]:
    """Figures of all frames, and of each town, weather and group of instructions."""
    parts = {"all": figures(answers)}
    for town in sorted(set(answers.town.tolist())):
        parts[f"town {town}"] = figures(answers.where(answers.town == town))
    for weather in sorted(set(answers.weather_id.tolist())):
        parts[f"weather {weather}"] = figures(answers.where(answers.weather_id == weather))
    for number, group in enumerate(GROUPS):
        if (chosen := answers.group == number).any():
            parts[f"instruction {group}"] = figures(answers.where(chosen))
    return parts


def swap_figures(plain: Answers, swapped: Answers) -> dict[str, float]:
    """Whether the words decide: the same frames with left and right of the instruction exchanged.

    On frames whose label ends more than 2 m to a side, the share of answers that go to that side by
    1 m, told the truth and told the opposite; the second is small where the words are obeyed.
    """
    found: dict[str, float] = {}
    for name, answers in (("told_truly", plain), ("told_the_opposite", swapped)):
        sides = _side(answers)[np.abs(answers.target_m[:, -1, 1]) > _TURNED_M]
        _put(found, f"goes_the_recorded_way_{name}", sides > 0.5 * _TURNED_M)
    found["frames"] = float((np.abs(swapped.target_m[:, -1, 1]) > _TURNED_M).sum())
    return found


def l1_m(predicted_m: Points, target_m: Points) -> Points:
    """``[N, P]``."""
    return np.asarray(np.abs(predicted_m - target_m).sum(axis=-1))


def constant_velocity(answers: Answers) -> Points:
    """``[N, P, 2]``: straight on at the present speed."""
    times_s = WAYPOINT_STEP_S * np.arange(1, answers.target_m.shape[1] + 1, dtype=np.float32)
    ahead = answers.speed_mps[:, None] * times_s
    return np.stack([ahead, np.zeros_like(ahead)], axis=-1)


def wanted_speed_mps(points_m: Points) -> Points:
    """``[N]``: as the planner's law reads it off the first two points."""
    return np.asarray(np.linalg.norm(points_m[:, 1] - points_m[:, 0], axis=-1) / WAYPOINT_STEP_S)


def _aim_errors_deg(answers: Answers) -> Points:
    def aim(points_m: Points) -> Points:
        middle = points_m[:, :2].mean(axis=1)
        return np.asarray(np.degrees(np.arctan2(middle[:, 1], np.maximum(middle[:, 0], 0.1))))

    return np.asarray(np.abs(aim(answers.predicted_m) - aim(answers.target_m)))


def _side(answers: Answers) -> Points:
    """Metres that the last point lies towards the side where the label's is."""
    return np.asarray(answers.predicted_m[:, -1, 1] * np.sign(answers.target_m[:, -1, 1]))


def _put(found: dict[str, float], name: str, values: NDArray[Any]) -> None:
    if len(values):
        found[name] = float(np.mean(values))
