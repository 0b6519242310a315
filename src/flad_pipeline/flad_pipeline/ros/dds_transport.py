# SPDX-License-Identifier: Apache-2.0
"""The link of a vehicle over ROS 2: one inbox topic, and who is alive.

Endpoints are made once, when the vehicle is configured: the own inbox, a publisher into that of
every vehicle it may ever train with, and the same for the topic whose liveliness says that a
process runs. Forming a group makes none. Credits keep what is on the way below the inbox's depth.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import rclpy
from flad_msgs.msg import GroupPacket
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import Empty

from flad_common.config import knob, section
from flad_common.ros.qos import alive, inbox
from flad_pipeline.group.deadlines import TransportConfig
from flad_pipeline.group.link import LinkEvents
from flad_pipeline.group.packet import Packet
from flad_pipeline.group.packet_cdr import from_cdr, to_cdr
from flad_pipeline.group.transport import Transport
from flad_pipeline.ros.inbox_thread import InboxThread

with warnings.catch_warnings():  # Humble has only the old name, Jazzy warns of it
    warnings.simplefilter("ignore")
    from rclpy.qos_event import SubscriptionEventCallbacks

_log = logging.getLogger(__name__)

_LOOK_S = 0.02
_END_S = 5.0  # of the thread that hears who is alive
_PUBLICATION_MODE = "RMW_FASTRTPS_PUBLICATION_MODE"
"""What rmw_fastrtps asks its environment for; it offers no other way."""


@dataclass(frozen=True, kw_only=True)
class DdsLinkConfig:
    """The topics of a vehicle that trains with others."""

    lease_s: float = knob(
        0.3, unit="s", doc="A process that DDS has not heard of for so long is lost."
    )
    max_members: int = knob(
        16, unit="1", doc="Vehicles that may write to one inbox; its depth holds their credits."
    )
    transport: TransportConfig = section(TransportConfig, doc="What runs over the topics.")

    def __post_init__(self) -> None:
        if not self.lease_s > 0.0:
            raise ValueError(f"lease_s must be positive, got {self.lease_s}")
        if self.max_members < 2:
            raise ValueError(f"max_members must be at least 2, got {self.max_members}")

    @property
    def depth(self) -> int:
        """Of an inbox: what every member may have on the way."""
        return self.written_depth * (self.max_members - 1)

    @property
    def written_depth(self) -> int:
        """Of a publisher: one member's credits, and as many words of other kinds.

        DDS keeps so many packets, acknowledged or not, until later ones take their places. With
        the inbox's depth a process grew for an hour, to 1.4 GB.
        """
        return 2 * self.transport.channel.credits


class DdsLink:
    """Packets as ROS messages, whose bytes are written and read here.

    It has a participant, nodes and threads of its own: no other callback of the process delays
    the mailbox, and its publishers may be asynchronous. A synchronous one writes to the socket
    while it holds Python's lock, so that a slow network would stop the model's computation.

    Args:
        name: this vehicle, for example ``vehicle_0``; also the namespace of its topics.
        peers: every vehicle that this one may ever send to.
    """

    def __init__(
        self, name: str, peers: Sequence[str], config: DdsLinkConfig | None = None
    ) -> None:
        self._name = name
        self._config = config or DdsLinkConfig()
        others = [peer for peer in peers if peer != name]
        if len(others) + 1 > self._config.max_members:
            raise ValueError(
                f"{name} has {len(others)} peers; with max_members = {self._config.max_members} "
                "an inbox has no room for the credits of them all"
            )
        self._events: LinkEvents | None = None
        self._context = Context()
        rclpy.init(context=self._context)
        with _asynchronous():
            self._node = Node("group", namespace=name, context=self._context, enable_rosout=False)
        # Only who is alive; the inbox has a thread that needs no executor.
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._inbox_qos = inbox(self._config.depth)
        self._outbox_qos = inbox(self._config.written_depth)
        self._alive_qos = alive(self._config.lease_s)
        self._publishers = {peer: self._publisher_to(peer) for peer in others}
        self._alive_publisher = self._node.create_publisher(
            Empty, f"/{name}/group/alive", self._alive_qos
        )
        self._thread = threading.Thread(target=self._spin, name=f"who is with {name}", daemon=True)
        self._inbox: InboxThread | None = None

    @property
    def name(self) -> str:
        """This vehicle's name."""
        return self._name

    @property
    def blocks(self) -> bool:
        """Never: Fast DDS's own thread writes to the network."""
        return False

    def open(self, events: LinkEvents) -> None:
        """Begin to deliver."""
        self._events = events
        self._inbox = InboxThread(
            self._context,
            self._name,
            GroupPacket,
            f"/{self._name}/group/inbox",
            self._inbox_qos,
            self._on_raw,
        )
        for peer in self._publishers:
            self._watch(peer)
        self._thread.start()

    def send(self, packet: Packet) -> None:
        """Publish into the destination's inbox; nowhere once ROS was shut down.

        Raises:
            KeyError: if the destination was not among ``peers``.
        """
        if packet.destination not in self._publishers:
            raise KeyError(
                f"{self._name} has no topic to {packet.destination!r}; it has "
                f"{sorted(self._publishers)}"
            )
        if self._context.ok():
            self._publishers[packet.destination].publish(to_cdr(packet))

    def wait_until_matched(self, timeout_s: float, among: Sequence[str] | None = None) -> None:
        """Return when the inbox of every peer, or of those among some names, was discovered.

        Raises:
            TimeoutError: after ``timeout_s``; it names who is missing.
        """
        deadline_s = time.monotonic() + timeout_s
        while missing := [
            peer
            for peer, publisher in self._publishers.items()
            if (among is None or peer in among) and not publisher.get_subscription_count()
        ]:
            if time.monotonic() > deadline_s:
                raise TimeoutError(
                    f"{self._name} waited {timeout_s:g} s for the inboxes of {', '.join(missing)}"
                )
            time.sleep(_LOOK_S)

    def close(self) -> None:
        """End the thread and destroy the topics."""
        self._events = None
        if self._inbox is not None:
            self._inbox.close()
        self._executor.shutdown()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_END_S)
            if self._thread.is_alive():
                _log.warning("%s: the link's thread did not end in %g s", self._name, _END_S)
        self._node.destroy_node()
        self._context.try_shutdown()

    def _publisher_to(self, peer: str) -> Any:
        return self._node.create_publisher(GroupPacket, f"/{peer}/group/inbox", self._outbox_qos)

    def _watch(self, peer: str) -> None:
        def changed(event: Any) -> None:
            lost = event.alive_count == 0 and event.alive_count_change < 0
            if lost and (events := self._events) is not None:
                events.on_lost(peer, f"DDS has not heard of it for {self._config.lease_s:g} s")

        self._node.create_subscription(
            Empty,
            f"/{peer}/group/alive",
            lambda _: None,
            self._alive_qos,
            event_callbacks=SubscriptionEventCallbacks(liveliness=changed),
        )

    def _on_raw(self, raw: bytes) -> None:
        if (events := self._events) is None:
            return
        try:
            packet = from_cdr(raw)
        except ValueError as error:
            events.on_malformed(str(error))
        else:
            events.on_packet(packet)

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            _log.debug("%s: ROS was shut down", self._name)


def dds_transport(
    name: str, peers: Sequence[str], config: DdsLinkConfig | None = None
) -> Transport:
    """A transport over ROS 2; see :class:`DdsLink` for the arguments."""
    config = config or DdsLinkConfig()
    return Transport(DdsLink(name, peers, config), config.transport)


@contextmanager
def _asynchronous() -> Iterator[None]:
    """Fast DDS's own thread writes to the network for the participant that is made meanwhile."""
    before = os.environ.get(_PUBLICATION_MODE)
    os.environ[_PUBLICATION_MODE] = "ASYNCHRONOUS"
    try:
        yield
    finally:
        del os.environ[_PUBLICATION_MODE]
        if before is not None:
            os.environ[_PUBLICATION_MODE] = before
