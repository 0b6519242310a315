# SPDX-License-Identifier: Apache-2.0
"""Which frames of a packed data set are trained on, and which are kept for looking.

Whole towns and whole weathers are held out, never single frames: neighbours look alike.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flad_perception.data.dataset import PackedDataset, select
from flad_perception.training.config import TrainConfig
from flad_perception.training.sampling import FrameTable, kinds

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Frames:
    """The parts of one data set; index arrays count its frames."""

    dataset: PackedDataset
    training: FrameTable
    validation: Ints
    """Some of ``other_weathers``, evenly spread: looked at during training."""
    other_weathers: Ints
    """Held-out weathers of the towns that are trained on."""
    other_towns: Ints
    """Held-out towns, in any weather: looked at once, at the end."""

    def fingerprint(self) -> dict[str, Any]:
        """Plain values that change when the frames that are trained on do."""
        runs = [[r.name, r.town, r.weather_id, r.num_frames] for r in self.dataset.runs]
        digest = hashlib.sha256(json.dumps(runs).encode()).hexdigest()
        return {
            "runs": digest[:16],
            "num_frames": len(self.dataset),
            "num_training_frames": len(self.training),
        }

    def summary(self, light_m: float) -> dict[str, Any]:
        """Counts for people and for the model card."""
        table, runs = self.dataset.table, self.dataset.runs
        near = kinds(self.training, light_m)
        town_of_run = np.asarray([r.town for r in runs])

        def towns(indices: Ints) -> dict[str, int]:
            counted = Counter(town_of_run[table["run"][indices]].tolist())
            return {town: counted[town] for town in sorted(counted)}

        used = np.unique(self.training.run)
        return {
            "runs": len(runs),
            "frames": len(self.dataset),
            "training": towns(self.training.index),
            "training_runs": len(used),
            "training_weathers": sorted({int(runs[r].weather_id) for r in used}),
            "red_light_near_light_no_light": np.bincount(near, minlength=3).tolist(),
            "held_out_weathers": towns(self.other_weathers),
            "held_out_towns": towns(self.other_towns),
            "left_out_while_packing": self.dataset.trimmed,
            "refused_while_packing": len(self.dataset.refused),
        }


def split_frames(
    dataset: PackedDataset, config: TrainConfig, *, allow_no_training: bool = False
) -> Frames:
    """Split ``dataset`` as ``config`` says.

    Args:
        dataset: the packed frames.
        config: which towns and weathers are held out.
        allow_no_training: for a data set that is only evaluated on.

    Raises:
        ValueError: if nothing is left to train on; the message names what there is.
    """
    there = {run.town for run in dataset.runs}
    towns = tuple(town for town in config.holdout_towns if town in there)
    weathers = config.holdout_weathers
    training = select(dataset, exclude_towns=towns, exclude_weathers=weathers)
    if len(training) == 0 and not allow_no_training:
        pairs = sorted({(run.town, run.weather_id) for run in dataset.runs})
        raise ValueError(
            f"no frames are left to train on: the data set has towns and weathers {pairs}, "
            f"held out are {list(config.holdout_towns)} and {list(weathers)}"
        )
    other_weathers = (
        select(dataset, exclude_towns=towns, weathers=weathers) if weathers else training[:0]
    )
    rows = dataset.table[training]
    return Frames(
        dataset=dataset,
        training=FrameTable(
            index=training,
            run=rows["run"].astype(np.int64),
            speed_mps=rows["speed_mps"].astype(np.float64),
            light=rows["light"].astype(np.int64),
            light_distance_m=rows["light_distance_m"].astype(np.float64),
        ),
        validation=_spread(other_weathers, config.validation_frames),
        other_weathers=other_weathers,
        other_towns=select(dataset, towns=towns) if towns else training[:0],
    )


def _spread(indices: Ints, at_most: int) -> Ints:
    if len(indices) <= at_most:
        return indices
    return indices[np.linspace(0, len(indices) - 1, at_most).round().astype(np.int64)]
