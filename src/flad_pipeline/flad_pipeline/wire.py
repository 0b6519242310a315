# SPDX-License-Identifier: Apache-2.0
"""How a tensor is written on the wire: exact, as half precision, or as bytes with error feedback.

Only what is sent from member to member may be rounded; collectives are always exact. The packets
that carry the bytes are in :mod:`flad_pipeline.group.packet`.
"""

from __future__ import annotations

import array
import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from flad_pipeline.group.packet import Piece

DTYPES: tuple[torch.dtype, ...] = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)
"""Number types by the number that a packet names them with; only ever appended to."""

INT8_BLOCK = 256
"""Numbers that share one scale: 1.6 % more bytes, and an outlier spoils only its neighbours."""
MIN_ROUNDED = 256
"""Smaller tensors are written exactly: they are losses, votes and flags."""

_INT8_MAX = 127


class Encoding(enum.IntEnum):
    """How the numbers of a single-precision tensor are written."""

    EXACT = 0
    FP16 = 1
    INT8 = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """A tensor as bytes, in pieces of at most the chunk size."""

    dtype: int
    """Index into :data:`DTYPES`."""
    encoding: Encoding
    shape: tuple[int, ...]
    chunks: tuple[array.array[int], ...]
    """At least one; an empty tensor has one empty chunk."""

    @property
    def num_bytes(self) -> int:
        """Of all chunks."""
        return sum(len(chunk) for chunk in self.chunks)


class UnusableTensorError(ValueError):
    """The bytes are not the tensor that was asked for."""


def encode(
    tensor: torch.Tensor,
    encoding: Encoding = Encoding.EXACT,
    *,
    chunk_bytes: int,
    feedback: ErrorFeedback | None = None,
    slot: object = None,
) -> Encoded:
    r"""Copy ``tensor`` into chunks.

    FP16 rounds: :math:`|e| \le \max(2^{-11} |x|, 2^{-25})`. INT8 has one scale per block of
    :data:`INT8_BLOCK` numbers in memory order, the largest magnitude over 127:
    :math:`|e| \le \max |x| / 254`. With ``feedback`` the rounding error of a slot is added to the
    next tensor of that slot, so that errors do not add up (Seide et al. 2014).

    A tensor that is not single precision, is short, or has a number that does not fit (not finite,
    or too large for FP16) is written exactly, and the result says so.

    Raises:
        TypeError: on a number type that is not in :data:`DTYPES`.
    """
    if tensor.dtype not in DTYPES:
        raise TypeError(
            f"a tensor of {tensor.dtype} cannot be sent; the wire has "
            f"{', '.join(str(dtype) for dtype in DTYPES)}"
        )
    flat = tensor.detach().contiguous().reshape(-1)
    written: npt.NDArray[np.uint8] | None = None
    if encoding is not Encoding.EXACT and _may_be_rounded(flat):
        written = _rounded(flat, encoding, feedback, slot)
    if written is None:
        encoding, written = Encoding.EXACT, flat.view(torch.uint8).numpy()
    return Encoded(
        dtype=DTYPES.index(tensor.dtype),
        encoding=encoding,
        shape=tuple(tensor.shape),
        chunks=_cut(written.data, chunk_bytes),
    )


def decode_into(
    tensor: torch.Tensor,
    *,
    dtype: int,
    encoding: int,
    shape: Sequence[int],
    chunks: Iterable[Piece],
) -> None:
    """Write what was received into ``tensor``.

    Raises:
        UnusableTensorError: if shape, number type, encoding or number of bytes are not those of
            ``tensor``; nothing has been written then.
    """
    pieces = list(chunks)
    said = f"{_name_of(dtype)}{list(shape)}"
    if tuple(shape) != tuple(tensor.shape) or _name_of(dtype) != str(tensor.dtype):
        raise UnusableTensorError(
            f"a {tensor.dtype}{list(tensor.shape)} was expected and {said} arrived; both sides "
            "must send and receive in the same order"
        )
    rounded = encoding in (Encoding.FP16, Encoding.INT8)
    if (not rounded and encoding != Encoding.EXACT) or (rounded and dtype != 0):
        raise UnusableTensorError(f"{said} is written with encoding {encoding}, which is unknown")
    expected, arrived = _num_bytes(tensor, encoding), sum(len(piece) for piece in pieces)
    if expected != arrived:
        raise UnusableTensorError(f"{said} takes {expected} bytes, {arrived} arrived")
    target = tensor.data
    flat = target.reshape(-1) if target.is_contiguous() else torch.empty_like(target).reshape(-1)
    if rounded:
        read = _unrounded(np.concatenate([_bytes(piece) for piece in pieces]), encoding, len(flat))
        flat.copy_(torch.from_numpy(read))
    else:
        _join(flat, pieces)
    if not target.is_contiguous():
        target.copy_(flat.view(target.shape))


class ErrorFeedback:
    """What rounding has left out so far, per slot; belongs to one group and one sender.

    A slot is whatever is sent over and over: here the way to one member with one tag and shape.
    """

    def __init__(self) -> None:
        self._left_out: dict[object, npt.NDArray[np.float32]] = {}

    def add_to(self, slot: object, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """``values`` plus what was left out of the slot's last tensor."""
        left_out = self._left_out.get(slot)
        return values if left_out is None else values + left_out

    def keep(self, slot: object, left_out: npt.NDArray[np.float32]) -> None:
        """Remember what was left out now."""
        self._left_out[slot] = left_out

    @property
    def num_bytes(self) -> int:
        """Memory that the slots take."""
        return sum(values.nbytes for values in self._left_out.values())


def _may_be_rounded(flat: torch.Tensor) -> bool:
    return flat.dtype is torch.float32 and len(flat) >= MIN_ROUNDED


def _rounded(
    flat: torch.Tensor, encoding: Encoding, feedback: ErrorFeedback | None, slot: object
) -> npt.NDArray[np.uint8] | None:
    """The bytes, or None if a number does not fit."""
    values = flat.numpy()
    if feedback is not None:
        values = feedback.add_to(slot, values)
    with np.errstate(over="ignore"):
        written = _half(values) if encoding is Encoding.FP16 else _int8(values)
    if written is None:
        return None
    if feedback is not None:
        feedback.keep(slot, values - _unrounded(written, encoding, len(values)))
    return written


def _half(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8] | None:
    half = values.astype("<f2")
    return half.view(np.uint8) if np.isfinite(half).all() else None


def _int8(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8] | None:
    """Scales of all blocks, then one byte a number."""
    num_blocks = -(-len(values) // INT8_BLOCK)
    blocks = np.zeros((num_blocks, INT8_BLOCK), np.float32)
    blocks.reshape(-1)[: len(values)] = values
    peak = np.abs(blocks).max(axis=1)
    if not np.isfinite(peak).all():
        return None
    scale = peak / np.float32(_INT8_MAX)
    scale[scale == 0.0] = 1.0  # zeros, or so small that the scale is no number any more
    steps = np.rint(np.clip(blocks / scale[:, None], -_INT8_MAX, _INT8_MAX)).astype(np.int8)
    return np.concatenate(
        [scale.astype("<f4").view(np.uint8), steps.reshape(-1)[: len(values)].view(np.uint8)]
    )


def _unrounded(
    written: npt.NDArray[np.uint8], encoding: int, length: int
) -> npt.NDArray[np.float32]:
    if encoding == Encoding.FP16:
        return written.view("<f2").astype(np.float32)
    num_blocks = -(-length // INT8_BLOCK)
    scale = written[: 4 * num_blocks].copy().view("<f4")
    steps = written[4 * num_blocks :].view(np.int8).astype(np.float32)
    steps *= np.repeat(scale, INT8_BLOCK)[:length]
    return steps


def _num_bytes(tensor: torch.Tensor, encoding: int) -> int:
    if encoding == Encoding.FP16:
        return 2 * tensor.numel()
    if encoding == Encoding.INT8:
        return 4 * -(-tensor.numel() // INT8_BLOCK) + tensor.numel()
    return tensor.numel() * tensor.element_size()


def _cut(data: memoryview, chunk_bytes: int) -> tuple[array.array[int], ...]:
    chunks = []
    for start in range(0, max(len(data), 1), chunk_bytes):
        chunk = array.array("B")
        chunk.frombytes(data[start : start + chunk_bytes])
        chunks.append(chunk)
    return tuple(chunks)


def _join(flat: torch.Tensor, pieces: Sequence[Piece]) -> None:
    raw = flat.view(torch.uint8).numpy()
    start = 0
    for piece in pieces:
        raw[start : start + len(piece)] = _bytes(piece)
        start += len(piece)


def _bytes(piece: Piece) -> npt.NDArray[np.uint8]:
    return np.frombuffer(piece, np.uint8)


def _name_of(dtype: int) -> str:
    return str(DTYPES[dtype]) if 0 <= dtype < len(DTYPES) else f"number type {dtype}"
