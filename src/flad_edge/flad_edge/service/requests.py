# SPDX-License-Identifier: Apache-2.0
"""What a vehicle asks the edge and what it gets back: plain data; :mod:`.admission` judges it."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from flad_common.error_codes import ErrorCode
from flad_perception.wire import EncodedTokens


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestHead:
    """Whose request it is. An answer carries the head of its request."""

    vehicle: str
    """Name of the vehicle, for example ``vehicle_0``."""
    session: str
    """Drawn anew by every process that speaks for a vehicle; tells two of one name apart."""
    stamp_ns: int
    """Time of the sensor data, on the vehicle's clock."""
    arrived_s: float
    """When the edge got the request, on the service's clock."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DriveRequest:
    """One frame of tokens, and what the vehicle shall do. Nothing is known about its values yet."""

    head: RequestHead
    contract_version: int
    """Of what the tokens mean."""
    encoder_hash: str
    """Of the model that made the tokens."""
    tokens: EncodedTokens
    instruction: str
    notice: str | None = None
    budget_s: float = 0.0
    """From arrival at the edge to the answer; after it the answer is worthless. 0: no limit."""

    def expired(self, now_s: float) -> bool:
        """Whether an answer at ``now_s`` would be late."""
        return self.budget_s > 0.0 and now_s - self.head.arrived_s > self.budget_s


class Outcome(enum.IntEnum):
    """How a request ended; every request ends in exactly one of these."""

    ANSWERED = 0
    REFUSED = 1
    """Something about it, or about who sent it, was not right."""
    SHED = 2
    """It gave way to a newer request of the same vehicle."""
    LATE = 3
    """Its time ran out before it was answered; what the model may have said is dropped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """How one request ended."""

    head: RequestHead
    outcome: Outcome
    latency_s: float
    """From arrival to this answer."""
    waypoints_m: tuple[tuple[float, float], ...] = ()
    """ANSWERED: x forward, y left, in the vehicle's frame at the stamp. Otherwise empty."""
    step_s: float = 0.0
    """ANSWERED: between two waypoints."""
    completed: float = math.nan
    """ANSWERED: probability in [0, 1] that the instruction has been carried out."""
    release: str = ""
    """ANSWERED: name of the release whose model said it."""
    error: ErrorCode | None = None
    """Otherwise: the kind of failure."""
    text: str = ""
    """Otherwise: what was wrong, what arrived, what is allowed."""
