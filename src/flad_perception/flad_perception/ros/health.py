# SPDX-License-Identifier: Apache-2.0
"""The encoder's health for ``/diagnostics``."""

from __future__ import annotations

import math

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from flad_perception.node_health import NodeHealth

_LEVELS = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR)


def health_msg(health: NodeHealth, *, name: str, hardware_id: str, stamp: Time) -> DiagnosticArray:
    """One status with figures of the last period and counts since the start."""
    verdict = health.verdict()
    status = DiagnosticStatus(
        name=f"{name}: scene tokens",
        hardware_id=hardware_id,
        level=_LEVELS[verdict.level],
        message=verdict.message,
        values=[KeyValue(key=k, value=_text(v)) for k, v in health.figures().items()],
    )
    array = DiagnosticArray(status=[status])
    array.header.stamp = stamp
    return array


def _text(value: float | int | str) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return str(value)
