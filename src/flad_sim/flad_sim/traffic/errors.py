# SPDX-License-Identifier: Apache-2.0
"""The error of this package."""

from __future__ import annotations


class TrafficError(RuntimeError):
    """Traffic that cannot be started or has broken; the text says what and what to do."""
