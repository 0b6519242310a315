# SPDX-License-Identifier: Apache-2.0
"""Who may ask and what: everything that is checked before a request may wait.

Whatever a vehicle may send wrong ends here, with a reason and without harm to the others.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flad_common.config import knob
from flad_common.error_codes import (
    EDGE_FULL,
    INSTRUCTION_REFUSED,
    REQUEST_MALFORMED,
    REQUEST_OUT_OF_ORDER,
    TOKENS_REFUSED,
    VEHICLE_NAME_TAKEN,
    FladError,
)
from flad_edge.service.driving_model import ServedModel
from flad_edge.service.requests import DriveRequest, RequestHead
from flad_perception.wire import decode_tokens

_NAME = re.compile(r"[A-Za-z0-9_/-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class AdmissionConfig:
    """What a request may be, and how many vehicles may ask."""

    max_vehicles: int = knob(64, unit="1", doc="That are served at a time; bounds the memory.")
    max_instruction_chars: int = knob(400, unit="1", doc="Longest instruction.")
    max_notice_chars: int = knob(400, unit="1", doc="Longest notice.")
    min_period_s: float = knob(
        0.15,
        unit="s",
        doc="Least time between two stamps of a vehicle; histories have one rate, 5 Hz.",
    )
    alive_s: float = knob(
        2.0, unit="s", doc="A vehicle keeps its name for so long after its last good request."
    )
    forget_after_s: float = knob(
        30.0, unit="s", doc="Silence after which a vehicle and its history are forgotten."
    )

    def __post_init__(self) -> None:
        for name in ("max_vehicles", "max_instruction_chars", "max_notice_chars"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.min_period_s >= 0.0:
            raise ValueError(f"min_period_s must not be negative, got {self.min_period_s}")
        if not 0.0 < self.alive_s <= self.forget_after_s:
            raise ValueError(
                f"alive_s ({self.alive_s}) must be positive and at most forget_after_s "
                f"({self.forget_after_s})"
            )


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """A request that was found to be good."""

    request: DriveRequest
    tokens: NDArray[np.float32]
    """``[K, D]``."""


def read(request: DriveRequest, served: ServedModel, config: AdmissionConfig) -> Admitted:
    """Look at one request by itself.

    Raises:
        FladError: saying what was wrong, what arrived, and what is allowed.
    """
    _check_head(request.head)
    if not (math.isfinite(request.budget_s) and request.budget_s >= 0.0):
        raise FladError(
            REQUEST_MALFORMED, f"budget_s must be finite and not negative, got {request.budget_s}"
        )
    _check_release(request, served)
    _check_text("instruction", request.instruction, config.max_instruction_chars)
    if request.notice is not None:
        _check_text("notice", request.notice, config.max_notice_chars)
    if why := served.complaint(request.instruction, request.notice):
        raise FladError(INSTRUCTION_REFUSED, why)
    try:
        tokens = decode_tokens(request.tokens)
    except ValueError as error:
        raise FladError(REQUEST_MALFORMED, f"tokens: {error}") from error
    return Admitted(request=request, tokens=tokens)


@dataclass(frozen=True, slots=True)
class _Claim:
    """Who speaks for a vehicle."""

    session: str
    stamp_ns: int
    heard_s: float


class Vehicles:
    """Who is there. Single-threaded: its owner has the lock.

    Args:
        config: limits.
        is_busy: whether a vehicle has a request that waits or is being answered.
    """

    def __init__(self, config: AdmissionConfig, is_busy: Callable[[str], bool]) -> None:
        self._config = config
        self._is_busy = is_busy
        self._claims: dict[str, _Claim] = {}  # the one heard last is last
        self.dropped: Counter[str] = Counter()
        """Vehicles that had to make room (``evicted``) or fell silent (``silent``)."""

    @property
    def names(self) -> frozenset[str]:
        """Of those that are known."""
        return frozenset(self._claims)

    def claim(self, head: RequestHead) -> None:
        """Take note that a vehicle has sent a good request.

        Raises:
            FladError: if another process holds the name, the stamp is not newer, or all places are
                taken; then nothing has changed.
        """
        c, claim = self._config, self._claims.get(head.vehicle)
        if claim is None:
            self._make_room(head)
        elif head.arrived_s - claim.heard_s <= c.alive_s or self._is_busy(head.vehicle):
            _check_claim(head, claim, c)
        # Else the claim has lapsed: another process, or one whose clock begins anew, may have it.
        self._claims.pop(head.vehicle, None)
        self._claims[head.vehicle] = _Claim(head.session, head.stamp_ns, head.arrived_s)

    def sweep(self, now_s: float) -> None:
        """Forget who has been silent for long."""
        limit_s = now_s - self._config.forget_after_s
        for name in [n for n, c in self._claims.items() if c.heard_s < limit_s]:
            if not self._is_busy(name):
                del self._claims[name]
                self.dropped["silent"] += 1

    def _make_room(self, head: RequestHead) -> None:
        if len(self._claims) < self._config.max_vehicles:
            return
        for name, claim in self._claims.items():
            if head.arrived_s - claim.heard_s <= self._config.alive_s:
                break
            if not self._is_busy(name):
                del self._claims[name]
                self.dropped["evicted"] += 1
                return
        raise FladError(
            EDGE_FULL,
            f"{len(self._claims)} vehicles are being served, the limit is "
            f"{self._config.max_vehicles}, and none has been silent for {self._config.alive_s:g} s",
        )


def _check_head(head: RequestHead) -> None:
    for field, value in (("vehicle", head.vehicle), ("session", head.session)):
        if not _NAME.fullmatch(value):
            raise FladError(
                REQUEST_MALFORMED,
                f"{field} must be 1 to 64 letters, digits, '_', '/' or '-', got {value[:64]!r}",
            )
    if head.stamp_ns < 0:
        raise FladError(REQUEST_MALFORMED, f"stamp is {head.stamp_ns} ns, it must not be negative")


def _check_release(request: DriveRequest, served: ServedModel) -> None:
    """Whether the tokens are those that the model was trained on."""
    release = served.release
    if request.contract_version != release.contract_version:
        raise FladError(
            TOKENS_REFUSED,
            f"tokens follow contract {request.contract_version}, release {release.name!r} reads "
            f"contract {release.contract_version}",
        )
    if request.encoder_hash != release.encoder_hash:
        raise FladError(
            TOKENS_REFUSED,
            f"tokens were made by encoder {request.encoder_hash[:64]!r}, release "
            f"{release.name!r} reads those of {release.encoder_hash!r}",
        )
    arrived = (request.tokens.num_tokens, request.tokens.dim)
    if arrived != (release.num_tokens, release.token_dim):
        raise FladError(
            REQUEST_MALFORMED,
            f"{arrived[0]} tokens of {arrived[1]} arrived, contract {release.contract_version} "
            f"has {release.num_tokens} of {release.token_dim}",
        )


def _check_text(field: str, text: str, max_chars: int) -> None:
    if len(text) > max_chars:
        raise FladError(
            INSTRUCTION_REFUSED,
            f"the {field} has {len(text)} characters, allowed are {max_chars}",
        )
    if not text.strip():
        raise FladError(INSTRUCTION_REFUSED, f"the {field} is empty")
    if not text.isprintable():
        bad = next(char for char in text if not char.isprintable())
        raise FladError(
            INSTRUCTION_REFUSED,
            f"the {field} has the character {bad!a}, allowed are printable ones on one line",
        )


def _check_claim(head: RequestHead, claim: _Claim, config: AdmissionConfig) -> None:
    if head.session != claim.session:
        raise FladError(
            VEHICLE_NAME_TAKEN,
            f"session {claim.session!r} speaks for {head.vehicle!r} and was heard "
            f"{head.arrived_s - claim.heard_s:.1f} s ago; session {head.session!r} may when it "
            f"has been silent for {config.alive_s:g} s",
        )
    gap_s = (head.stamp_ns - claim.stamp_ns) * 1e-9
    if gap_s <= 0.0 or gap_s < config.min_period_s - 1e-6:
        raise FladError(
            REQUEST_OUT_OF_ORDER,
            f"the stamp is {gap_s:.3f} s after the one before, it must be at least "
            f"{config.min_period_s:g} s after it",
        )
