# SPDX-License-Identifier: Apache-2.0
"""On the vehicle's disk: clips until the edge has them. No clock, no ROS.

FOLDER/waiting/    to be sent, oldest first
FOLDER/refused/    the edge will never take them; kept for whoever looks
FOLDER/sent/       the edge has them; they make room where others need it, nothing else does
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flad_common.config import knob

_WAITING, _REFUSED, _SENT = "waiting", "refused", "sent"
_MAX_WAIT_S = 300.0  # between two tries while nobody answers
Fate = Literal["accepted", "refused", "later"]


@dataclass(frozen=True, kw_only=True)
class OutboxConfig:
    """How much is kept, and how patiently it is sent."""

    max_mib: float = knob(
        2048.0,
        unit="MiB",
        doc="Of all clips on the vehicle. Sent ones give way; if none is left, new ones stay out.",
    )
    receipt_within_s: float = knob(
        10.0, unit="s", doc="Else the next clip has its turn; the wait doubles each time."
    )
    pause_s: float = knob(2.0, unit="s", doc="Between two uploads, so that driving comes first.")

    def __post_init__(self) -> None:
        if not (self.max_mib > 0.0 and self.receipt_within_s > 0.0 and self.pause_s >= 0.0):
            raise ValueError(
                "max_mib and receipt_within_s must be positive and pause_s not negative, got "
                f"{self.max_mib}, {self.receipt_within_s} and {self.pause_s}"
            )


class Outbox:
    """One clip is under way at a time, and none is lost: single-threaded, one per folder.

    Args:
        folder: what waits there from an earlier drive goes out, too.
        config: limits.
    """

    def __init__(self, folder: Path, config: OutboxConfig) -> None:
        self._folder, self._config = folder, config
        for name in (_WAITING, _REFUSED, _SENT):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._waiting = deque(_clips(folder / _WAITING))
        self._sent = deque(_clips(folder / _SENT))
        self._num_bytes = sum(path.stat().st_size for path in folder.glob("*/*.safetensors"))
        numbers = [int(path.name[:8]) for path in folder.glob("*/*.safetensors")]
        self._number = max(numbers, default=-1) + 1
        self._under_way: tuple[str, Path] | None = None
        self._wait_s = config.receipt_within_s
        self._sent_s = float("-inf")
        self.counts: Counter[str] = Counter()
        """Clips that came (``clips``), went (``accepted``, ``refused``), or for which there was
        ``no_room``; tries to which nobody answered (``unanswered``) or ``later``."""

    def put(self, clip: bytes) -> bool:
        """A clip wants to go; whether there is room for it.

        Raises:
            OSError: if the disk is full.
        """
        self.counts["clips"] += 1
        limit = self._config.max_mib * 2**20
        while self._sent and self._num_bytes + len(clip) > limit:
            oldest = self._sent.popleft()
            self._num_bytes -= oldest.stat().st_size
            oldest.unlink()
        if self._num_bytes + len(clip) > limit:
            self.counts["no_room"] += 1
            return False
        path = self._folder / _WAITING / f"{self._number:08d}_{_digits(clip)}.safetensors"
        self._number += 1
        partial = path.with_suffix(".partial")
        partial.write_bytes(clip)
        os.replace(partial, path)
        self._num_bytes += len(clip)
        self._waiting.append(path)
        return True

    def due(self, now_s: float, *, someone_listens: bool) -> bytes | None:
        """What to send now, if anything.

        Raises:
            OSError: if it cannot be read any more.
        """
        if self._under_way is not None:
            if now_s - self._sent_s < self._wait_s:
                return None
            self._next_turn("unanswered")
            self._wait_s = min(2.0 * self._wait_s, _MAX_WAIT_S)
        if not self._waiting or not someone_listens:
            return None
        if now_s - self._sent_s < self._config.pause_s:
            return None
        clip = self._waiting[0].read_bytes()
        self._under_way = (_digits(clip), self._waiting.popleft())
        self._sent_s = now_s
        return clip

    def receipt(self, clip: str, fate: Fate) -> bool:
        """The edge says what became of a clip; whether it was ours.

        Args:
            clip: 16 hexadecimal digits of its bytes.
            fate: ``later``: it may be sent again.
        """
        if self._under_way is None or self._under_way[0] != clip:
            return False
        self._wait_s = self._config.receipt_within_s
        if fate == "later":
            self._next_turn("later")
            return True
        path, self._under_way = self._under_way[1], None
        self.counts[fate] += 1
        there = self._folder / (_SENT if fate == "accepted" else _REFUSED) / path.name
        os.replace(path, there)
        if fate == "accepted":
            self._sent.append(there)
        return True

    @property
    def num_waiting(self) -> int:
        """Clips, the one under way included."""
        return len(self._waiting) + (self._under_way is not None)

    @property
    def num_bytes(self) -> int:
        """Of all clips on disk."""
        return self._num_bytes

    def _next_turn(self, why: str) -> None:
        """The clip that is under way goes to the end of the line."""
        assert self._under_way is not None
        self.counts[why] += 1
        self._waiting.append(self._under_way[1])
        self._under_way = None


def _clips(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _digits(clip: bytes) -> str:
    return hashlib.sha256(clip).hexdigest()[:16]
