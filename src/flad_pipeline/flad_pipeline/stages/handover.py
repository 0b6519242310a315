# SPDX-License-Identifier: Apache-2.0
"""From one pipeline to the next: only units whose owner changes move, peer to peer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from flad_pipeline.partition import Partition
from flad_pipeline.stages.unit_state import unit_state_from_bytes
from flad_pipeline.stages.unit_store import UnitStore

_FIRST_TAG = 1 << 20
"""Above those of a step's features and gradients."""


def hand_over(
    store: UnitStore,
    before: Partition,
    after: Partition,
    vehicle: str,
    group: dist.ProcessGroup,
    members: Sequence[str],
    *,
    step: int,
) -> int:
    """Give away and receive what ``vehicle`` must; every member calls it.

    All sends are begun before the first receive, so that no two vehicles wait for each other.

    Args:
        store: of this vehicle.
        before: the pipeline so far.
        after: the next one, of the same units.
        vehicle: this one.
        group: all members.
        members: by rank.
        step: the next to be taken.

    Returns:
        Bytes that this vehicle sent: a part of the next pipeline's cost.

    Raises:
        ValueError: if what arrived is damaged or of another model.
    """
    moves = sorted(before.moves_to(after).items())
    rank = {name: i for i, name in enumerate(members)}
    sent: list[tuple[Any, Tensor]] = []
    num_bytes = 0
    for unit, (giver, taker) in moves:
        if giver == vehicle:
            data = torch.frombuffer(
                bytearray(store.take_unit(unit, step).to_bytes()), dtype=torch.uint8
            )
            num_bytes += data.numel()
            for tag, tensor in enumerate((torch.tensor([data.numel()]), data)):
                work = group.send([tensor], rank[taker], _FIRST_TAG + 2 * unit + tag)
                sent.append((work, tensor))
    for unit, (giver, taker) in moves:
        if taker == vehicle:
            length = torch.zeros(1, dtype=torch.int64)
            group.recv([length], rank[giver], _FIRST_TAG + 2 * unit).wait()
            data = torch.empty(int(length), dtype=torch.uint8)
            group.recv([data], rank[giver], _FIRST_TAG + 2 * unit + 1).wait()
            store.give_unit(unit_state_from_bytes(data.numpy().tobytes()))
    for work, _ in sent:
        work.wait()
    return num_bytes
