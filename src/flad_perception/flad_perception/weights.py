# SPDX-License-Identifier: Apache-2.0
"""Weights in files that name what they are for, and the hash that tells two models apart."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from flad_common.config import from_mapping, to_mapping
from flad_perception.config import CONTRACT_VERSION, EncoderConfig
from flad_perception.model.encoder import VisionEncoder, build_encoder

_CONFIG, _CONTRACT, _HASH = "flad_encoder_config", "flad_contract_version", "flad_model_hash"
_HASH_DIGITS = 16
_NAMED_IN_AN_ERROR = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelId:
    """Which model it is, as it stands in messages."""

    name: str
    """Of the configuration."""
    hash: str
    """16 hexadecimal digits, of :func:`model_hash`."""
    contract_version: int


class LoadedEncoder(NamedTuple):
    """A model out of a file."""

    model: VisionEncoder
    config: EncoderConfig
    identity: ModelId


def save_encoder(
    path: Path, model: VisionEncoder, config: EncoderConfig, extra: Mapping[str, str] | None = None
) -> ModelId:
    """Write a model; what was at ``path`` stays until the new file is whole.

    Args:
        path: ``*.safetensors``.
        model: with weights of ``config``.
        config: goes into the file, as text.
        extra: more text for the file's header, such as the command that trained it.
    """
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    identity = ModelId(
        name=config.name, hash=model_hash(state, config), contract_version=config.contract_version
    )
    header = {
        **(extra or {}),
        _CONFIG: _as_text(config),
        _CONTRACT: str(config.contract_version),
        _HASH: identity.hash,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    save_file(state, partial, metadata=header)
    os.replace(partial, path)
    return identity


def load_encoder(path: Path) -> LoadedEncoder:
    """Read a model, in evaluation mode on the CPU.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is damaged, is no encoder, follows another token contract, or its tensors
            are not those of its configuration; the message names them.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file; expected weights of an encoder")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from error
    if _CONFIG not in header:
        raise ValueError(f"{path} holds no encoder: its header has no {_CONFIG!r}")
    if header.get(_CONTRACT) != str(CONTRACT_VERSION):
        raise ValueError(
            f"{path} follows token contract {header.get(_CONTRACT)}, this version of FLAD has "
            f"{CONTRACT_VERSION}: train it anew or take the version of FLAD it was made with"
        )
    try:
        config = from_mapping(EncoderConfig, json.loads(header[_CONFIG]))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: its configuration does not fit: {error}") from error
    model = build_encoder(config)
    if complaints := state_complaints(state, model):
        raise ValueError(f"{path} does not fit its own configuration: {complaints}")
    # Of the text as it was written: a knob that came since must not make an old model another one.
    found = state_hash(state, header[_CONFIG])
    if header.get(_HASH) != found:
        raise ValueError(
            f"{path} is damaged: its header says hash {header.get(_HASH)}, "
            f"its contents have {found}"
        )
    model.load_state_dict(state)
    identity = ModelId(name=config.name, hash=found, contract_version=config.contract_version)
    return LoadedEncoder(model.eval(), config, identity)


def state_complaints(state: Mapping[str, Tensor], model: nn.Module) -> str:
    """Why ``state`` cannot be the model's weights, naming the first few tensors; "" if it can."""
    wanted = model.state_dict()
    complaints = [f"{name} is missing" for name in wanted if name not in state]
    complaints += [f"{name} is unknown" for name in state if name not in wanted]
    for name in wanted.keys() & state.keys():
        got, want = state[name], wanted[name]
        if (got.shape, got.dtype) != (want.shape, want.dtype):
            complaints.append(
                f"{name} is {got.dtype} {list(got.shape)}, expected {want.dtype} {list(want.shape)}"
            )
        elif not torch.isfinite(got).all():
            complaints.append(f"{name} is not finite")
    more = len(complaints) - _NAMED_IN_AN_ERROR
    return "; ".join(sorted(complaints)[:_NAMED_IN_AN_ERROR]) + (f"; {more} more" * (more > 0))


def model_hash(state: Mapping[str, Tensor], config: EncoderConfig) -> str:
    """Hash of weights and configuration: SHA-256, its first 16 digits.

    It covers the configuration as text and, by name, every tensor's type, shape and bytes, so it
    is the same on every machine and for every way to lie in memory. A model out of a file keeps
    the hash that it was saved with (``LoadedEncoder.identity``), also where configurations have
    got more knobs since; this function then gives another one.
    """
    return state_hash(state, _as_text(config))


def state_hash(state: Mapping[str, Tensor], config_text: str) -> str:
    """:func:`model_hash` where the configuration is text already, of whatever kind of model."""
    digest = hashlib.sha256(config_text.encode())
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:_HASH_DIGITS]


def shipped_weights(name: str) -> Path:
    """Where the trained weights of a configuration lie, if they come with this version of FLAD."""
    return Path(__file__).resolve().parent / "weights_data" / f"{name}.safetensors"


def load_resnet(model: VisionEncoder, path: Path) -> None:
    """Start the image backbone from a torchvision ResNet-50's weights, such as ImageNet's.

    Args:
        model: of an encoder with ``backbone.kind`` resnet50.
        path: torchvision's ``*.pth`` state dictionary.

    Raises:
        ValueError: if the file lacks a tensor of the backbone or has it in another shape.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    trunk = model.view_tokens.backbone.trunk
    wanted = {name: t.shape for name, t in trunk.state_dict().items()}
    usable = {k: v for k, v in state.items() if k in wanted and v.shape == wanted[k]}
    if missing := sorted(wanted.keys() - usable.keys()):
        raise ValueError(
            f"{path} lacks {len(missing)} of the backbone's {len(wanted)} tensors, or has them in "
            f"another shape: {', '.join(missing[:_NAMED_IN_AN_ERROR])}"
        )
    trunk.load_state_dict(usable)


def start_from(model: VisionEncoder, path: Path) -> list[str]:
    """Take every tensor that fits by name and shape out of an encoder's file.

    Returns:
        Names of the model's modules that keep their own, new weights in some tensor.

    Raises:
        OSError, ValueError: as :func:`load_encoder`; or if no tensor fits.
    """
    there = load_encoder(path).model.state_dict()
    own = model.state_dict()
    fitting = {k: v for k, v in there.items() if k in own and v.shape == own[k].shape}
    if not fitting:
        raise ValueError(f"no tensor of {path} fits an encoder {model.config.name!r}")
    model.load_state_dict(own | fitting)
    return sorted({name.split(".")[0] for name in own.keys() - fitting.keys()})


def _as_text(config: EncoderConfig) -> str:
    return json.dumps(to_mapping(config), sort_keys=True)
