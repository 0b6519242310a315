# SPDX-License-Identifier: Apache-2.0
"""The driver that decides nothing: straight ahead at one speed. A floor for everybody's scores."""

from __future__ import annotations

import dataclasses

from flad_carla.expert.driver import STEP_S, Decision

SOURCE = "constant"
_SPEED_MPS = 5.0


def straight_ahead(decision: Decision) -> Decision:
    """``decision`` with its waypoints laid on the car's own axis, at a constant speed."""
    forward = tuple(_SPEED_MPS * STEP_S * (i + 1) for i in range(len(decision.forward)))
    return dataclasses.replace(
        decision,
        forward=forward,
        left=tuple(0.0 for _ in forward),
        target_speed_mps=_SPEED_MPS,
        reason="constant speed, straight ahead",
        source=SOURCE,
    )
