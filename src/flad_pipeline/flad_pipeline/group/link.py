# SPDX-License-Identifier: Apache-2.0
"""What a transport stands on: something that carries packets, well or badly.

Implementations: :mod:`flad_pipeline.group.memory_link` within a process,
:mod:`flad_pipeline.ros.dds_transport` over ROS 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from flad_pipeline.group.packet import Packet


@dataclass(frozen=True, kw_only=True)
class LinkEvents:
    """Whom a link tells what; called from the link's own threads, and never after ``close``."""

    on_packet: Callable[[Packet], None]
    on_lost: Callable[[str, str], None]
    """A member's process is gone: its name, and how that was seen."""
    on_malformed: Callable[[str], None] = lambda reason: None
    """Bytes arrived that are no packet, for this reason; whose they are, they do not say."""


class Link(Protocol):
    """Carries packets. It may lose, repeat, reorder and damage them: the transport repairs that."""

    @property
    def name(self) -> str:
        """This vehicle's name; what others send to."""
        ...

    @property
    def blocks(self) -> bool:
        """Whether :meth:`send` may wait for the network: then no thread that computes calls it."""
        ...

    def open(self, events: LinkEvents) -> None:
        """Begin to deliver."""
        ...

    def send(self, packet: Packet) -> None:
        """Pass on a packet.

        Raises:
            KeyError: if the link knows no such destination; the message names those it knows.
        """
        ...

    def close(self) -> None:
        """Deliver nothing any more and let go of what was made."""
        ...
