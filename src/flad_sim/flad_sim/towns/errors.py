# SPDX-License-Identifier: Apache-2.0
"""The error of this package."""

from __future__ import annotations


class TownError(ValueError):
    """A town that cannot be had; the text says what, where and what to do."""
