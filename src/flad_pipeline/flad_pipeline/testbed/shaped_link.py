# SPDX-License-Identifier: Apache-2.0
"""A link that is as slow, as far and as lossy as a radio: around any other link.

A packet takes the channel for its bytes, then its delay, then goes on over the real link, which is
so much faster that it does not count. The sender waits while its packet is on the channel, as it
would for a network interface whose queue is full.
"""

from __future__ import annotations

import heapq
import logging
import random
import threading
import time
from pathlib import Path

from flad_pipeline.group.link import Link, LinkEvents
from flad_pipeline.group.packet import Packet
from flad_pipeline.testbed.channel_file import ChannelFile
from flad_pipeline.testbed.testbed import Testbed

_log = logging.getLogger(__name__)

HEADER_BYTES = 150
"""Of a packet beside its data: names and numbers of a ``GroupPacket``, RTPS, UDP."""


class ShapedLink:
    """``link`` as the testbed says.

    Args:
        link: what really carries the packets.
        testbed: rates, delays and losses, and the dilation that stretches them.
        channel_file: the same for all vehicles of a run; see :class:`ChannelFile`.
        seed: of losses.
    """

    def __init__(self, link: Link, testbed: Testbed, channel_file: Path, seed: int = 0) -> None:
        self._link, self._testbed = link, testbed
        self._names = sorted(testbed.vehicles)
        count = 1 if testbed.shared_channel else len(self._names) ** 2
        self._channel = ChannelFile(channel_file, count)
        self._random = random.Random(f"{seed} {link.name}")
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, Packet]] = []
        self._number = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"air of {link.name}", daemon=True)
        self.num_bytes = 0
        """That took the channel, headers included."""
        self.num_packets = 0
        self.num_lost = 0
        self.channel_s = 0.0
        """That they took it, in seconds here."""

    @property
    def name(self) -> str:
        """This vehicle's name."""
        return self._link.name

    @property
    def blocks(self) -> bool:
        """For as long as the packet is on the channel."""
        return True

    def open(self, events: LinkEvents) -> None:
        """Begin to deliver."""
        self._thread.start()
        self._link.open(events)

    def send(self, packet: Packet) -> None:
        """Pass on a packet; returns when it has left this vehicle.

        Raises:
            KeyError: if the testbed knows no such destination.
        """
        self._testbed.vehicle(packet.destination)
        profile = self._testbed.link_between(self.name, packet.destination)
        size = len(packet.data) + HEADER_BYTES
        takes_s = self._testbed.dilation * 8.0 * size / profile.bits_per_s
        leaves_s = self._channel.reserve(self._channel_to(packet.destination), takes_s)
        is_lost = profile.loss > 0.0 and self._random.random() < profile.loss
        with self._changed:
            self.num_bytes += size
            self.num_packets += 1
            self.num_lost += is_lost
            self.channel_s += takes_s
            if not is_lost:
                arrives_s = leaves_s + self._testbed.dilation * profile.delay_s
                self._number += 1
                heapq.heappush(self._waiting, (arrives_s, self._number, packet))
                self._changed.notify()
        time.sleep(max(0.0, leaves_s - time.monotonic()))

    def close(self) -> None:
        """Deliver nothing any more; what is in the air is gone."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()
        self._link.close()
        self._channel.close()

    def _channel_to(self, destination: str) -> int:
        if self._testbed.shared_channel:
            return 0
        return self._names.index(self.name) * len(self._names) + self._names.index(destination)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting or self._waiting[0][0] > time.monotonic():
                    if self._closed:
                        return
                    due_s = self._waiting[0][0] - time.monotonic() if self._waiting else None
                    self._changed.wait(due_s)
                packet = heapq.heappop(self._waiting)[2]
            try:
                self._link.send(packet)
            except Exception:
                _log.exception("%s could not pass on a packet to %s", self.name, packet.destination)
