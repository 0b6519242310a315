# SPDX-License-Identifier: Apache-2.0
"""Files of driving models by name, and whether they read the tokens of the encoder that runs.

Looked at without importing flad_edge (its package stands beside this one) or PyTorch.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import safetensors

OFF = "off"
_ENCODER_HASH = "flad_encoder_hash"  # in the header of what ./flad train writes


def shipped_models() -> dict[str, Path]:
    """The driving models that come with this version, by name."""
    found = find_spec("flad_edge")
    if found is None or found.origin is None:
        return {}
    folder = Path(found.origin).parent / "weights_data"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def model_file(option: str, name: str) -> Path:
    """The file of a model that is asked for by its name, or by its file.

    Raises:
        ValueError: if there is none.
    """
    shipped = shipped_models()
    path = Path(name) if name.endswith(".safetensors") else shipped.get(name)
    if path is not None and path.is_file():
        return path
    raise ValueError(
        f"{option} is {name!r}: there is no such file and no shipped model of this name (known "
        f"are: {', '.join(shipped) or 'none'}); train one with ./flad train adllm, or name a "
        ".safetensors file"
    )


def check_encoder(model: Path, encoder: str, encoder_hash: str) -> None:
    """See that a model was trained on the tokens of the vehicle's encoder.

    A file that does not say which encoder that was is taken at its user's word.

    Raises:
        ValueError: if it was another one, or the file is none.
    """
    try:
        with safetensors.safe_open(model, framework="numpy") as file:
            trained_on = (file.metadata() or {}).get(_ENCODER_HASH, "")
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"{model} is damaged or no safetensors file: {error}") from error
    if trained_on and trained_on != encoder_hash:
        raise ValueError(
            f"{model} was trained on tokens of encoder {trained_on}, but --encoder {encoder} is "
            f"{encoder_hash}: give the encoder that it was trained with, or train it anew"
        )
