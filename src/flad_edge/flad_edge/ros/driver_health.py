# SPDX-License-Identifier: Apache-2.0
"""The driver's health for ``/diagnostics``."""

from __future__ import annotations

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from flad_msgs.msg import DriverStatus

_COUNTS = (
    "num_asked",
    "num_answered",
    "num_refused",
    "num_unanswered",
    "num_adm",
    "num_nobody",
)
_SAYS = {
    DriverStatus.NONE: (DiagnosticStatus.WARN, "nobody drives"),
    DriverStatus.ADLLM: (DiagnosticStatus.OK, "the edge drives"),
    DriverStatus.ADM: (DiagnosticStatus.OK, "the ADM drives"),
}


def health_msg(last: DriverStatus, *, name: str, stamp: Time) -> DiagnosticArray:
    """One status: who drives, why, and the counts since the start.

    Args:
        last: what was published last.
        name: of the node.
        stamp: on ROS's clock.
    """
    level, text = _SAYS[last.driver]
    status = DiagnosticStatus(
        name=f"{name}: driving",
        hardware_id=last.header.frame_id,
        level=level,
        message=f"{text}: {last.why}" if last.why else text,
        values=[
            KeyValue(key="edge_alive", value=str(last.edge_alive).lower()),
            KeyValue(key="release", value=last.release),
            KeyValue(key="latency_s", value=f"{last.latency_s:.4g}"),
            *(KeyValue(key=key, value=str(getattr(last, key))) for key in _COUNTS),
        ],
    )
    array = DiagnosticArray(status=[status])
    array.header.stamp = stamp
    return array
