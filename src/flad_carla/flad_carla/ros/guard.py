# SPDX-License-Identifier: Apache-2.0
"""A callback that fails is logged and counted; the bridge lives on."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import Any

from rclpy.node import Node


def guarded(node: Node, callback: Callable[..., Any]) -> Callable[..., None]:
    """``callback`` for a subscription, with what it raises in the log instead of the executor."""

    @functools.wraps(callback)
    def wrapped(message: Any) -> None:
        try:
            callback(message)
        except Exception:
            node.get_logger().error(
                f"{getattr(callback, '__name__', callback)} failed\n{traceback.format_exc()}",
                throttle_duration_sec=2.0,
            )

    return wrapped
