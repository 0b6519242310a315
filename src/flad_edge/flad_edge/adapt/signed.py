# SPDX-License-Identifier: Apache-2.0
"""A clip under its vehicle's signature, as it travels: who uploads is who it says it is.

The keys are those of training (``./flad keys``); a clip that was signed is no update that was.
"""

from __future__ import annotations

from typing import NamedTuple

from flad_common.error_codes import UPDATE_UNSIGNED, FladError
from flad_pipeline.aggregation.keys import KeyRing, VehicleKey

_MAGIC = b"flad clip 1, signed\n"
_SIGNATURE_BYTES = 64


class Sealed(NamedTuple):
    """What an upload holds."""

    clip: bytes
    signature: bytes | None
    """None: it bears none."""


def seal(clip: bytes, key: VehicleKey) -> bytes:
    """The clip's bytes behind a signature of them."""
    return _MAGIC + key.sign(_MAGIC + clip) + clip


def unseal(data: bytes) -> Sealed:
    """What is in an upload; the signature is not looked at."""
    begin = len(_MAGIC) + _SIGNATURE_BYTES
    if not data.startswith(_MAGIC) or len(data) < begin:
        return Sealed(data, None)
    return Sealed(data[begin:], data[len(_MAGIC) : begin])


def check(sealed: Sealed, vehicle: str, ring: KeyRing) -> None:
    """Return if this vehicle signed this clip.

    Raises:
        FladError: (UPDATE_UNSIGNED) otherwise, saying why.
    """
    if sealed.signature is None:
        raise FladError(UPDATE_UNSIGNED, f"the clip of {vehicle!r} bears no signature")
    ring.verify(vehicle, _MAGIC + sealed.clip, sealed.signature)
