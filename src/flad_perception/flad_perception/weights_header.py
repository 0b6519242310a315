# SPDX-License-Identifier: Apache-2.0
"""The configuration of a model, read without PyTorch; :mod:`flad_perception.weights` writes it."""

from __future__ import annotations

import json

import safetensors

from flad_common.config import from_mapping
from flad_perception.config import EncoderConfig, load_encoder_config

_CONFIG = "flad_encoder_config"


def model_config(model: str) -> EncoderConfig:
    """Of a ``.safetensors`` file, or of a shipped model, which has the name of its configuration.

    Raises:
        ValueError: if there is none of this name, or the file is damaged or holds no encoder.
    """
    if not model.endswith(".safetensors"):
        return load_encoder_config(model)
    try:
        with safetensors.safe_open(model, framework="numpy") as file:
            header = file.metadata() or {}
        return from_mapping(EncoderConfig, json.loads(header[_CONFIG]))
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(
            f"{model} has no readable configuration of an encoder: {error!r}"
        ) from error
