# SPDX-License-Identifier: Apache-2.0
"""Links between transports of one process: for tests, and for stages that share a computer."""

from __future__ import annotations

import queue
import threading

from flad_pipeline.group.link import LinkEvents
from flad_pipeline.group.packet import Packet


class MemoryNetwork:
    """Who can reach whom in this process: everybody who has asked for a link."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._links: dict[str, MemoryLink] = {}

    def link(self, name: str) -> MemoryLink:
        """A new link under a name; that of a closed one is free again.

        Raises:
            ValueError: if the name is taken.
        """
        with self._lock:
            if name in self._links and not self._links[name].is_closed:
                raise ValueError(f"{name!r} has a link already; names are {sorted(self._links)}")
            made = self._links[name] = MemoryLink(name, self)
            return made

    def deliver(self, packet: Packet) -> None:
        """Put a packet before its destination's thread.

        Raises:
            KeyError: if nobody of that name was ever here.
        """
        with self._lock:
            if packet.destination not in self._links:
                raise KeyError(f"no {packet.destination!r} here; there are {sorted(self._links)}")
            link = self._links[packet.destination]
        link.put(packet)

    def kill(self, name: str) -> None:
        """Let ``name`` fall silent for good, as if its process had died; the others are told."""
        with self._lock:
            dead = self._links[name]
            others = [link for link in self._links.values() if link is not dead]
        dead.close()
        for link in others:
            link.tell_lost(name, "it was killed")


class MemoryLink:
    """A queue and a thread that empties it."""

    def __init__(self, name: str, network: MemoryNetwork) -> None:
        self._name = name
        self._network = network
        self._queue: queue.SimpleQueue[Packet | None] = queue.SimpleQueue()
        self._events: LinkEvents | None = None
        self.is_closed = False
        self._thread = threading.Thread(target=self._run, name=f"link of {name}", daemon=True)

    @property
    def name(self) -> str:
        """This vehicle's name."""
        return self._name

    @property
    def blocks(self) -> bool:
        """Never."""
        return False

    def open(self, events: LinkEvents) -> None:
        """Begin to deliver, what has come before included."""
        self._events = events
        self._thread.start()

    def send(self, packet: Packet) -> None:
        """Pass on a packet; never blocks. A closed link passes on nothing."""
        if self._events is not None:
            self._network.deliver(packet)

    def put(self, packet: Packet) -> None:
        """Take a packet for this name."""
        self._queue.put(packet)

    def tell_lost(self, name: str, reason: str) -> None:
        """Tell the transport that another one is gone."""
        if (events := self._events) is not None:
            events.on_lost(name, reason)

    def close(self) -> None:
        """Deliver nothing any more."""
        self._events, self.is_closed = None, True
        self._queue.put(None)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while (packet := self._queue.get()) is not None:
            if (events := self._events) is not None:
                events.on_packet(packet)
