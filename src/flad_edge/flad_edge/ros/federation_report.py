# SPDX-License-Identifier: Apache-2.0
"""The edge's diagnostics of its federation: :class:`Health` as messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from flad_edge.federate.health import Health


def diagnostics_msg(healths: Sequence[Health], stamp: Any) -> DiagnosticArray:
    """One array of all of them."""
    array = DiagnosticArray()
    array.header.stamp = stamp
    array.status = [
        DiagnosticStatus(
            level=DiagnosticStatus.OK if one.is_well else DiagnosticStatus.WARN,
            name=one.name,
            message=one.message,
            hardware_id="edge",
            values=[KeyValue(key=key, value=value) for key, value in one.values.items()],
        )
        for one in healths
    ]
    return array
