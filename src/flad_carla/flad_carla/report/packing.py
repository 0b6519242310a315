# SPDX-License-Identifier: Apache-2.0
"""Columns of numbers as short text for a web page; ``web/data.js`` is the other half.

A column is rounded to a step, delta coded as int32 and deflated: slowly changing values cost
about one byte each. Text is base64.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

MISSING = -(2**30)  # stands for NaN


def pack(columns: Mapping[str, tuple[ArrayLike, float]]) -> dict[str, Any]:
    """Pack ``name -> (values, step)``; a value is kept to half a step, NaN stays NaN.

    Raises:
        ValueError: if a value is infinite or too large for its step.
    """
    spec, parts = [], []
    for name, (values, step) in columns.items():
        numbers = np.asarray(values, dtype=np.float64).ravel()
        whole = np.where(np.isnan(numbers), MISSING, np.rint(numbers / step))
        known = np.abs(whole[~np.isnan(numbers)])
        if known.size and not known.max() < -MISSING:
            raise ValueError(
                f"column {name!r} reaches {np.nanmax(np.abs(numbers)):g}, more than "
                f"{-MISSING * step:g}, the most a step of {step:g} allows"
            )
        parts.append(np.diff(whole, prepend=0.0).astype("<i4").tobytes())
        spec.append([name, int(numbers.size), step])
    return {
        "columns": spec,
        "missing": MISSING,
        "blob": base64.b64encode(zlib.compress(b"".join(parts), 9)).decode("ascii"),
    }


def unpack(packed: Mapping[str, Any]) -> dict[str, Any]:
    """Undo :func:`pack`, as the page does it."""
    data = np.frombuffer(zlib.decompress(base64.b64decode(packed["blob"])), dtype="<i4")
    columns, at = {}, 0
    for name, size, step in packed["columns"]:
        whole = np.cumsum(data[at : at + size], dtype=np.int64)
        columns[name] = np.where(whole == packed["missing"], np.nan, whole * step)
        at += size
    return columns
