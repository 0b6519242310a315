# SPDX-License-Identifier: Apache-2.0
"""Sensor attributes arrive as texts; here they become numbers, or an error that names them."""

from __future__ import annotations

import math
from collections.abc import Mapping


def number(
    attributes: Mapping[str, str],
    name: str,
    default: float,
    *,
    low: float = -math.inf,
    high: float = math.inf,
) -> float:
    """The attribute ``name`` as a number in ``[low, high]``.

    Raises:
        ValueError: if it is none; the message has the name, the text and the range.
    """
    text = attributes.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise ValueError(f"sensor attribute {name} must be in [{low:g}, {high:g}], got {text!r}")
    return value
