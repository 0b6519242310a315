# SPDX-License-Identifier: Apache-2.0
"""How long a transport waits, how much it holds, and how a wait ends that was in vain."""

from __future__ import annotations

from dataclasses import dataclass

from flad_common.config import knob, section
from flad_common.error_codes import ErrorCode, FladError
from flad_pipeline.group.channel import ChannelConfig


@dataclass(frozen=True, kw_only=True)
class TransportConfig:
    """Waits and bounds of a vehicle's transport."""

    timeout_s: float = knob(30.0, unit="s", doc="Deadline of a wait that names none of its own.")
    outbox_bytes: int = knob(
        268_435_456, unit="B", doc="Waiting for one member; a send above it waits for room."
    )
    mailbox_bytes: int = knob(
        268_435_456, unit="B", doc="Arrived from one member and not taken; above it, no credit."
    )
    heartbeat_s: float = knob(0.25, unit="s", doc="Time between two words on progress.")
    silent_after_s: float = knob(
        5.0, unit="s", doc="A member that says nothing for so long is lost; 0: never."
    )
    hang_after_s: float = knob(
        0.0, unit="s", doc="So is one that works, waits for nobody and gets nowhere; 0: never."
    )
    channel: ChannelConfig = section(ChannelConfig, doc="Flow control between two members.")

    def __post_init__(self) -> None:
        for name in ("timeout_s", "heartbeat_s"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("silent_after_s", "hang_after_s"):
            if getattr(self, name) < 0.0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if 0.0 < self.silent_after_s <= 2.0 * self.heartbeat_s:
            raise ValueError(
                f"silent_after_s must be more than two heartbeats of {self.heartbeat_s} s, "
                f"got {self.silent_after_s}"
            )
        for name in ("outbox_bytes", "mailbox_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class GroupError(FladError):
    """A group cannot go on.

    Attributes:
        lost: the member that was lost or late; empty if none was.
    """

    def __init__(self, code: ErrorCode, detail: str, lost: str = "") -> None:
        super().__init__(code, detail)
        self.lost = lost
