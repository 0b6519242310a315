# SPDX-License-Identifier: Apache-2.0
"""What a vehicle's driver says and hears, as messages and back."""

from __future__ import annotations

import array

import numpy as np
from flad_msgs.msg import DriveAnswer, DriverStatus, Plan, SceneTokens

from flad_common.error_codes import ERROR_CODES
from flad_edge.driver import Driver, Ended, Who
from flad_edge.service.requests import Answer, Outcome, RequestHead
from flad_perception.ros.messages import header, stamp_to_ns
from flad_perception.wire import WireDtype, encode_tokens

_CODES = {code.number: code for code in ERROR_CODES}


def zeroed(tokens: SceneTokens) -> SceneTokens:
    """The same frame with every number 0, as float16."""
    zeros = encode_tokens(np.zeros((tokens.num_tokens, tokens.dim)), WireDtype.FP16)
    return SceneTokens(
        header=tokens.header,
        model_hash=tokens.model_hash,
        contract_version=tokens.contract_version,
        num_tokens=tokens.num_tokens,
        dim=tokens.dim,
        dtype=int(zeros.dtype),
        data=array.array("B", zeros.data),
        crc32=zeros.crc32,
        views=tokens.views,
        view_valid=[False] * len(tokens.view_valid),
        lidar_valid=False,
        speed_mps=tokens.speed_mps,
    )


def answer_from_msg(msg: DriveAnswer) -> Answer:
    """An answer of the edge; its numbers are for the planner to judge.

    Raises:
        ValueError: if its outcome is none of the message's constants, or x and y differ in length.
    """
    return Answer(
        head=RequestHead(
            vehicle=msg.header.frame_id,
            session=msg.session,
            stamp_ns=stamp_to_ns(msg.header.stamp),
            arrived_s=0.0,
        ),
        outcome=Outcome(msg.outcome),
        latency_s=msg.latency_s,
        waypoints_m=tuple(zip(msg.x, msg.y, strict=True)),
        step_s=msg.step_s,
        completed=msg.completed,
        release=msg.release,
        error=_CODES.get(msg.error),
        text=msg.text,
    )


def plan_msg(stamp_ns: int, vehicle: str, answer: Answer, source: str, note: str) -> Plan:
    """An answer as a plan."""
    return Plan(
        header=header(stamp_ns, vehicle),
        x=array.array("f", [x for x, _ in answer.waypoints_m]),
        y=array.array("f", [y for _, y in answer.waypoints_m]),
        step_s=answer.step_s,
        source=source,
        note=note,
    )


def no_plan_msg(stamp_ns: int, vehicle: str, why: str) -> Plan:
    """There is no plan for this stamp."""
    return Plan(header=header(stamp_ns, vehicle), note=why)


def write_counts(status: DriverStatus, driver: Driver, num_open: int) -> None:
    """The driver's counts into a status; ``num_open`` frames have no end yet."""
    ended, driven = driver.ended, driver.driven
    status.num_answered = ended[Ended.ANSWERED]
    status.num_refused = ended[Ended.REFUSED]
    status.num_unanswered = ended[Ended.UNANSWERED]
    status.num_asked = sum(ended.values()) + (num_open if driver.asks_the_edge else 0)
    status.num_adm, status.num_nobody = driven[Who.ADM], driven[Who.NONE]
