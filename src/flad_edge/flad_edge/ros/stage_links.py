# SPDX-License-Identifier: Apache-2.0
"""Transports between the computers of one vehicle, over ROS 2."""

from __future__ import annotations

from collections.abc import Sequence

from flad_pipeline.group.deadlines import TransportConfig
from flad_pipeline.group.transport import Transport
from flad_pipeline.ros.dds_transport import DdsLink, DdsLinkConfig

_MEET_S = 10.0
_FRAME_S = 3600.0
"""A stage waits for the next frame for so long: a vehicle may stand, and its loss is seen."""


def stage_transport(name: str, computers: Sequence[str], *, is_owner: bool) -> Transport:
    """A transport to all computers, which are there when it returns.

    Raises:
        TimeoutError: naming those that are not.
    """
    timeout_s = _MEET_S if is_owner else _FRAME_S
    config = DdsLinkConfig(
        max_members=len(computers), transport=TransportConfig(timeout_s=timeout_s)
    )
    link = DdsLink(name, computers, config)
    transport = Transport(link, config.transport)
    try:
        link.wait_until_matched(_MEET_S)
    except TimeoutError:
        transport.close()
        raise
    return transport
