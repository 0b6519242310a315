# SPDX-License-Identifier: Apache-2.0
"""Tokens as bytes and back: what ``flad_msgs/SceneTokens`` carries. No ROS and no torch here.

The message's constants are :class:`WireDtype`'s values; a test keeps both equal.
"""

from __future__ import annotations

import enum
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_INT8_MAX = 127
_FP16_MAX = float(np.finfo(np.float16).max)

Floats = NDArray[np.float32]


class WireDtype(enum.IntEnum):
    """How one number of a token is written."""

    FP32 = 0
    FP16 = 1
    INT8 = 2

    @property
    def layout(self) -> np.dtype[np.generic]:
        """Little-endian numpy type of one number."""
        return np.dtype({0: "<f4", 1: "<f2", 2: "i1"}[int(self)])


@dataclass(frozen=True, kw_only=True)
class EncodedTokens:
    """Tokens ``[T, D]`` as they travel."""

    dtype: WireDtype
    num_tokens: int
    dim: int
    data: bytes
    scale: tuple[float, ...] = ()
    """INT8: one per token; otherwise empty."""
    crc32: int = 0


def encode_tokens(tokens: NDArray[np.floating], dtype: WireDtype) -> EncodedTokens:
    r"""Write tokens ``[T, D]``.

    FP32 is exact. FP16 rounds: :math:`|e| \le \max(2^{-11} |x|, 2^{-25})`. INT8 has one scale per
    token, :math:`s = \max_d |x_d| / 127`, and :math:`|e| \le s / 2`.

    Raises:
        ValueError: if the shape is not ``[T, D]``, or a number is not finite or too large for FP16:
            a broken token must not look like a good one.

    Example:
        >>> encode_tokens(np.array([[1.0, -2.54]]), WireDtype.INT8).scale
        (0.019999999552965164,)
    """
    if tokens.ndim != 2:
        raise ValueError(f"tokens must have shape [T, D], got {list(tokens.shape)}")
    values: Floats = np.ascontiguousarray(tokens, dtype=np.float32)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise ValueError(f"token {row} has numbers that are not finite")
    scale: tuple[float, ...] = ()
    if dtype is WireDtype.INT8:
        peak = np.abs(values).max(axis=1, initial=0.0)
        scales = np.where(peak > 0.0, peak / _INT8_MAX, 1.0).astype(np.float32)
        scales = np.maximum(scales, np.finfo(np.float32).tiny)
        written = np.clip(np.rint(values / scales[:, None]), -_INT8_MAX, _INT8_MAX)
        scale = tuple(scales.tolist())
        data = written.astype(dtype.layout).tobytes()
    else:
        if dtype is WireDtype.FP16 and values.size and np.abs(values).max() > _FP16_MAX:
            raise ValueError(
                f"a token reaches {np.abs(values).max():g}, FP16 holds {_FP16_MAX:g}; use FP32"
            )
        data = values.astype(dtype.layout).tobytes()
    return EncodedTokens(
        dtype=dtype,
        num_tokens=values.shape[0],
        dim=values.shape[1],
        data=data,
        scale=scale,
        crc32=zlib.crc32(data),
    )


def decode_tokens(encoded: EncodedTokens) -> Floats:
    """Read tokens, ``[T, D]`` in single precision.

    Raises:
        ValueError: naming what does not fit: lengths, checksum, scales, numbers that are not
            finite. A damaged message is dropped by the caller, never fed to a model.
    """
    dtype = encoded.dtype
    expected = encoded.num_tokens * encoded.dim * dtype.layout.itemsize
    if len(encoded.data) != expected:
        raise ValueError(
            f"{encoded.num_tokens} tokens of {encoded.dim} in {dtype.name} are {expected} bytes, "
            f"got {len(encoded.data)}"
        )
    if zlib.crc32(encoded.data) != encoded.crc32:
        raise ValueError(
            f"checksum is {zlib.crc32(encoded.data):#010x}, expected {encoded.crc32:#010x}"
        )
    num_scales = encoded.num_tokens if dtype is WireDtype.INT8 else 0
    if len(encoded.scale) != num_scales:
        raise ValueError(f"{dtype.name} needs {num_scales} scales, got {len(encoded.scale)}")
    raw = np.frombuffer(encoded.data, dtype=dtype.layout)
    values = raw.reshape(encoded.num_tokens, encoded.dim).astype(np.float32)
    if dtype is WireDtype.INT8:
        scales = np.asarray(encoded.scale, dtype=np.float32)
        if not (np.isfinite(scales) & (scales > 0.0)).all():
            raise ValueError("scales must be finite and positive")
        values *= scales[:, None]
    if not np.isfinite(values).all():
        raise ValueError("some numbers are not finite")
    return values
