# SPDX-License-Identifier: Apache-2.0
"""A network that loses, repeats, reorders and damages packets, by a seed."""

from __future__ import annotations

import array
import random
import threading
from dataclasses import dataclass, replace

from flad_pipeline.group.link import LinkEvents
from flad_pipeline.group.memory_link import MemoryLink
from flad_pipeline.group.packet import Packet, signed


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Shares of packets, each from 0 to 1."""

    lose: float = 0.0
    repeat: float = 0.0
    reorder: float = 0.0
    damage: float = 0.0
    misaddress: float = 0.0


class BadLink:
    """A memory link whose packets meet faults on the way out."""

    def __init__(self, link: MemoryLink, faults: Faults, seed: int) -> None:
        self._link = link
        self._faults = faults
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._kept_back: list[Packet] = []

    @property
    def name(self) -> str:
        return self._link.name

    @property
    def blocks(self) -> bool:
        return False

    def open(self, events: LinkEvents) -> None:
        self._link.open(events)

    def send(self, packet: Packet) -> None:
        with self._lock:
            for one in self._met(packet):
                self._link.send(one)

    def close(self) -> None:
        self._link.close()

    def _met(self, packet: Packet) -> list[Packet]:
        happens = lambda share: self._random.random() < share  # noqa: E731
        out = [] if happens(self._faults.lose) else [packet]
        if happens(self._faults.repeat):
            out.append(packet)
        if out and happens(self._faults.damage):
            out[0] = damaged(out[0], self._random)
        if out and happens(self._faults.misaddress):  # a broken router, not a broken packet
            out[0] = signed(replace(out[0], source="vehicle_9"))
        if happens(self._faults.reorder):
            out, self._kept_back = self._kept_back, [*out]
        elif self._kept_back:
            out, self._kept_back = out + self._kept_back, []
        return out


def damaged(packet: Packet, numbers: random.Random) -> Packet:
    """One bit of the data, or one number of the head, is another; the checksum is the old one."""
    if len(packet.data) and numbers.random() < 0.7:
        data = array.array("B", packet.data)
        data[numbers.randrange(len(data))] ^= 1 << numbers.randrange(8)
        return replace(packet, data=data)
    field = numbers.choice(["epoch", "tag", "sequence", "message", "ack", "limit", "step"])
    return replace(packet, **{field: getattr(packet, field) ^ (1 << numbers.randrange(6))})
