# SPDX-License-Identifier: Apache-2.0
"""The edge behind the testbed's radio: units, copies and updates take the channel as packets do.

On a shared radio they take turns with what vehicles send each other; else the link to the edge is a
channel of its own, for both directions. The rate is that of the testbed's ``link``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from flad_pipeline.round.edge_link import CutName, EdgeLink
from flad_pipeline.testbed.channel_file import ChannelFile
from flad_pipeline.testbed.testbed import Testbed

_CHUNK_S = 0.05
"""What others send on a shared radio waits for no more than this."""


class ShapedEdge:
    """``edge`` as the testbed says; see :class:`flad_pipeline.round.edge_link.EdgeLink`.

    Args:
        edge: who really answers.
        testbed: rate and delay, and the dilation that stretches them.
        vehicle: whose link this is.
        channel_file: that of the :class:`flad_pipeline.testbed.shaped_link.ShapedLink`.
        sleep: in seconds.

    Raises:
        KeyError: if the testbed knows no such vehicle.
    """

    def __init__(
        self,
        edge: EdgeLink,
        testbed: Testbed,
        vehicle: str,
        channel_file: Path,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        testbed.vehicle(vehicle)
        names = sorted(testbed.vehicles)
        count = 1 if testbed.shared_channel else len(names) ** 2
        self._edge, self._testbed, self._sleep = edge, testbed, sleep
        # From a vehicle to itself nothing is sent: that channel is the one to the edge.
        self._place = 0 if testbed.shared_channel else names.index(vehicle) * (len(names) + 1)
        self._channel = ChannelFile(channel_file, count)

    def fetch(self, cut: CutName, units: Sequence[int]) -> list[bytes]:
        """See :meth:`EdgeLink.fetch`."""
        pieces = self._edge.fetch(cut, units)
        self._pass(sum(len(piece) for piece in pieces))
        return pieces

    def store(self, cut: CutName, units: Sequence[bytes]) -> int:
        """See :meth:`EdgeLink.store`."""
        self._pass(sum(len(piece) for piece in units))
        return self._edge.store(cut, units)

    def submit(self, vehicle: str, update: bytes) -> None:
        """See :meth:`EdgeLink.submit`."""
        self._pass(len(update))
        self._edge.submit(vehicle, update)

    def close(self) -> None:
        """Let go of the channel's file."""
        self._channel.close()

    def _pass(self, num_bytes: int) -> None:
        """Wait as long as so many bytes take."""
        link, dilation = self._testbed.link, self._testbed.dilation
        left_s = dilation * 8.0 * num_bytes / link.bits_per_s
        while left_s > 0.0:
            ends_s = self._channel.reserve(self._place, min(left_s, _CHUNK_S))
            self._sleep(max(0.0, ends_s - time.monotonic()))
            left_s -= _CHUNK_S
        self._sleep(dilation * link.delay_s)
