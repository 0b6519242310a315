# SPDX-License-Identifier: Apache-2.0
"""Every update of a round goes through one gate; what it does not let through touches no model.

A client's parts are joined only when every one of them was sound; a refusal costs that client its
round and nobody else anything.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flad_common.error_codes import (
    UPDATE_MALFORMED,
    UPDATE_NOT_ASKED,
    UPDATE_NOT_FINITE,
    UPDATE_REPLAYED,
    UPDATE_TOO_FAR,
    UPDATE_WRONG_SHAPE,
    ErrorCode,
    FladError,
)
from flad_pipeline.aggregation.keys import KeyRing
from flad_pipeline.aggregation.layout import ClientState, Kind, ModelLayout, State, state_hash
from flad_pipeline.aggregation.norms import NormHistory, update_norm
from flad_pipeline.aggregation.ticket import ClientTicket, RoundTicket
from flad_pipeline.aggregation.update import (
    SignedUpdate,
    UpdateHeader,
    read_header,
    read_tensors,
    signed_bytes,
)

_NAMED_IN_AN_ERROR = 5
_REMEMBERED = 100
_HEADER_SLACK_BYTES = 64 * 1024  # names, shapes and offsets in front of the tensors' own bytes
_BYTES_A_NAME = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Why an update was not let in."""

    code: ErrorCode
    detail: str


@dataclass(kw_only=True)
class _Arriving:
    """A client's parts so far."""

    ticket: ClientTicket
    tensors: dict[str, Tensor] = field(default_factory=dict)
    vehicles: set[str] = field(default_factory=set)
    num_samples: int = 0
    is_over: bool = False


class UpdateGate:
    """The gate of one round; single-threaded.

    Args:
        layout: of the model.
        start: the model that the round began with.
        ticket: what was asked for.
        ring: whose signatures count.
        norms: how far earlier updates went; taken further by those let in.

    Raises:
        ValueError: if the ticket is for another model, or a client's parts are not the whole of it.
    """

    def __init__(
        self,
        layout: ModelLayout,
        start: State,
        ticket: RoundTicket,
        ring: KeyRing,
        norms: NormHistory,
    ) -> None:
        if ticket.start_hash != (own := state_hash(start)):
            raise ValueError(f"the ticket is for model {ticket.start_hash}, the gate has {own}")
        for client in ticket.clients:
            names = sorted(name for part in client.parts.values() for name in part)
            if names != sorted(layout.tensors):
                raise ValueError(
                    f"the parts of {client.client} hold {len(names)} tensors, which are not the "
                    f"model's {len(layout.tensors)}, each once"
                )
        self._layout = layout
        self._start = start
        self._ticket = ticket
        self._ring = ring
        self._norms = norms
        self._arriving = {c.client: _Arriving(ticket=c) for c in ticket.clients}
        self._counts = Counter[ErrorCode]()
        self.last_refusals: deque[Refusal] = deque(maxlen=_REMEMBERED)
        """The newest last."""

    def admit(self, update: SignedUpdate) -> ClientState | None:
        """Look at one update.

        Returns:
            The client's whole state if this was its last part; None if others are to come.

        Raises:
            FladError: with the reason, if it is refused; it is counted, too.
        """
        try:
            return self._admit(update)
        except FladError as error:
            # Not the error itself: its traceback would hold the update for as long as the round.
            self._counts[error.code] += 1
            self.last_refusals.append(Refusal(code=error.code, detail=error.detail))
            raise

    @property
    def refusal_counts(self) -> dict[str, int]:
        """How often each reason was given, by its name."""
        return {c.name: self._counts[c] for c in sorted(self._counts, key=lambda c: c.number)}

    @property
    def missing(self) -> dict[str, list[str]]:
        """Vehicles whose part is still to come, by client."""
        return {
            name: sorted(c.ticket.parts.keys() - c.vehicles)
            for name, c in self._arriving.items()
            if not c.is_over
        }

    def _admit(self, update: SignedUpdate) -> ClientState | None:
        # Cheap and certain things first: nothing is decoded before the signature is known.
        header = read_header(update)
        self._ring.verify(header.vehicle, signed_bytes(update.header), update.signature)
        client = self._asked(header)
        tensors = self._tensors(update, header, client.ticket.parts[header.vehicle])
        if client.vehicles and header.num_samples != client.num_samples:
            raise FladError(
                UPDATE_MALFORMED,
                f"{header.vehicle} says that {header.client} trained on {header.num_samples} "
                f"samples, others said {client.num_samples}",
            )
        client.vehicles.add(header.vehicle)
        client.num_samples = header.num_samples
        client.tensors.update(tensors)
        if client.vehicles != client.ticket.parts.keys():
            return None
        client.is_over = True
        whole = {name: client.tensors.pop(name) for name in self._layout.tensors}
        self._check_norms(header.client, whole)
        return ClientState(client=header.client, num_samples=header.num_samples, tensors=whole)

    def _asked(self, header: UpdateHeader) -> _Arriving:
        """The client that this is a part of, if it was asked for and has not come before."""
        ticket = self._ticket
        if (header.round_id, header.round) != (ticket.round_id, ticket.round):
            raise FladError(
                UPDATE_REPLAYED,
                f"{header.vehicle} sent an update of round {header.round} "
                f"({header.round_id:.8}), this is round {ticket.round} ({ticket.round_id:.8})",
            )
        if header.start_hash != ticket.start_hash:
            raise FladError(
                UPDATE_REPLAYED,
                f"{header.vehicle} started from model {header.start_hash:.16}, the round from "
                f"{ticket.start_hash}",
            )
        client = self._arriving.get(header.client)
        if client is None or header.vehicle not in client.ticket.parts:
            raise FladError(
                UPDATE_NOT_ASKED,
                f"{header.vehicle} was not asked to train for {header.client!r:.80} in this round",
            )
        if header.vehicle in client.vehicles:
            raise FladError(
                UPDATE_REPLAYED, f"{header.vehicle}'s part of {header.client} is here already"
            )
        if not 1 <= header.num_samples <= client.ticket.max_samples:
            raise FladError(
                UPDATE_NOT_ASKED,
                f"{header.client} claims {header.num_samples} samples, it can have trained on 1 to "
                f"{client.ticket.max_samples}",
            )
        return client

    def _tensors(
        self, update: SignedUpdate, header: UpdateHeader, names: frozenset[str]
    ) -> dict[str, Tensor]:
        """The part's tensors, if they are what they should be."""
        own_bytes = sum(
            math.prod(self._layout.tensors[n].shape) * self._layout.tensors[n].dtype.itemsize
            for n in names
        )
        most = own_bytes + _HEADER_SLACK_BYTES + _BYTES_A_NAME * len(names)
        if len(update.payload) > most:
            raise FladError(
                UPDATE_WRONG_SHAPE,
                f"{header.vehicle} sent {len(update.payload)} bytes of tensors; those it was asked "
                f"for have {own_bytes}",
            )
        tensors = read_tensors(update, header)
        if wrong := self._layout.complaints(tensors, names):
            raise FladError(UPDATE_WRONG_SHAPE, f"{header.vehicle}: {_few(wrong)}")
        if broken := [c for n, t in tensors.items() if (c := self._broken(n, t))]:
            raise FladError(UPDATE_NOT_FINITE, f"{header.vehicle}: {_few(broken)}")
        return tensors

    def _broken(self, name: str, tensor: Tensor) -> str | None:
        layout = self._layout.tensors[name]
        if tensor.dtype.is_floating_point and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            return f"{bad} of {tensor.numel()} numbers of {name} are not finite"
        if layout.non_negative and bool((tensor < 0).any()):
            return f"{name} counts or is a variance, and is negative"
        if layout.kind == "fixed" and not torch.equal(tensor, self._start[name]):
            return f"{name} is not trained, and has changed"
        return None

    def _check_norms(self, client: str, tensors: State) -> None:
        found: dict[Kind, float] = {}
        kinds: tuple[Kind, ...] = ("trained", "statistic")
        for kind in kinds:
            found[kind] = update_norm(self._layout, tensors, self._start, kind)
            limit = self._norms.limit(kind)
            if not (math.isfinite(found[kind]) and found[kind] <= limit):
                raise FladError(
                    UPDATE_TOO_FAR,
                    f"{client} moved the {kind} tensors by {found[kind]:.4g} in all, at most "
                    f"{limit:.4g} is let in",
                )
        for kind, norm in found.items():
            self._norms.add(kind, norm)


def _few(complaints: list[str]) -> str:
    rest = len(complaints) - _NAMED_IN_AN_ERROR
    more = f" and {rest} more" if rest > 0 else ""
    return "; ".join(complaints[:_NAMED_IN_AN_ERROR]) + more
