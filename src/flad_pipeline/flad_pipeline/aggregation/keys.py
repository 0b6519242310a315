# SPDX-License-Identifier: Apache-2.0
"""Ed25519 keys: a private one on each vehicle, the public ones enrolled at the edge.

The operator carries a vehicle's public key to the edge (``./flad keys``); nothing is trusted
because it arrived over the network.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import yaml
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from flad_common.error_codes import KEY_REFUSED, UPDATE_UNSIGNED, FladError

PUBLIC_KEY_BYTES = 32
_PRIVATE_MODE = 0o600
_HEADER = (
    "# Public keys of the vehicles whose updates this edge takes; written by ./flad keys.\n"
    "# A revoked key stays here, so that it cannot be enrolled again by mistake.\n"
)


class VehicleKey:
    """A vehicle's private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> VehicleKey:
        """A new one, from the system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> VehicleKey:
        """Read a PEM file.

        Raises:
            FladError: (KEY_REFUSED) if it is no Ed25519 key, or others may read it.
        """
        try:
            if path.stat().st_mode & 0o077:
                raise FladError(KEY_REFUSED, f"{path} may be read by others; run: chmod 600 {path}")
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise FladError(KEY_REFUSED, f"{path} is no private key: {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise FladError(KEY_REFUSED, f"{path} holds a {type(key).__name__}, not an Ed25519 key")
        return cls(key)

    def save(self, path: Path) -> None:
        """Write a PEM file that only its owner may read.

        Raises:
            FladError: (KEY_REFUSED) if there is a file already: a lost key cannot be made again.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        text = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_MODE)
        except FileExistsError:
            raise FladError(KEY_REFUSED, f"{path} exists; move it away or name another") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)

    @property
    def public(self) -> bytes:
        """32 bytes."""
        return self._key.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class EnrolledKey:
    """A vehicle's public key at the edge; times are ISO dates, for people."""

    public_key: str
    """Base64 of 32 bytes."""
    enrolled: str
    revoked: str | None = None


@dataclass(frozen=True, kw_only=True)
class KeyRing:
    """The vehicles whose signatures count. A value: changes give a new one."""

    keys: Mapping[str, EnrolledKey] = field(default_factory=dict)
    old_keys: tuple[str, ...] = ()
    """Revoked keys of vehicles that have another one now."""

    @classmethod
    def load(cls, path: Path) -> KeyRing:
        """Read a ring; an absent file is an empty one.

        Raises:
            FladError: (KEY_REFUSED) if it is none.
        """
        if not path.is_file():
            return cls()
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
            keys = {str(n): EnrolledKey(**entry) for n, entry in document["vehicles"].items()}
            ring = cls(keys=keys, old_keys=tuple(document["old_keys"]))
            for public_key in (*(key.public_key for key in keys.values()), *ring.old_keys):
                decode_public(public_key)
        except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise FladError(KEY_REFUSED, f"{path} is no ring of keys: {error!r}") from error
        return ring

    def save(self, path: Path) -> None:
        """Write the ring; a reader never sees half a file."""
        document = {
            "vehicles": {name: asdict(self.keys[name]) for name in sorted(self.keys)},
            "old_keys": list(self.old_keys),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".new")
        beside.write_text(_HEADER + yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        beside.replace(path)

    def enrol(self, vehicle: str, public: bytes, *, today: str) -> KeyRing:
        """With one more vehicle, or with a new key for one whose key is revoked.

        Raises:
            FladError: (KEY_REFUSED) if the vehicle has a key that counts, or the key is or was
                another vehicle's.
        """
        text = encode_public(public)
        there = self.keys.get(vehicle)
        if there is not None and there.revoked is None:
            raise FladError(
                KEY_REFUSED, f"{vehicle} is enrolled since {there.enrolled}; revoke that key first"
            )
        owners = [name for name, key in self.keys.items() if key.public_key == text]
        if owners or text in self.old_keys:
            raise FladError(
                KEY_REFUSED,
                f"this key is or was that of {', '.join(owners) or 'a vehicle'}; "
                f"make {vehicle} a new one",
            )
        old = (*self.old_keys, there.public_key) if there else self.old_keys
        entry = EnrolledKey(public_key=text, enrolled=today)
        return replace(self, keys={**self.keys, vehicle: entry}, old_keys=old)

    def revoke(self, vehicle: str, *, today: str) -> KeyRing:
        """With this vehicle's key counting no more.

        Raises:
            FladError: (KEY_REFUSED) if it has none that counts.
        """
        there = self.keys.get(vehicle)
        if there is None or there.revoked is not None:
            known = sorted(name for name, key in self.keys.items() if key.revoked is None)
            raise FladError(KEY_REFUSED, f"{vehicle} has no key here; enrolled are {known}")
        return replace(self, keys={**self.keys, vehicle: replace(there, revoked=today)})

    def verify(self, vehicle: str, message: bytes, signature: bytes) -> None:
        """Return if this vehicle signed this message.

        Raises:
            FladError: (UPDATE_UNSIGNED) otherwise, saying why.
        """
        enrolled = self.keys.get(vehicle)
        if enrolled is None:
            raise FladError(UPDATE_UNSIGNED, f"no key is enrolled for {vehicle!r}")
        if enrolled.revoked is not None:
            raise FladError(UPDATE_UNSIGNED, f"{vehicle}'s key was revoked on {enrolled.revoked}")
        key = Ed25519PublicKey.from_public_bytes(decode_public(enrolled.public_key))
        try:
            key.verify(signature, message)
        except InvalidSignature:
            raise FladError(
                UPDATE_UNSIGNED, f"the signature is not that of {vehicle}'s enrolled key"
            ) from None


def encode_public(public: bytes) -> str:
    """A public key as one line of text.

    Raises:
        FladError: (KEY_REFUSED) if it has not 32 bytes.
    """
    if len(public) != PUBLIC_KEY_BYTES:
        raise FladError(
            KEY_REFUSED, f"a public key has {PUBLIC_KEY_BYTES} bytes, got {len(public)}"
        )
    return base64.b64encode(public).decode()


def decode_public(text: str) -> bytes:
    """The opposite of :func:`encode_public`.

    Raises:
        FladError: (KEY_REFUSED) if it is none.
    """
    try:
        public = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise FladError(KEY_REFUSED, f"{text!r} is no public key: {error}") from error
    encode_public(public)
    return public
