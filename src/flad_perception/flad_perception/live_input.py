# SPDX-License-Identifier: Apache-2.0
"""The sensors of one moment as the encoder's input: the live counterpart of a data set's frame.

Resizing, cropping and merging are :mod:`flad_perception.preprocess`'s, so that a model sees what it
was trained on.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch

from flad_perception.batch import EncoderInput, pad_points
from flad_perception.config import EncoderConfig, ViewConfig
from flad_perception.live_sensors import LiveSensors, Points
from flad_perception.preprocess import merge_sweeps, view_from_picture


def needed_cameras(config: EncoderConfig, carried: Collection[str] = ()) -> tuple[str, ...]:
    """The cameras that a vehicle with the cameras ``carried`` gives to the encoder.

    Without ``carried``, all that the views name. A view whose camera is not carried looks through
    its fallback camera; one without either stays blind.
    """
    wanted: list[str] = []
    for view in config.views:
        camera = _camera_of(view, carried)
        if not carried or camera in carried:
            wanted.append(camera)
    return tuple(dict.fromkeys(wanted))


def encoder_input(
    sensors: LiveSensors, config: EncoderConfig, carried: Collection[str] = ()
) -> EncoderInput:
    """One frame's input, ``B = 1``. A view without a picture is black and not valid.

    Args:
        sensors: of the moment.
        config: of the encoder.
        carried: the vehicle's cameras, see :func:`needed_cameras`.
    """
    images: dict[str, torch.Tensor] = {}
    valid: list[bool] = []
    for view in config.views:
        camera = _camera_of(view, carried)
        picture = sensors.pictures.get(camera)
        valid.append(picture is not None)
        if picture is None:
            width, height = view.crop_px
            images[view.name] = torch.zeros(1, 3, height, width, dtype=torch.uint8)
        else:
            rgb = picture.rgb()
            images[view.name] = view_from_picture(rgb, view, is_fallback=camera != view.camera)[
                None
            ]
    points, num_points = pad_points([torch.from_numpy(_cloud(sensors, config))])
    return EncoderInput(
        images=images,
        view_valid=torch.tensor([valid]),
        points=points,
        num_points=num_points,
        speed_mps=torch.tensor([sensors.speed_mps], dtype=torch.float32),
        target_point_m=torch.tensor([sensors.target_point_m], dtype=torch.float32),
    )


def _camera_of(view: ViewConfig, carried: Collection[str]) -> str:
    if carried and view.camera not in carried and view.fallback_camera in carried:
        return view.fallback_camera
    return view.camera


def _cloud(sensors: LiveSensors, config: EncoderConfig) -> Points:
    """Without a sweep of this moment there is none at all: an old one would be a false world."""
    if sensors.sweep is None:
        return np.zeros((0, 4), dtype=np.float32)
    return merge_sweeps(sensors.sweep, sensors.previous_sweep, config.lidar)
