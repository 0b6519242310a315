# SPDX-License-Identifier: Apache-2.0
"""Orders, statuses and units as messages; nothing is judged here."""

from __future__ import annotations

import array
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from flad_msgs.msg import TrainOrder, TrainStatus

from flad_pipeline.round.order import (
    Order,
    OrderKind,
    Stand,
    Status,
    VehicleFacts,
    partitions_from_json,
)

ORDERS, STATUSES = "/edge/train/orders", "/edge/train/statuses"
FETCH, STORE, SUBMIT = "/edge/train/fetch", "/edge/train/store", "/edge/train/submit"
ROUND = "/edge/train/round"


def order_to_msg(order: Order) -> TrainOrder:
    """An order as its message."""
    return TrainOrder(
        kind=int(order.kind),
        order=order.order,
        vehicles=list(order.vehicles),
        epoch=order.epoch,
        client=order.client,
        round=order.round,
        round_id=order.round_id,
        start_hash=order.start_hash,
        pipelines=[json.dumps(p.as_json()) for p in order.pipelines],
        rotation_period=order.rotation_period,
        from_step=order.from_step,
        end_step=order.end_step,
        cut_every=order.cut_every,
    )


def order_from_msg(msg: TrainOrder) -> Order:
    """A message as an order.

    Raises:
        ValueError: if it is none.
    """
    return Order(
        kind=OrderKind(msg.kind),
        order=msg.order,
        vehicles=tuple(msg.vehicles),
        epoch=msg.epoch,
        client=msg.client,
        round=msg.round,
        round_id=msg.round_id,
        start_hash=msg.start_hash,
        pipelines=partitions_from_json(list(msg.pipelines)),
        rotation_period=msg.rotation_period,
        from_step=msg.from_step,
        end_step=msg.end_step,
        cut_every=msg.cut_every,
    )


def status_to_msg(status: Status) -> TrainStatus:
    """A status as its message."""
    values = {name: getattr(status, name) for name in _PLAIN}
    return TrainStatus(
        state=int(status.state),
        cuts=array.array("I", status.cuts),
        **values,
        **asdict(status.facts),
    )


def status_from_msg(msg: TrainStatus) -> Status:
    """A message as a status.

    Raises:
        ValueError: if its state is unknown.
    """
    values: dict[str, Any] = {name: getattr(msg, name) for name in _PLAIN}
    facts = VehicleFacts(
        device=msg.device,
        available_bytes=msg.available_bytes,
        dwell_s=msg.dwell_s,
        num_samples=msg.num_samples,
        digest=msg.digest,
    )
    return Status(state=Stand(msg.state), cuts=tuple(msg.cuts), facts=facts, **values)


def packed(pieces: Sequence[bytes]) -> dict[str, Any]:
    """Pieces of bytes as the fields ``sizes`` and ``data``."""
    sizes = array.array("Q", [len(piece) for piece in pieces])
    return {"sizes": sizes, "data": array.array("B", b"".join(pieces))}


def unpacked(msg: Any) -> list[bytes]:
    """The opposite of :func:`packed`.

    Raises:
        ValueError: if the sizes are not those of the data.
    """
    data = memoryview(msg.data).tobytes()
    if sum(msg.sizes) != len(data):
        raise ValueError(f"{len(data)} bytes arrived in pieces of {sum(msg.sizes)}")
    pieces, at = [], 0
    for size in msg.sizes:
        pieces.append(data[at : at + size])
        at += size
    return pieces


_PLAIN = (
    "vehicle",
    "session",
    "order",
    "epoch",
    "client",
    "round",
    "step",
    "progress",
    "lost",
    "text",
    "samples_per_s",
    "resident_bytes",
)
