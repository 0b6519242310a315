# SPDX-License-Identifier: Apache-2.0
"""The edge as a vehicle's worker sees it, by services; see :mod:`flad_pipeline.round.edge_link`."""

from __future__ import annotations

import array
import threading
from collections.abc import Sequence
from typing import Any

from flad_msgs.srv import FetchUnits, StoreUnits, SubmitUpdate
from rclpy.node import Node

from flad_common.error_codes import ORDER_REFUSED, FladError
from flad_pipeline.ros.round_messages import FETCH, STORE, SUBMIT, packed, unpacked
from flad_pipeline.round.edge_link import CutName, EdgeAwayError


class EdgeClient:
    """Calls the edge's services; any thread but the one that spins ``node``.

    Args:
        node: whose executor delivers the answers.
        timeout_s: of each call.
    """

    def __init__(self, node: Node, timeout_s: float) -> None:
        self._node, self._timeout_s = node, timeout_s
        self._fetch = node.create_client(FetchUnits, FETCH)
        self._store = node.create_client(StoreUnits, STORE)
        self._submit = node.create_client(SubmitUpdate, SUBMIT)

    def fetch(self, cut: CutName, units: Sequence[int]) -> list[bytes]:
        """See :meth:`EdgeLink.fetch`."""
        request = FetchUnits.Request(**vars(cut), units=array.array("I", units))
        return unpacked(self._call(self._fetch, request))

    def store(self, cut: CutName, units: Sequence[bytes]) -> int:
        """See :meth:`EdgeLink.store`."""
        request = StoreUnits.Request(**vars(cut), **packed(units))
        return int(self._call(self._store, request).whole_step)

    def submit(self, vehicle: str, update: bytes) -> None:
        """See :meth:`EdgeLink.submit`."""
        data = array.array("B", update)
        self._call(self._submit, SubmitUpdate.Request(vehicle=vehicle, data=data))

    def close(self) -> None:
        """Destroy the clients."""
        for client in (self._submit, self._store, self._fetch):
            self._node.destroy_client(client)

    def _call(self, client: Any, request: Any) -> Any:
        if not client.service_is_ready():
            raise EdgeAwayError(f"nobody offers {client.srv_name}")
        answered = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(self._timeout_s):
            client.remove_pending_request(future)
            raise EdgeAwayError(f"no answer from {client.srv_name} in {self._timeout_s:g} s")
        answer = future.result()
        if answer.refused:
            raise FladError(ORDER_REFUSED, answer.refused)
        return answer
