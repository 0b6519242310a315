# SPDX-License-Identifier: Apache-2.0
"""Which steps of simulated time a slower part of the stack answers."""

from __future__ import annotations


def is_due(stamp_ns: int, period_s: float) -> bool:
    """Whether a stamp is a multiple of a period: in lockstep a plan or tokens are awaited then.

    Simulators add up floating-point steps, hence a tolerance of a tenth of a millisecond.

    Example:
        >>> is_due(300_000_001, 0.1), is_due(350_000_000, 0.1)
        (True, False)
    """
    period_ns = round(period_s * 1e9)
    rest = stamp_ns % period_ns
    return min(rest, period_ns - rest) < 100_000
