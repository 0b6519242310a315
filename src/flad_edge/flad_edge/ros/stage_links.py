# SPDX-License-Identifier: Apache-2.0
"""Transports between the computers of one vehicle, over ROS 2."""

from __future__ import annotations

import time
from collections.abc import Sequence

from flad_pipeline.group.deadlines import TransportConfig
from flad_pipeline.group.transport import Transport
from flad_pipeline.ros.dds_transport import DdsLinkConfig, dds_transport

_LEASE_S = 2.0
"""On a cable nobody drives away, and a busy computer is no lost one."""
_ANSWER_S = 8.0
"""Longest wait for a frame: below it ends what a node waits for its own thread."""
_FRAME_S = 30 * 86_400.0
"""A stage waits for the next frame for so long: a vehicle may stand, and its loss is seen."""
_EPOCHS_BEGIN_S = 1_577_836_800
"""2020, in UTC: an epoch's number has 32 bits."""


def stage_transport(name: str, computers: Sequence[str]) -> Transport:
    """A transport to all computers, which need not be there yet."""
    config = TransportConfig(
        timeout_s=_ANSWER_S if name == computers[0] else _FRAME_S, silent_after_s=3.0 * _LEASE_S
    )
    link = DdsLinkConfig(max_members=len(computers), lease_s=_LEASE_S, transport=config)
    return dds_transport(name, computers, link)


def epoch_of_now() -> int:
    """Above the epochs of a process that ran here before."""
    return max(1, int(time.time()) - _EPOCHS_BEGIN_S)
