# SPDX-License-Identifier: Apache-2.0
"""The bridge's knobs and its errors; the node is in ``bridge_node.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flad_carla.session_errors import SessionError
from flad_common import error_codes
from flad_common.config import knob


class ControlTimeout(SessionError):  # noqa: N818 - says more than an Error suffix
    """Somebody did not answer a step in time; ``missing`` names the vehicles."""

    CODE = error_codes.CONTROL_TIMEOUT

    def __init__(self, text: str, missing: tuple[str, ...]) -> None:
        super().__init__(text)
        self.missing = missing


class NodeDied(ControlTimeout):
    """Nobody will answer: the process that should have has ended."""

    CODE = error_codes.NODE_DIED


@dataclass(frozen=True, kw_only=True)
class BridgeConfig:
    """How the bridge works in time."""

    mode: Literal["lockstep", "realtime"] = knob(
        "lockstep",
        unit="",
        doc="lockstep: every step waits for its controls; realtime: paced to the wall clock.",
    )
    control_deadline_s: float = knob(
        30.0, unit="s", doc="In lockstep, longest wait (wall time) for the controls of a step."
    )
    control_watchdog_s: float = knob(
        0.5, unit="s", doc="Silence after which the bridge brakes (realtime and manual override)."
    )

    def __post_init__(self) -> None:
        for name in ("control_deadline_s", "control_watchdog_s"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
