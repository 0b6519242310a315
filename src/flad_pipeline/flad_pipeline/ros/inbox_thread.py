# SPDX-License-Identifier: Apache-2.0
"""A thread that reads one topic, without an executor.

rclpy's executor makes a wait set of all that its nodes have for every message: on an inbox of small
tensors that took more of a core than all else that a message costs. Here is one subscription, its
wait set is made once, and what has queued up is taken at once. :func:`rclpy.wait_for_message` does
it so, on Humble and on Jazzy.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from rclpy.context import Context
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSProfile

_log = logging.getLogger(__name__)

_LOOK_NS = 500_000_000  # a wake-up that was missed costs so much when the thread shall end
_END_S = 5.0


class InboxThread:
    """Hands every message of a topic, serialized, to a function, in a thread of its own.

    Args:
        context: of ROS; the thread ends with it.
        namespace: of its node, which no executor may have.
        msg_type: of the topic.
        topic: its name.
        qos: of the subscription.
        on_raw: called in the thread with a message's bytes; what it raises is logged.
    """

    def __init__(
        self,
        context: Context,
        namespace: str,
        msg_type: Any,
        topic: str,
        qos: QoSProfile,
        on_raw: Callable[[bytes], None],
    ) -> None:
        self._context, self._msg_type, self._on_raw = context, msg_type, on_raw
        self._node = Node("group_inbox", namespace=namespace, context=context, enable_rosout=False)
        self._subscription = self._node.create_subscription(
            msg_type, topic, lambda _: None, qos, raw=True
        )
        self._wake = self._node.create_guard_condition(lambda: None)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"inbox of {namespace}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, and the topic; once."""
        if self._closed:
            return
        self._closed = True
        self._wake.trigger()
        if self._thread is threading.current_thread():
            return
        self._thread.join(_END_S)
        if self._thread.is_alive():
            _log.warning("%s did not end in %g s", self._thread.name, _END_S)
            return  # what it still reads must stay
        self._node.destroy_node()

    def _run(self) -> None:
        handle = self._subscription.handle
        with handle, self._wake.handle, self._context.handle:
            wait_set = rclpy_implementation.WaitSet(1, 1, 0, 0, 0, 0, self._context.handle)
            while not self._closed and self._context.ok():
                wait_set.clear_entities()
                wait_set.add_subscription(handle)
                wait_set.add_guard_condition(self._wake.handle)
                wait_set.wait(_LOOK_NS)
                while not self._closed and (taken := handle.take_message(self._msg_type, True)):
                    self._hand_on(taken[0])

    def _hand_on(self, raw: bytes) -> None:
        try:
            self._on_raw(raw)
        except Exception:  # the thread's boundary
            _log.exception("a message of %s could not be used", self._subscription.topic_name)
