# SPDX-License-Identifier: Apache-2.0
"""An operator's word to a vehicle: published, and waited for until the vehicle has taken it.

./flad say "Turn left at the next crossing." --vehicle vehicle_0
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import rclpy
from flad_msgs.msg import DriverStatus
from rclpy.node import Node
from std_msgs.msg import String

from flad_common.ros.qos import LATCHED
from flad_planner.language.operator_text import RefusedTextError, TextLimits, accepted_text

OK, NOT_HEARD, REFUSED = 0, 1, 2


class OperatorNode(Node):
    """Says one thing to one vehicle."""

    def __init__(self, vehicle: str, *, is_notice: bool) -> None:
        super().__init__("operator", namespace=f"/{vehicle}")
        self._field = "notice" if is_notice else "instruction"
        self._pub = self.create_publisher(String, self._field, LATCHED)
        self._status: DriverStatus | None = None
        self._input = self.create_subscription(
            DriverStatus, "driver_status", self._on_status, LATCHED
        )

    def say(self, text: str, deadline_s: float) -> DriverStatus:
        """Publish ``text`` and wait until the vehicle has taken it; returns its status.

        Raises:
            TimeoutError: saying what is known of the vehicle.
        """
        self._pub.publish(String(data=text))
        end_s = time.monotonic() + deadline_s
        while self._status is None or getattr(self._status, self._field) != text:
            if time.monotonic() > end_s:
                raise TimeoutError(self._complaint(text, deadline_s))
            rclpy.spin_once(self, timeout_sec=0.1)
        return self._status

    def _complaint(self, text: str, deadline_s: float) -> str:
        where = self.get_namespace()
        if self._status is None:
            return (
                f"{where} has no driver that answers within {deadline_s:g} s; is one running (see "
                f"ros2 topic info {where}/driver_status), is ROS_DOMAIN_ID the same?"
            )
        told = getattr(self._status, self._field)
        return f"{where} did not take {text!r}; it has {told!r}. {self._status.why}".strip()

    def _on_status(self, msg: DriverStatus) -> None:
        self._status = msg


def main(argv: Sequence[str] | None = None) -> int:
    """Parse ``argv``, say it, and return the exit status."""
    parser = argparse.ArgumentParser(prog="say", description="Tell a vehicle what to do, in words.")
    parser.add_argument("text", help="one line of English, such as 'Turn left at the crossing.'")
    parser.add_argument("--vehicle", default="vehicle_0", help="(default: %(default)s)")
    parser.add_argument("--notice", action="store_true", help="a warning besides the instruction")
    parser.add_argument(
        "--deadline", type=float, default=10.0, metavar="S", help="to wait (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    try:
        text = accepted_text(args.text, TextLimits())
    except RefusedTextError as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    rclpy.init(args=[])
    node = OperatorNode(args.vehicle, is_notice=args.notice)
    try:
        status = node.say(text, args.deadline)
    except TimeoutError as error:
        print(f"error: {error}", file=sys.stderr)
        return NOT_HEARD
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    edge = "there" if status.edge_alive else "not there"
    print(f"{args.vehicle} is told {status.instruction!r}; its edge is {edge}")
    return OK


if __name__ == "__main__":
    sys.exit(main())
