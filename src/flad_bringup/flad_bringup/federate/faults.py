# SPDX-License-Identifier: Apache-2.0
"""What shall go wrong, and when: ``vehicle_1@12``, ``edge@2:30``, ``vehicle_0@12+5``."""

from __future__ import annotations

import re
from dataclasses import dataclass

EDGE = "edge"
_TEXT = re.compile(
    r"(?P<who>[A-Za-z]\w*)@(?:(?P<round>\d+):)?(?P<step>\d+)(?:\+(?P<for_s>[\d.]+))?"
)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Something that happens to a process when a step of a round is reached."""

    who: str
    round: int
    step: int
    for_s: float = 0.0

    def is_reached(self, round_number: int, step: int) -> bool:
        """Whether somebody at this step has come so far."""
        return (round_number, step) >= (self.round, self.step)


def moment(text: str) -> Moment:
    """Read ``WHO@STEP``, ``WHO@ROUND:STEP``, either with ``+SECONDS``.

    Raises:
        ValueError: if it is none.

    Example:
        >>> moment("vehicle_1@2:12")
        Moment(who='vehicle_1', round=2, step=12, for_s=0.0)
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is no moment; write vehicle_1@12 (step 12 of round 1) or vehicle_1@2:12"
        )
    return Moment(
        who=match["who"],
        round=int(match["round"] or 1),
        step=int(match["step"]),
        for_s=float(match["for_s"] or 0.0),
    )
