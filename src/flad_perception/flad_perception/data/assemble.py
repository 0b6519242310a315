# SPDX-License-Identifier: Apache-2.0
"""Makes a batch of packed frames; what the loader's thread does all day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flad_perception.batch import Batch, EncoderInput, FrameInfo, Targets, pad_points
from flad_perception.data import augment, shards
from flad_perception.data.augment import AugmentConfig
from flad_perception.data.dataset import Ints, PackedDataset


def assemble(
    dataset: PackedDataset,
    numbers: Ints,
    config: AugmentConfig | None,
    rng: np.random.Generator,
) -> Batch:
    """The frames ``numbers`` as a batch.

    Args:
        dataset: where from.
        numbers: of the frames, ``[B]``; one may occur twice.
        config: how much they are changed; None for not at all.
        rng: draws the changes.
    """
    records = dataset.table[numbers]
    valid = torch.from_numpy(records["view_valid"].copy())
    sweeps = [dataset.rows(n, shards.POINTS, shards.POINT_ENDS) for n in numbers]
    if config is not None and config.view_dropout > 0.0:
        valid = augment.drop_views(valid, config.view_dropout, rng)
    if config is not None and config.point_dropout > 0.0:
        sweeps = augment.drop_points(sweeps, config.point_dropout, rng)
    points, num_points = pad_points([_tensor(sweep) for sweep in sweeps])
    return Batch(
        input=EncoderInput(
            images=_images(dataset, numbers, config, rng),
            view_valid=valid,
            points=points,
            num_points=num_points,
            speed_mps=_column(records, "speed_mps"),
            target_point_m=_column(records, "target_point_m"),
        ),
        targets=Targets(
            detection=_detection(dataset, numbers),
            waypoints_m=_column(records, "waypoints_m"),
            path_m=_column(records, "path_m"),
            command=_column(records, "command", torch.int64),
            light=_column(records, "light", torch.int64),
            stop=_column(records, "stop", torch.int64),
        ),
        info=_info(dataset, numbers, records),
    )


def _images(
    dataset: PackedDataset,
    numbers: Ints,
    config: AugmentConfig | None,
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    scales: Mapping[str, NDArray[np.float64]] = {}
    if config is not None and config.resize > 0.0:
        scales = augment.draw_scales(dataset.views, len(numbers), config.resize, rng)
    images = {}
    for view in dataset.views:
        name = view.view.name
        stored = [dataset.row(n, shards.view_file(name)) for n in numbers]
        images[name] = augment.cut(stored, view, scales.get(name))
        if config is not None and augment.warps(config) and view.view.fallback_camera:
            images[name] = augment.warped(images[name], config, rng)
        if config is not None and config.colour_jitter > 0.0:
            images[name] = augment.jitter_colours(images[name], config.colour_jitter, rng)
    return images


def _detection(dataset: PackedDataset, numbers: Ints) -> Tensor:
    return torch.from_numpy(
        np.stack([dataset.row(n, shards.DETECTION) for n in numbers]).astype(np.float32)
    )


def _info(dataset: PackedDataset, numbers: Ints, records: NDArray[Any]) -> FrameInfo:
    runs = [dataset.run_of(n) for n in numbers]
    boxes, num_boxes = _padded([dataset.rows(n, shards.BOXES, shards.BOX_ENDS) for n in numbers])
    return FrameInfo(
        town=[run.town for run in runs],
        run=[run.name for run in runs],
        weather_id=_column(records, "weather_id", torch.int64),
        frame=_column(records, "frame", torch.int64),
        light_distance_m=_column(records, "light_distance_m"),
        light_state=_column(records, "light_state", torch.int64),
        boxes=boxes,
        num_boxes=num_boxes,
    )


def _padded(rows: Sequence[NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
    lengths = [len(row) for row in rows]
    padded = np.zeros((len(rows), max(1, *lengths), 8), dtype=np.float32)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded), torch.tensor(lengths, dtype=torch.int64)


def _column(records: NDArray[Any], name: str, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.from_numpy(np.array(records[name])).to(dtype)


def _tensor(array: NDArray[Any]) -> Tensor:
    """A copy: the map is read-only, which tensors cannot be."""
    return torch.from_numpy(np.array(array))
