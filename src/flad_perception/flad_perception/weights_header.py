# SPDX-License-Identifier: Apache-2.0
"""The configuration of a model, read without PyTorch; :mod:`flad_perception.weights` writes it."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors

from flad_common.config import from_mapping
from flad_perception.config import EncoderConfig, load_encoder_config

_CONFIG, _HASH = "flad_encoder_config", "flad_model_hash"


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


def model_hash_of(model: str) -> str:
    """The hash that the file of a model says of itself; loading the model checks it.

    Raises:
        ValueError: if there is no such file, or it is damaged or says none.
    """
    shipped = Path(__file__).resolve().parent / "weights_data" / f"{model}.safetensors"
    path = Path(model) if model.endswith(".safetensors") else shipped
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return str((file.metadata() or {})[_HASH])
    except (OSError, KeyError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} has no readable hash of a model: {error!r}") from error
