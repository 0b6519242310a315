# SPDX-License-Identifier: Apache-2.0
"""What the edge asks for in a round; the same goes to the clients and to the gate."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

_ROUND_ID_BYTES = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientTicket:
    """A client that was asked to train: who signs which tensors, and how much data it has."""

    client: str
    parts: Mapping[str, frozenset[str]]
    """Tensors by the vehicle that signs them; together the whole state, each once."""
    max_samples: int
    """That it can have trained on in this round."""


@dataclass(frozen=True, kw_only=True)
class RoundTicket:
    """A round as it was announced."""

    round: int
    start_hash: str
    clients: tuple[ClientTicket, ...]
    round_id: str = field(default_factory=lambda: secrets.token_hex(_ROUND_ID_BYTES))
