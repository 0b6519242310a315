# SPDX-License-Identifier: Apache-2.0
"""What a vehicle sends after a round: tensors, what they are, and its signature over both.

The header is JSON, the tensors are a safetensors file: nothing in them runs. The signature covers
the header, and the header the tensors' SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from flad_common.error_codes import UPDATE_MALFORMED, FladError
from flad_pipeline.aggregation.keys import VehicleKey

VERSION = 2
MAX_HEADER_BYTES = 4096

_DOMAIN = b"flad update\0"
"""Signed with every header, so that a signature made for something else never fits."""
_MAGIC = b"FLU1"
_FRAME = struct.Struct("<4sIQ64s")  # magic, header bytes, payload bytes, signature


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdateHeader:
    """Who trained what, in which round, from which model."""

    version: int
    vehicle: str
    """Who signs."""
    client: str
    """For which client of the round: its own name, or its cluster's."""
    round: int
    round_id: str
    """Random, from the edge: no earlier round, of whatever federation, had it."""
    epoch: int
    """Of the client's members who trained it together; 0 where members do not change."""
    start_hash: str
    """Of the model that the round began with."""
    num_samples: int
    """That the client trained on; every member of a cluster states the same."""
    payload_bytes: int
    payload_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedUpdate:
    """As it arrives; nothing in it is true before somebody has checked it."""

    header: bytes
    signature: bytes
    payload: bytes | memoryview

    def to_bytes(self) -> bytes:
        """One piece, for a message or a file."""
        frame = _FRAME.pack(_MAGIC, len(self.header), len(self.payload), self.signature)
        return b"".join((frame, self.header, self.payload))

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> SignedUpdate:
        """The opposite; the payload is not copied.

        Raises:
            FladError: (UPDATE_MALFORMED) if it is cut off or something else.
        """
        view = memoryview(data)
        if len(view) < _FRAME.size:
            raise FladError(UPDATE_MALFORMED, f"{len(view)} bytes are no update")
        magic, header_bytes, payload_bytes, signature = _FRAME.unpack_from(view)
        if magic != _MAGIC or header_bytes > MAX_HEADER_BYTES:
            raise FladError(
                UPDATE_MALFORMED, f"it begins with {magic!r} and a header of {header_bytes} bytes"
            )
        if len(view) != (whole := _FRAME.size + header_bytes + payload_bytes):
            raise FladError(UPDATE_MALFORMED, f"{len(view)} bytes arrived of {whole}")
        split = _FRAME.size + header_bytes
        return cls(
            header=bytes(view[_FRAME.size : split]), signature=signature, payload=view[split:]
        )


def signed_update(
    key: VehicleKey,
    tensors: Mapping[str, Tensor],
    *,
    vehicle: str,
    client: str,
    round_number: int,
    round_id: str,
    start_hash: str,
    num_samples: int,
    epoch: int = 0,
) -> SignedUpdate:
    """Pack and sign tensors: a whole state, or the units that a stage trained."""
    payload = safetensors.torch.save(
        {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    )
    header = UpdateHeader(
        version=VERSION,
        vehicle=vehicle,
        client=client,
        round=round_number,
        round_id=round_id,
        epoch=epoch,
        start_hash=start_hash,
        num_samples=num_samples,
        payload_bytes=len(payload),
        payload_sha256=hashlib.sha256(payload).hexdigest(),
    )
    text = json.dumps(asdict(header), sort_keys=True).encode()
    return SignedUpdate(header=text, signature=key.sign(signed_bytes(text)), payload=payload)


def signed_bytes(header: bytes) -> bytes:
    """What the signature is over."""
    return _DOMAIN + header


def read_header(update: SignedUpdate) -> UpdateHeader:
    """What the header says; nothing is checked but its form.

    Raises:
        FladError: (UPDATE_MALFORMED) if it is no header of this version.
    """
    if len(update.header) > MAX_HEADER_BYTES:
        raise FladError(
            UPDATE_MALFORMED,
            f"a header of {len(update.header)} bytes; at most {MAX_HEADER_BYTES} are read",
        )
    try:
        values = json.loads(update.header)
    except (ValueError, RecursionError) as error:
        raise FladError(UPDATE_MALFORMED, f"the header is no JSON: {error}") from error
    wanted = {f.name: str if f.type == "str" else int for f in fields(UpdateHeader)}
    if not isinstance(values, dict) or values.keys() != wanted.keys():
        got = sorted(values) if isinstance(values, dict) else type(values).__name__
        raise FladError(UPDATE_MALFORMED, f"the header has {got}, expected {sorted(wanted)}")
    for name, kind in wanted.items():
        if type(values[name]) is not kind:
            raise FladError(
                UPDATE_MALFORMED, f"{name} is a {kind.__name__}, got {values[name]!r:.80}"
            )
    if values["version"] != VERSION:
        raise FladError(UPDATE_MALFORMED, f"version {values['version']}, this edge reads {VERSION}")
    return UpdateHeader(**values)


def read_tensors(update: SignedUpdate, header: UpdateHeader) -> dict[str, Tensor]:
    """The tensors, if they are those that the header names.

    Raises:
        FladError: (UPDATE_MALFORMED) if not.
    """
    if len(update.payload) != header.payload_bytes:
        raise FladError(
            UPDATE_MALFORMED,
            f"{len(update.payload)} bytes of tensors, the header says {header.payload_bytes}",
        )
    if hashlib.sha256(update.payload).hexdigest() != header.payload_sha256:
        raise FladError(UPDATE_MALFORMED, "the tensors are not those that were signed")
    try:
        tensors: dict[str, Any] = safetensors.torch.load(bytes(update.payload))
    except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise FladError(UPDATE_MALFORMED, f"the tensors cannot be read: {error}") from error
    return tensors
