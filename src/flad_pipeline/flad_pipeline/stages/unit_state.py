# SPDX-License-Identifier: Apache-2.0
"""Everything of one unit that moves when its owner changes, as plain values with a hash.

Weights, buffers (also constant ones) and the optimizer's state, by the model's names. The bytes
are a safetensors file: tensors and a text header, nothing that runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors.torch import load, save
from torch import Tensor

WEIGHT, BUFFER, OPTIMIZER, ANCHOR = "weight", "buffer", "optimizer", "anchor"
_HEADER_BYTES = 8
_FACTS = ("unit", "digest", "step", "hash")


@dataclass(frozen=True, kw_only=True)
class UnitState:
    """One unit after some step of training."""

    unit: int
    digest: str
    """Of the unit graph."""
    step: int
    """The next step to be taken."""
    tensors: Mapping[str, Tensor]
    """``weight/NAME``, ``buffer/NAME``, ``optimizer/NAME/KEY``; with FedProx, once the unit was
    held, ``anchor/NAME``: its weights at the round's begin."""

    @property
    def num_bytes(self) -> int:
        """Bytes of all values."""
        return sum(t.numel() * t.element_size() for t in self.tensors.values())

    @property
    def hash(self) -> str:
        """SHA-256 over all of it: equal states have equal hashes, on any machine."""
        digest = hashlib.sha256(f"{self.unit}/{self.digest}/{self.step}".encode())
        for key, tensor in sorted(self.tensors.items()):
            digest.update(f"|{key}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
            plain = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(plain.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def to_bytes(self) -> bytes:
        """The state as a safetensors file with its facts and hash in the header."""
        facts = {"unit": str(self.unit), "digest": self.digest, "step": str(self.step)}
        plain = {k: t.detach().cpu().contiguous() for k, t in self.tensors.items()}
        return bytes(save(plain, metadata={**facts, "hash": self.hash}))


def unit_state_from_bytes(data: bytes) -> UnitState:
    """What :meth:`UnitState.to_bytes` made.

    Raises:
        ValueError: if the bytes are no such file, or were changed on the way.
    """
    try:
        length = int.from_bytes(data[:_HEADER_BYTES], "little")
        header = json.loads(data[_HEADER_BYTES : _HEADER_BYTES + length])
        facts = {key: str(header["__metadata__"][key]) for key in _FACTS}
        state = UnitState(
            unit=int(facts["unit"]),
            digest=facts["digest"],
            step=int(facts["step"]),
            tensors=load(data),
        )
    except Exception as error:  # safetensors has its own errors for every kind of damage
        raise ValueError(f"{len(data)} bytes are no state of a unit: {error}") from error
    if state.hash != facts["hash"]:
        raise ValueError(
            f"the state of unit {state.unit} was changed on the way: its hash is "
            f"{state.hash[:12]}, its header says {facts['hash'][:12]}; ask for it again"
        )
    return state
