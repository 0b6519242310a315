# SPDX-License-Identifier: Apache-2.0
"""What crosses a cut in as few messages as it has number types.

A cut of the encoder has some twenty tensors, half of them flags of a few bytes, and a message costs
both ends the same whatever it holds. They travel in rows, one for each number type. The receiver's
tensors are places in such a row, so that nothing is copied there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.pipelining import PipelineStage


def packed(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Rows of all numbers, by type in the order of their first tensors; without gradient."""
    return [
        torch.cat([tensor.detach().reshape(-1) for tensor in alike])
        if len(alike) > 1
        else alike[0].detach().contiguous().reshape(-1)
        for alike in _alike(tensors)
    ]


def rows_under(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Rows like those of :func:`packed`; the contiguous ``tensors`` become places in them.

    Example:
        >>> a, b = torch.zeros(2), torch.zeros(1, 2)
        >>> [row] = rows_under([a, b])
        >>> _ = row.copy_(torch.arange(4.0))
        >>> a, b
        (tensor([0., 1.]), tensor([[2., 3.]]))
    """
    rows = []
    for alike in _alike(tensors):
        row = alike[0].new_empty(sum(tensor.numel() for tensor in alike))
        start = 0
        for tensor in alike:
            assert tensor.is_contiguous()
            tensor.data = row[start : start + tensor.numel()].view(tensor.shape)
            start += tensor.numel()
        rows.append(row)
    return rows


class PackedStage(PipelineStage):
    """PyTorch's stage with one message for each number type of a micro-batch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rows: dict[tuple[str, int], tuple[Tensor, list[Tensor]]] = {}

    def get_fwd_recv_ops(self, fwd_chunk_id: int) -> list[dist.P2POp]:
        """Receive a micro-batch's values."""
        ops = super().get_fwd_recv_ops(fwd_chunk_id)
        return self._received(("forward", fwd_chunk_id), ops)

    def get_bwd_recv_ops(self, bwd_chunk_id: int) -> list[dist.P2POp]:
        """Receive a micro-batch's gradients."""
        ops = super().get_bwd_recv_ops(bwd_chunk_id)
        return self._received(("backward", bwd_chunk_id), ops)

    def get_fwd_send_ops(self, fwd_chunk_id: int) -> list[dist.P2POp]:
        """Send a micro-batch's values."""
        return _sent(super().get_fwd_send_ops(fwd_chunk_id))

    def get_bwd_send_ops(self, bwd_chunk_id: int) -> list[dist.P2POp]:
        """Send a micro-batch's gradients."""
        return _sent(super().get_bwd_send_ops(bwd_chunk_id))

    def _received(self, which: tuple[str, int], ops: Sequence[dist.P2POp]) -> list[dist.P2POp]:
        """The engine receives into the same buffers in every step: their rows are made once."""
        if not ops:
            return []
        first = ops[0].tensor
        if which not in self._rows or self._rows[which][0] is not first:
            self._rows[which] = first, rows_under(op.tensor for op in ops)
        return [_like(ops[0], row) for row in self._rows[which][1]]


def _sent(ops: Sequence[dist.P2POp]) -> list[dist.P2POp]:
    return [_like(ops[0], row) for row in packed(op.tensor for op in ops)]


def _like(op: dist.P2POp, tensor: Tensor) -> dist.P2POp:
    """The same to or from the same stage: a single-stage schedule has one neighbour a side."""
    return dist.P2POp(op.op, tensor, op.peer, op.group)


def _alike(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        by_type.setdefault(tensor.dtype, []).append(tensor)
    return list(by_type.values())
