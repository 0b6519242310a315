# SPDX-License-Identifier: Apache-2.0
"""Helpers for lifecycle nodes."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
