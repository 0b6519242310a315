# SPDX-License-Identifier: Apache-2.0
"""A clip as training takes it, in memory and as bytes: features, words, waypoints; no pictures.

Recordings become such clips (:mod:`.recordings`), and vehicles upload them. The bytes are one
safetensors file: arrays, and a header of text; nothing in it can run.

Shapes: F frames, K scene tokens of D channels, P waypoints.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

FORMAT = 1
FRAME_INTERVAL_S = 0.2
"""Of every clip: the one rate of training and driving."""
MAX_FRAMES = 1500
MAX_BYTES = 32 * 1024 * 1024
MAX_TEXT = 400
"""Characters of an instruction or a notice."""
_MAX_HEADER_BYTES = 256 * 1024
_MAX_WAYPOINT_M = 1000.0
_ARRAYS = {"tokens": "<f2", "waypoints_m": "<f4", "completed": "|i1", "speed_mps": "<f4"}

NO, YES, UNKNOWN = 0, 1, -1
"""Of ``completed``."""


@dataclass(frozen=True, kw_only=True)
class FeatureClip:
    """Frames every 0.2 s under one instruction.

    Raises:
        ValueError: if the parts do not go together or hold what no clip can; what is wrong is said.
    """

    instruction: str
    tokens: NDArray[np.float16]
    """``[F, K, D]``, as the encoder gave them."""
    waypoints_m: NDArray[np.float32]
    """``[F, P, 2]``: where to be 0.5, 1.0, ... s later; x forward, y left, in the vehicle frame at
    the time of the frame; NaN in all of a frame where it is not known."""
    completed: NDArray[np.int8]
    """``[F]``: whether the instruction is carried out: NO, YES, or UNKNOWN."""
    speed_mps: NDArray[np.float32]
    """``[F]``; for figures and sampling, no model reads it (the tokens hold it)."""
    encoder_hash: str
    """Of the weights that made the tokens; 16 hexadecimal digits."""
    contract_version: int
    """Of the tokens."""
    notices: Mapping[int, str] = field(default_factory=dict)
    """By the frame (from 0) that they follow."""
    about: Mapping[str, str] = field(default_factory=dict)
    """More text, such as ``town``, ``weather_id``, ``kind``, ``source``, ``vehicle``."""

    def __post_init__(self) -> None:
        if wrong := complaint(self):
            raise ValueError(f"this is no clip: {wrong}")

    @property
    def num_frames(self) -> int:
        """At least 1."""
        return len(self.tokens)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """``[F]``: where the waypoints are known."""
        known = np.isfinite(self.waypoints_m).all(axis=(1, 2))
        return np.asarray(known)


def complaint(clip: FeatureClip) -> str | None:
    """Why these parts are no clip; None if they are one."""
    n = len(clip.tokens)
    shapes = {"tokens": 3, "waypoints_m": 3, "completed": 1, "speed_mps": 1}
    for name, kind in _ARRAYS.items():
        array = getattr(clip, name)
        if array.dtype != np.dtype(kind) or array.ndim != shapes[name] or len(array) != n:
            return (
                f"{name} is {array.dtype} {list(array.shape)}, expected {np.dtype(kind)} with "
                f"{shapes[name]} axes, the first of {n} frames"
            )
    if not 1 <= n <= MAX_FRAMES:
        return f"it has {n} frames, allowed are 1 to {MAX_FRAMES}"
    if 0 in clip.tokens.shape or clip.waypoints_m.shape[1] < 1 or clip.waypoints_m.shape[2] != 2:
        return (
            f"tokens are {list(clip.tokens.shape)} and waypoints {list(clip.waypoints_m.shape)}, "
            "expected [F, K, D] and [F, P, 2]"
        )
    if not (np.isfinite(clip.tokens).all() and np.isfinite(clip.speed_mps).all()):
        return "tokens or speeds are not finite"
    known = np.isfinite(clip.waypoints_m)
    if (known.any(axis=(1, 2)) != known.all(axis=(1, 2))).any():
        return "waypoints of a frame are known in part; expected all of them, or NaN in all"
    if known.any() and float(np.abs(clip.waypoints_m[known]).max()) > _MAX_WAYPOINT_M:
        return f"a waypoint is farther than {_MAX_WAYPOINT_M:g} m away"
    if not np.isin(clip.completed, (NO, YES, UNKNOWN)).all():
        return f"completed must be {NO}, {YES} or {UNKNOWN}, got {np.unique(clip.completed)}"
    for what, text in (("instruction", clip.instruction), *_named(clip.notices)):
        if not 0 < len(text.strip()) <= len(text) <= MAX_TEXT:
            return f"{what} has {len(text)} characters, allowed are 1 to {MAX_TEXT}"
    if outside := [f for f in clip.notices if not 0 <= f < n]:
        return f"notices follow frames {outside} of {n}"
    return None


def clip_to_bytes(clip: FeatureClip) -> bytes:
    """One clip as a message's bytes, or a file's."""
    header = {
        "flad_clip_format": str(FORMAT),
        "frame_interval_s": str(FRAME_INTERVAL_S),
        "instruction": clip.instruction,
        "notices": json.dumps({str(frame): text for frame, text in clip.notices.items()}),
        "encoder_hash": clip.encoder_hash,
        "contract_version": str(clip.contract_version),
        "about": json.dumps(dict(clip.about), sort_keys=True),
    }
    arrays = {name: np.ascontiguousarray(getattr(clip, name)) for name in _ARRAYS}
    return bytes(safetensors.numpy.save(arrays, metadata=header))


def clip_from_bytes(data: bytes) -> FeatureClip:
    """The clip in ``data``, which may come from anybody.

    Raises:
        ValueError: if it is none; the message says why.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"a clip of {len(data)} bytes is too large, allowed are {MAX_BYTES}")
    header = _header(data)
    if header.get("flad_clip_format") != str(FORMAT):
        raise ValueError(
            f"clip format {header.get('flad_clip_format')!r}, this program reads {FORMAT}"
        )
    try:
        arrays = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"this is no clip: {error}") from error
    if set(arrays) != set(_ARRAYS):
        raise ValueError(f"a clip holds {sorted(_ARRAYS)}, this has {sorted(arrays)[:9]}")
    try:
        interval_s = float(header["frame_interval_s"])
        notices = {int(f): _text(t) for f, t in json.loads(header["notices"]).items()}
        about = {_text(k): _text(v) for k, v in json.loads(header["about"]).items()}
        contract = int(header["contract_version"])
        words, made_by = header["instruction"], header["encoder_hash"]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"this is no clip: its header lacks or garbles {error}") from error
    if not math.isclose(interval_s, FRAME_INTERVAL_S):
        raise ValueError(
            f"its frames are {interval_s:g} s apart, expected {FRAME_INTERVAL_S:g}, as in driving"
        )
    return FeatureClip(
        instruction=words,
        notices=notices,
        encoder_hash=made_by,
        contract_version=contract,
        about=about,
        **arrays,
    )


def write_clip(path: Path, clip: FeatureClip) -> None:
    """Write ``*.safetensors``; a reader never sees half of it."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(clip_to_bytes(clip))
    os.replace(partial, path)


def read_clip(path: Path) -> FeatureClip:
    """Read a clip.

    Raises:
        OSError: if there is no such file.
        ValueError: if it holds none; the message begins with the path.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES} bytes")
        return clip_from_bytes(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _header(data: bytes) -> dict[str, str]:
    """The text that safetensors puts before the arrays."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= size <= min(_MAX_HEADER_BYTES, len(data) - 8):
        raise ValueError("this is no clip: its header is missing, cut off or too large")
    try:
        header = json.loads(data[8 : 8 + size])["__metadata__"]
        return {_text(k): _text(v) for k, v in header.items()}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"this is no clip: its header cannot be read: {error}") from error


def _named(notices: Mapping[int, str]) -> list[tuple[str, str]]:
    return [(f"the notice after frame {frame}", text) for frame, text in notices.items()]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r}, which is no text")
    return value
