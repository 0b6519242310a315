# SPDX-License-Identifier: Apache-2.0
"""What all members of a group do together, made of sends and receives.

A reduction adds in the order of the ranks, whoever is faster: the result is the same on every
member and in every run. The bytes that each member sends are those of a ring, 2 (n - 1) / n of the
tensor for a large one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

WHOLE_BYTES = 65_536
"""Below it every member sends its whole tensor to every other: one hop instead of two."""


class Peers(Protocol):
    """Sends and receives of one collective; what is received comes in the order of the sends."""

    rank: int
    size: int

    def send(self, tensor: torch.Tensor, rank: int) -> None:
        """Queue ``tensor`` for a member."""
        ...

    def receive_into(self, tensor: torch.Tensor, rank: int) -> None:
        """Wait for the next tensor of a member."""
        ...


_REDUCTIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "SUM": torch.Tensor.add_,
    "AVG": torch.Tensor.add_,
    "PRODUCT": torch.Tensor.mul_,
    "MIN": lambda a, b: torch.minimum(a, b, out=a),
    "MAX": lambda a, b: torch.maximum(a, b, out=a),
}


def barrier(peers: Peers) -> None:
    """Return when every member has come here."""
    token = torch.zeros(1, dtype=torch.uint8)
    others = _others(peers)
    for rank in others:
        peers.send(token, rank)
    for rank in others:
        peers.receive_into(token, rank)


def broadcast(peers: Peers, tensor: torch.Tensor, root: int) -> None:
    """Overwrite ``tensor`` with that of ``root``."""
    if peers.rank == root:
        for rank in _others(peers):
            peers.send(tensor, rank)
    else:
        peers.receive_into(tensor, root)


def allgather(peers: Peers, outputs: Sequence[torch.Tensor], tensor: torch.Tensor) -> None:
    """Fill ``outputs[rank]`` with the tensor of every member."""
    for rank in _others(peers):
        peers.send(tensor, rank)
    outputs[peers.rank].copy_(tensor)
    for rank in _others(peers):
        peers.receive_into(outputs[rank], rank)


def allreduce(peers: Peers, tensor: torch.Tensor, op: str) -> None:
    """Overwrite ``tensor`` with the reduction over all members, in the order of their ranks.

    Raises:
        ValueError: on an operation that this group has not.
    """
    if op not in _REDUCTIONS:
        raise ValueError(f"all-reduce by {op} is not offered; there are {sorted(_REDUCTIONS)}")
    if peers.size == 1:
        return
    flat = tensor.data.contiguous().view(-1)
    if flat.numel() * flat.element_size() <= WHOLE_BYTES or flat.numel() < peers.size:
        everything = [torch.empty_like(flat) for _ in range(peers.size)]
        allgather(peers, everything, flat)
        reduced = _reduced(everything, op)
    else:
        reduced = _reduced_by_shards(peers, flat, op)
    tensor.data.copy_(reduced.view(tensor.shape))


def _reduced_by_shards(peers: Peers, flat: torch.Tensor, op: str) -> torch.Tensor:
    """Each member reduces one shard and sends it to the others."""
    shards = list(flat.tensor_split(peers.size))
    for rank in _others(peers):
        peers.send(shards[rank], rank)
    mine = shards[peers.rank]
    parts = [torch.empty_like(mine) for _ in range(peers.size)]
    parts[peers.rank].copy_(mine)
    for rank in _others(peers):
        peers.receive_into(parts[rank], rank)
    shard = _reduced(parts, op)
    whole = [torch.empty_like(one) for one in shards]
    allgather(peers, whole, shard)
    return torch.cat(whole)


def _reduced(parts: Sequence[torch.Tensor], op: str) -> torch.Tensor:
    total = parts[0].clone()
    for part in parts[1:]:
        _REDUCTIONS[op](total, part)
    if op == "AVG":
        total = total.div_(len(parts)) if total.is_floating_point() else total // len(parts)
    return total


def _others(peers: Peers) -> list[int]:
    """The other ranks, each member beginning with the one after itself."""
    return [(peers.rank + step) % peers.size for step in range(1, peers.size)]
