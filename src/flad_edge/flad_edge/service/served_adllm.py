# SPDX-License-Identifier: Apache-2.0
"""An AD-LLM out of a file, as the service wants a model."""

from __future__ import annotations

from pathlib import Path

import torch

from flad_edge.adapt.store import StoredRelease
from flad_edge.adllm.model import AdLlm
from flad_edge.adllm.weights import load_adllm
from flad_edge.service.driving_model import ServedModel
from flad_edge.service.releases import Release


def served_adllm(
    path: Path, *, encoder_hash: str, name: str = "", device: str = "cpu"
) -> ServedModel:
    """Load an AD-LLM.

    Args:
        path: weights, as :func:`flad_edge.adllm.weights.save_adllm` writes them.
        encoder_hash: of the encoder whose tokens it was trained on.
        name: of the release; empty: the file's name.
        device: of torch.

    Raises:
        OSError: if there is no such file.
        ValueError: if the file is no AD-LLM of this version, or a name or hash cannot be one.
    """
    model, identity = load_adllm(path)
    release = Release(
        name=name or path.stem,
        contract_version=identity.contract_version,
        num_tokens=model.config.num_tokens,
        token_dim=model.config.token_dim,
        encoder_hash=encoder_hash,
        adllm_hash=identity.hash,
        waypoint_step_s=model.config.waypoint_step_s,
    )
    return _served(model, release, device)


def served_release(stored: StoredRelease, *, device: str = "cpu") -> ServedModel:
    """Load the AD-LLM of a release out of a store.

    Raises:
        OSError: if its file is gone.
        ValueError: if the file is damaged, or is another model than the one that was scored.
    """
    model, identity = load_adllm(stored.adllm)
    if identity.hash != stored.release.adllm_hash:
        raise ValueError(
            f"release {stored.release.name!r} has AD-LLM {stored.release.adllm_hash}, "
            f"{stored.adllm} holds {identity.hash}"
        )
    return _served(model, stored.release, device)


def _served(model: AdLlm, release: Release, device: str) -> ServedModel:
    model.to(torch.device(device))

    def complaint(instruction: str, notice: str | None) -> str | None:
        return _complaint(model, instruction, notice)

    return ServedModel(release=release, model=model, complaint=complaint)


def _complaint(model: AdLlm, instruction: str, notice: str | None) -> str | None:
    if why := model.complaint(instruction):
        return why
    try:
        if notice is not None:
            model.tokenizer.notice(notice)
    except ValueError as error:
        return str(error)
    return None
