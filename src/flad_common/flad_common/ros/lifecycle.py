# SPDX-License-Identifier: Apache-2.0
"""What all lifecycle nodes have in common: how they end, and how they run."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import Any

import rclpy
from lifecycle_msgs.msg import State as StateMsg
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, State, TransitionCallbackReturn

Callback = Callable[[Any, State], TransitionCallbackReturn]


def reports_errors(callback: Callback) -> Callback:
    """Log what a transition callback raises: rclpy turns it into ERROR without a word."""

    @functools.wraps(callback)
    def wrapped(node: Any, state: State) -> TransitionCallbackReturn:
        try:
            return callback(node, state)
        except Exception:
            node.get_logger().error(f"{callback.__name__} failed\n{traceback.format_exc()}")
            raise

    return wrapped


class ManagedNode(LifecycleNode):
    """A lifecycle node that leaves nothing at work behind, however it ends."""

    @reports_errors
    def on_shutdown(self, state: State) -> TransitionCallbackReturn:
        """Undo what was begun: rclpy's own goes on publishing where the node was active."""
        if state.state_id == StateMsg.PRIMARY_STATE_ACTIVE:
            self.on_deactivate(state)
        if state.state_id != StateMsg.PRIMARY_STATE_UNCONFIGURED:
            self.on_cleanup(state)
        return super().on_shutdown(state)

    def close(self) -> None:
        """End the node's own threads and processes, also where no transition ends it."""


def run_node(make: Callable[[], ManagedNode], args: list[str] | None = None) -> None:
    """Run a node until it is interrupted, then close it: the ``main`` of every lifecycle node.

    With the parameter ``autostart`` it goes active by itself, where no launch does it.

    Args:
        make: the node's class.
        args: of the command line, for ROS.

    Raises:
        RuntimeError: if it should start itself and could not; its log has the reason.
    """
    rclpy.init(args=args)
    node = None
    try:
        node = make()
        if node.declare_parameter("autostart", False).value:
            bring_to_active(node)
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        try:
            if node is not None:
                node.close()
        finally:
            rclpy.try_shutdown()


def bring_to_active(node: LifecycleNode) -> None:
    """Configure and activate ``node`` in this process, where no launch does it.

    Raises:
        RuntimeError: if a transition did not succeed; its reason is in the node's log.
    """
    for transition in (node.trigger_configure, node.trigger_activate):
        result = transition()
        if result.name != "SUCCESS":
            raise RuntimeError(
                f"{node.get_name()}: {transition.__name__} ended in {result.name}; "
                "the node's log has the traceback"
            )
