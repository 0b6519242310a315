# SPDX-License-Identifier: Apache-2.0
"""Which of Fast DDS's profiles a process takes: ``config/fastdds.xml`` or ``fastdds_udp.xml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PROFILE_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
SHIPPED, UDP_ONLY = "fastdds.xml", "fastdds_udp.xml"


def without_shared_memory(environment: Mapping[str, str]) -> dict[str, str]:
    """What to add to the environment of a process that may be killed.

    A lock of Fast DDS's shared memory that its holder died with stays locked (docs/transport.md,
    "Limits"). A user's own profile stays, and so does none.
    """
    given = Path(environment.get(PROFILE_VARIABLE, ""))
    udp_only = given.with_name(UDP_ONLY) if given.name == SHIPPED else None
    return {PROFILE_VARIABLE: str(udp_only)} if udp_only and udp_only.is_file() else {}
