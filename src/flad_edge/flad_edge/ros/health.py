# SPDX-License-Identifier: Apache-2.0
"""The service's health for ``/diagnostics``."""

from __future__ import annotations

import math
from collections.abc import Mapping

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from flad_edge.service.core import EdgeService

_LEVELS = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR)


def health_msg(
    service: EdgeService,
    now_s: float,
    *,
    name: str,
    stamp: Time,
    more: Mapping[str, float | int | str] | None = None,
) -> DiagnosticArray:
    """Ends a period: one status with its figures and counts since the start.

    Args:
        service: whose.
        now_s: on the service's clock.
        name: of the node.
        stamp: on ROS's clock.
        more: figures of what works beside the service.
    """
    verdict = service.close_period(now_s)
    status = DiagnosticStatus(
        name=f"{name}: driving",
        hardware_id="edge",
        level=_LEVELS[verdict.level],
        message=verdict.message,
        values=[
            KeyValue(key=k, value=_text(v))
            for k, v in {**service.figures(), **(more or {})}.items()
        ],
    )
    array = DiagnosticArray(status=[status])
    array.header.stamp = stamp
    return array


def _text(value: float | int | str) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return str(value)
