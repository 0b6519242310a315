# SPDX-License-Identifier: Apache-2.0
"""An AD-LLM in one file: weights, sizes and tokenizer, and a hash over all three."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import safetensors
from safetensors.torch import save_file

from flad_common.config import from_mapping, to_mapping
from flad_edge.adllm.config import AdLlmConfig
from flad_edge.adllm.model import AdLlm, build_adllm
from flad_edge.adllm.tokenizer import TextTokenizer
from flad_perception.config import CONTRACT_VERSION
from flad_perception.weights import state_complaints, state_hash

_CONFIG, _TOKENIZER = "flad_adllm_config", "flad_adllm_tokenizer"
_CONTRACT, _HASH = "flad_contract_version", "flad_model_hash"


@dataclass(frozen=True, kw_only=True, slots=True)
class AdLlmId:
    """Which model it is."""

    name: str
    """Of the configuration."""
    hash: str
    """16 hexadecimal digits, over weights, configuration and tokenizer."""
    contract_version: int
    """Of the scene tokens that it reads."""


class LoadedAdLlm(NamedTuple):
    """A model out of a file."""

    model: AdLlm
    identity: AdLlmId


def shipped_adllm(name: str) -> Path:
    """The weights that come with this version of FLAD: ``tiny``, the AD-LLM, and ``adm``.

    Raises:
        ValueError: if none of this name ships; the message names those that do.
    """
    folder = Path(__file__).resolve().parents[1] / "weights_data"
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        known = sorted(p.stem for p in folder.glob("*.safetensors"))
        raise ValueError(
            f"no AD-LLM {name!r} ships; those that do: {', '.join(known) or 'none'}. Give a file, "
            "or train one: ./flad train adllm"
        )
    return path


def adllm_file(name: str | Path) -> Path:
    """A model's file, or that of one that ships, by its name.

    Raises:
        ValueError: if there is neither.
    """
    return Path(name) if Path(name).is_file() else shipped_adllm(str(name))


def save_adllm(path: Path, model: AdLlm, extra: Mapping[str, str] | None = None) -> AdLlmId:
    """Write a model; what was at ``path`` stays until the new file is whole.

    Args:
        path: ``*.safetensors``.
        model: without adapters.
        extra: more text for the file's header, such as the command that trained it.

    Raises:
        ValueError: if the model has adapters; merged, it can be saved.
    """
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    if any("lora_" in name for name in state):
        raise ValueError("the model has adapters; merge them before it is saved")
    config = json.dumps(to_mapping(model.config), sort_keys=True)
    identity = AdLlmId(
        name=model.config.name,
        hash=state_hash(state, config + model.tokenizer.text),
        contract_version=CONTRACT_VERSION,
    )
    header = {
        **(extra or {}),
        _CONFIG: config,
        _TOKENIZER: model.tokenizer.text,
        _CONTRACT: str(CONTRACT_VERSION),
        _HASH: identity.hash,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    save_file(state, partial, metadata=header)
    os.replace(partial, path)
    return identity


def load_adllm(path: Path) -> LoadedAdLlm:
    """Read a model, in evaluation mode on the CPU.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is damaged, is no AD-LLM, reads tokens of another contract, or its
            tensors are not those of its configuration; the message names them.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file; expected weights of an AD-LLM")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from error
    if lacking := [key for key in (_CONFIG, _TOKENIZER) if key not in header]:
        raise ValueError(f"{path} holds no AD-LLM: its header lacks {', '.join(lacking)}")
    if header.get(_CONTRACT) != str(CONTRACT_VERSION):
        raise ValueError(
            f"{path} reads tokens of contract {header.get(_CONTRACT)}, this version of FLAD has "
            f"{CONTRACT_VERSION}: train it anew or take the version of FLAD it was made with"
        )
    try:
        config = from_mapping(AdLlmConfig, json.loads(header[_CONFIG]))
        tokenizer = TextTokenizer(header[_TOKENIZER], config.text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: its header does not fit: {error}") from error
    model = build_adllm(config, tokenizer)
    if complaints := state_complaints(state, model):
        raise ValueError(f"{path} does not fit its own configuration: {complaints}")
    # Of the texts as they were written: a knob or a release of the library that came since must
    # not make an old model another one.
    found = state_hash(state, header[_CONFIG] + header[_TOKENIZER])
    if header.get(_HASH) != found:
        raise ValueError(
            f"{path} is damaged: its header says hash {header.get(_HASH)}, "
            f"its contents have {found}"
        )
    model.load_state_dict(state)
    identity = AdLlmId(name=config.name, hash=found, contract_version=CONTRACT_VERSION)
    return LoadedAdLlm(model.eval(), identity)
