# SPDX-License-Identifier: Apache-2.0
"""Requests and answers of the edge as messages and back."""

from __future__ import annotations

import array

from flad_msgs.msg import DriveAnswer, DriveRequest

from flad_edge.service.requests import Answer, RequestHead
from flad_edge.service.requests import DriveRequest as Request
from flad_perception.ros.messages import header, stamp_to_ns, tokens_from_msg


def head_from_msg(msg: DriveRequest, arrived_s: float) -> RequestHead:
    """Whose request it is; every message has that."""
    return RequestHead(
        vehicle=msg.tokens.header.frame_id,
        session=msg.session,
        stamp_ns=stamp_to_ns(msg.tokens.header.stamp),
        arrived_s=arrived_s,
    )


def request_from_msg(msg: DriveRequest, head: RequestHead) -> Request:
    """A request, its values unchecked.

    Raises:
        ValueError: if the tokens are written in a way that is none of the message's constants.
    """
    return Request(
        head=head,
        contract_version=msg.tokens.contract_version,
        encoder_hash=msg.tokens.model_hash,
        tokens=tokens_from_msg(msg.tokens),
        instruction=msg.instruction,
        notice=msg.notice or None,
        budget_s=msg.budget_s,
    )


def answer_msg(answer: Answer) -> DriveAnswer:
    """How a request ended."""
    return DriveAnswer(
        header=header(answer.head.stamp_ns, answer.head.vehicle),
        session=answer.head.session,
        outcome=int(answer.outcome),
        x=array.array("f", [x for x, _ in answer.waypoints_m]),
        y=array.array("f", [y for _, y in answer.waypoints_m]),
        step_s=answer.step_s,
        completed=answer.completed,
        latency_s=answer.latency_s,
        release=answer.release,
        error=answer.error.number if answer.error else 0,
        text=answer.text,
    )
