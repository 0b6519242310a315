# SPDX-License-Identifier: Apache-2.0
"""Where "red" begins: the light's answer is brought to equal recalls on frames not trained on.

Training shows lights far more often than they are met and stops wherever its loss is least, so one
half is no threshold to rely on: a model may find every free light and miss red ones. Tokens do not
change: only the head's bias does.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import ArrayLike

from flad_perception.batch import LIGHT_FREE, LIGHT_RED, Batch
from flad_perception.metrics import LIGHT_RANGE_M
from flad_perception.model.encoder import VisionEncoder, encode

_FEW = 20  # frames of a class say nothing


@torch.inference_mode()
def calibrate_light(model: VisionEncoder, batches: Iterable[Batch]) -> float:
    """Move the light's bias in place; return by how much red has gained, 0 if too few are seen.

    Args:
        model: as it will be shipped.
        batches: of the held-out weathers; frames with a light within the metrics' range count.
    """
    margins: list[float] = []
    truth: list[int] = []
    model.eval()
    for batch in batches:
        logits = encode(model, batch.input).light_logits.float().cpu()
        near = (batch.info.light_distance_m <= LIGHT_RANGE_M) & (batch.info.light_state >= 0)
        margins += (logits[:, LIGHT_RED] - logits[:, LIGHT_FREE])[near].tolist()
        truth += batch.targets.light[near].tolist()
    is_red = np.asarray(truth) == LIGHT_RED
    if min(int(is_red.sum()), int((~is_red).sum())) < _FEW:
        return 0.0
    gain = -equal_recall_threshold(margins, is_red)
    bias = model.light.bias
    bias[LIGHT_RED] += 0.5 * gain
    bias[LIGHT_FREE] -= 0.5 * gain
    return gain


def equal_recall_threshold(margins: ArrayLike, is_red: ArrayLike) -> float:
    """The threshold on ``margins`` ``[N]`` at which both classes are found equally often.

    Red is what lies above it. Between the two margins at which the better recall changes sides,
    their middle.

    Example:
        >>> equal_recall_threshold([-3.0, -1.0, 1.0, 2.0], [False, True, False, True])
        0.0
    """
    values, red = np.asarray(margins, dtype=np.float64), np.asarray(is_red, dtype=bool)
    places = np.unique(values)
    edges = np.concatenate(([places[0] - 1.0], 0.5 * (places[1:] + places[:-1]), [places[-1] + 1]))
    red_found = (values[red][None] > edges[:, None]).mean(axis=1)
    free_found = (values[~red][None] <= edges[:, None]).mean(axis=1)
    return float(edges[np.abs(red_found - free_found).argmin()])
