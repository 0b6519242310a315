# SPDX-License-Identifier: Apache-2.0
"""Orders between the threads that hear them and the one that follows them."""

from __future__ import annotations

import threading

from flad_pipeline.round.order import Order, OrderKind


class OvertakenError(Exception):
    """A newer order is there, or the worker ends."""


class OrderBox:
    """The newest order, and whether it is followed. Any thread may call.

    Args:
        vehicle: for whom; orders that do not name it are not its own.
    """

    def __init__(self, vehicle: str) -> None:
        self._vehicle = vehicle
        self._changed = threading.Condition()
        self._newest: Order | None = None
        self._pause: Order | None = None
        self._followed = 0
        self._closed = False

    def put(self, order: Order) -> bool:
        """An order was heard; whether it is to be followed now, instead of all before."""
        if self._vehicle not in order.vehicles:
            return False
        with self._changed:
            if order.kind is OrderKind.PAUSE:
                if order.order > self._followed:
                    self._pause = order
                return False
            if self._newest is not None and order.order <= self._newest.order:
                return False
            self._newest = order
            self._changed.notify_all()
            return True

    def close(self) -> None:
        """No order is followed any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def next(self) -> Order | None:
        """Wait for an order that is not followed yet; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over(self._followed))
            if self._closed:
                return None
            assert self._newest is not None
            self._followed = self._newest.order
            return self._newest

    def is_overtaken(self, order: Order) -> bool:
        """Whether there is a newer order, or none is followed any more."""
        with self._changed:
            return self._is_over(order.order)

    def check(self, order: Order) -> None:
        """Go on only with the newest.

        Raises:
            OvertakenError: if there is a newer one, or the worker ends.
        """
        if self.is_overtaken(order):
            raise OvertakenError

    def shall_pause(self, order: Order) -> bool:
        """Whether whoever follows ``order`` was told to pause."""
        with self._changed:
            return self._pause is not None and self._pause.order > order.order

    def wait(self, seconds: float) -> None:
        """Wait, but not longer than until a newer order is there."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over(self._followed), seconds)

    def _is_over(self, number: int) -> bool:
        return self._closed or (self._newest is not None and self._newest.order > number)
