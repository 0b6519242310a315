# SPDX-License-Identifier: Apache-2.0
"""Clips that vehicles uploaded: checked, bounded, on disk. Features and words, never pictures.

    ROOT/VEHICLE/HASH.safetensors

The format is :mod:`flad_edge.training.clip_file`'s, which has no place for a picture or a position
in the world; how a vehicle makes one stands in :mod:`.clip_builder`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path

from flad_common.config import knob
from flad_common.error_codes import UPLOAD_QUOTA, UPLOAD_REFUSED, ErrorCode, FladError
from flad_edge.adapt import signed
from flad_edge.service.releases import Release
from flad_edge.training.clip_file import FeatureClip, clip_from_bytes
from flad_pipeline.aggregation.keys import KeyRing

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_TEXT = 500
_MINUTE_S = 60.0
ABOUT = frozenset({"source", "vehicle", "town", "driver"})
"""What an upload may say about itself."""


@dataclass(frozen=True, kw_only=True)
class UploadConfig:
    """How much is kept."""

    max_vehicle_mib: float = knob(
        64.0, unit="MiB", doc="Of one vehicle; then its oldest clips give way."
    )
    max_clips_per_minute: int = knob(12, unit="1/min", doc="Of one vehicle; more are refused.")
    max_vehicles: int = knob(256, unit="1", doc="That may upload; one more is refused.")
    min_frames: int = knob(10, unit="1", doc="With known waypoints, that a clip must have.")
    vehicle_keys: str = knob(
        "",
        unit="",
        doc="Ring of vehicles' public keys (./flad keys enrol), read anew for every upload; clips "
        "without the signature of their vehicle are refused. Empty: signatures are not looked at.",
    )

    def __post_init__(self) -> None:
        if not self.max_vehicle_mib > 0.0:
            raise ValueError(f"max_vehicle_mib must be positive, got {self.max_vehicle_mib}")
        for name in ("max_vehicles", "max_clips_per_minute", "min_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """What became of an upload."""

    vehicle: str
    """"" where the upload does not say."""
    clip: str
    """16 hexadecimal digits of its bytes."""
    error: ErrorCode | None = None
    text: str = ""
    """Why it was refused."""


class UploadBox:
    """Takes uploads of one contract and encoder. Single-threaded.

    Args:
        root: where clips lie; what is there already counts.
        config: limits.
    """

    def __init__(self, root: Path, config: UploadConfig) -> None:
        self._root = root
        self._config = config
        root.mkdir(parents=True, exist_ok=True)
        self._bytes: Counter[str] = Counter()
        self._times_s: dict[str, deque[float]] = {}  # of what was taken in the last minute
        for path in root.glob("*/*.safetensors"):
            self._bytes[path.parent.name] += path.stat().st_size
        self.counts: Counter[str] = Counter()
        """Uploads by how they ended (``accepted``, ``again`` where the clip was here already, or an
        error), and clips that ``gave_way``."""
        self.num_frames = 0
        """With known waypoints, taken since the start."""

    def take(self, data: bytes, release: Release, now_s: float) -> Receipt:
        """Keep a clip, or say why not.

        Args:
            data: as :func:`flad_edge.training.clip_file.clip_to_bytes` gives it, perhaps under
                a signature; from anybody.
            release: the live one, whose encoder's tokens are wanted.
            now_s: on the caller's steady clock.

        Raises:
            OSError: if the disk is full.
        """
        sealed = signed.unseal(data)
        data = sealed.clip
        digits = hashlib.sha256(data).hexdigest()[:16]
        vehicle = ""
        try:
            clip = _parsed(data)
            vehicle = clip.about.get("vehicle", "")
            self._check(clip, vehicle, release)
            self._check_signature(sealed, vehicle)
            path = self._root / vehicle / f"{digits}.safetensors"
            if path.is_file():  # its receipt was lost on the way
                self.counts["again"] += 1
                return Receipt(vehicle=vehicle, clip=digits, text="it is here already")
            self._check_quota(vehicle, len(data), now_s)
        except FladError as error:
            self.counts[error.code.name] += 1
            text = error.detail[:_MAX_TEXT]
            return Receipt(vehicle=vehicle[:64], clip=digits, error=error.code, text=text)
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_bytes(data)
        os.replace(partial, path)
        self._bytes[vehicle] += len(data)
        self._times_s.setdefault(vehicle, deque()).append(now_s)
        self._make_room(vehicle, keep=path)
        self.counts["accepted"] += 1
        self.num_frames += int(clip.labelled.sum())
        return Receipt(vehicle=vehicle, clip=digits)

    @property
    def num_bytes(self) -> int:
        """On disk."""
        return self._bytes.total()

    def _check(self, clip: FeatureClip, vehicle: str, release: Release) -> None:
        if not _NAME.fullmatch(vehicle):
            raise _refusal(
                f"about.vehicle must be 1 to 64 letters, digits, '_' or '-', got {vehicle[:64]!r}"
            )
        if strange := sorted(set(clip.about) - ABOUT):
            raise _refusal(f"about has {strange[:5]}, allowed are {sorted(ABOUT)}")
        if clip.contract_version != release.contract_version:
            raise _refusal(
                f"its tokens follow contract {clip.contract_version}, the live release reads "
                f"{release.contract_version}"
            )
        if clip.encoder_hash != release.encoder_hash:
            raise _refusal(
                f"its tokens are of encoder {clip.encoder_hash[:64]!r}, the live release reads "
                f"those of {release.encoder_hash}"
            )
        if clip.tokens.shape[1:] != (release.num_tokens, release.token_dim):
            raise _refusal(
                f"its frames have {clip.tokens.shape[1]} tokens of {clip.tokens.shape[2]}, the "
                f"live release reads {release.num_tokens} of {release.token_dim}"
            )
        known = int(clip.labelled.sum())
        if known < self._config.min_frames:
            raise _refusal(
                f"{known} of its frames have known waypoints, at least {self._config.min_frames} "
                "are needed"
            )

    def _check_signature(self, sealed: signed.Sealed, vehicle: str) -> None:
        if not self._config.vehicle_keys:
            return
        try:
            signed.check(sealed, vehicle, KeyRing.load(Path(self._config.vehicle_keys)))
        except FladError as error:
            raise _refusal(error.detail) from error

    def _check_quota(self, vehicle: str, num_bytes: int, now_s: float) -> None:
        c = self._config
        if vehicle not in self._bytes and len(self._bytes) >= c.max_vehicles:
            raise FladError(UPLOAD_QUOTA, f"{len(self._bytes)} vehicles have uploaded, no more may")
        if num_bytes > c.max_vehicle_mib * 2**20:
            raise FladError(
                UPLOAD_QUOTA,
                f"this clip has {num_bytes / 2**20:.1f} MiB, a vehicle may have "
                f"{c.max_vehicle_mib:g} in all",
            )
        times_s = self._times_s.get(vehicle, deque())
        while times_s and now_s - times_s[0] >= _MINUTE_S:
            times_s.popleft()
        if len(times_s) >= c.max_clips_per_minute:
            raise FladError(
                UPLOAD_QUOTA,
                f"{vehicle!r} has uploaded {len(times_s)} clips within a minute, allowed are "
                f"{c.max_clips_per_minute}",
            )

    def _make_room(self, vehicle: str, keep: Path) -> None:
        """The oldest clips of a vehicle go until it is within its share."""
        limit = self._config.max_vehicle_mib * 2**20
        if self._bytes[vehicle] <= limit:
            return
        others = [path for path in keep.parent.glob("*.safetensors") if path != keep]
        for path in sorted(others, key=lambda p: p.stat().st_mtime_ns):
            self._bytes[vehicle] -= path.stat().st_size
            path.unlink()
            self.counts["gave_way"] += 1
            if self._bytes[vehicle] <= limit:
                return


def _parsed(data: bytes) -> FeatureClip:
    try:
        return clip_from_bytes(data)
    except ValueError as error:
        raise _refusal(str(error)) from error


def _refusal(text: str) -> FladError:
    return FladError(UPLOAD_REFUSED, text)
