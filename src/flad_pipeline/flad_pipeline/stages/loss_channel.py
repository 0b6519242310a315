# SPDX-License-Identifier: Apache-2.0
"""The u-shaped loss: features go to the owner of the labels, their gradient comes back.

To the last stage it is a loss function whose value is 0: an autograd function sends in its forward
pass and receives in its backward pass, so that GPipe and 1F1B run unchanged. Labels, results and
losses never leave the owner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from flad_pipeline.graph.values import TensorFacts
from flad_pipeline.stages.packing import packed, rows_under
from flad_pipeline.stages.stage_module import Crossing


class LossChannel:
    """Tensors between the last stage and the owner, in both directions, by micro-batch.

    Sends are buffered: they are waited for at the end of a step (:meth:`flush`). One side's two
    threads may use one channel each.

    Args:
        group: of the pipeline.
        peer: rank of the other side in the group.
        crossing: what the features are.
        waiting: entered while gradients are waited for, in the midst of a backward pass.
    """

    def __init__(
        self,
        group: dist.ProcessGroup,
        peer: int,
        crossing: Crossing,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._group, self._peer, self._crossing = group, peer, crossing
        self._waiting = waiting
        self._sent: list[tuple[Any, Tensor]] = []

    def send_features(self, micro_batch: int, features: Sequence[Tensor]) -> None:
        """From the last stage."""
        self._send(features, self._tag(micro_batch))

    def receive_features(self, micro_batch: int) -> list[Tensor]:
        """At the owner: leaves that ask for a gradient where the features did."""
        facts = self._crossing.facts
        features = self._receive(facts, self._tag(micro_batch))
        return [
            tensor.requires_grad_(fact.requires_grad)
            for tensor, fact in zip(features, facts, strict=True)
        ]

    def send_gradients(self, micro_batch: int, features: Sequence[Tensor]) -> None:
        """From the owner: the gradient of every feature that asks for one; 0 where none came."""
        gradients = [
            torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
            for tensor, fact in zip(features, self._crossing.facts, strict=True)
            if fact.requires_grad
        ]
        self._send(gradients, self._tag(micro_batch) + 1)

    def receive_gradients(self, micro_batch: int) -> list[Tensor | None]:
        """At the last stage; ``None`` for features that ask for none."""
        facts = self._crossing.facts
        with self._waiting():
            gradients = iter(
                self._receive(
                    [fact for fact in facts if fact.requires_grad], self._tag(micro_batch) + 1
                )
            )
        return [next(gradients) if fact.requires_grad else None for fact in facts]

    def flush(self) -> None:
        """Wait until everything that was sent has left."""
        sent, self._sent = self._sent, []
        for work, _ in sent:
            work.wait()

    def _tag(self, micro_batch: int) -> int:
        """Even and positive; PyTorch's schedules use 0. Rows of one tag keep their order."""
        return 2 * (1 + micro_batch)

    def _send(self, tensors: Sequence[Tensor], tag: int) -> None:
        for row in packed(tensors):
            self._sent.append((self._group.send([row], self._peer, tag), row))

    def _receive(self, facts: Sequence[TensorFacts], tag: int) -> list[Tensor]:
        tensors = [fact.empty("cpu").detach() for fact in facts]
        for row in rows_under(tensors):
            self._group.recv([row], self._peer, tag).wait()
        return tensors


class _OwnersLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, channel: LossChannel, micro_batch: int, *features: Tensor) -> Tensor:
        ctx.channel, ctx.micro_batch = channel, micro_batch
        channel.send_features(micro_batch, features)
        return torch.zeros((), device=features[0].device)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Any, ...]:
        return (None, None, *ctx.channel.receive_gradients(ctx.micro_batch))


def owners_loss(channel: LossChannel, micro_batch: int, features: Sequence[Tensor]) -> Tensor:
    """0, with the gradient that the owner of the labels computes."""
    loss: Tensor = _OwnersLoss.apply(channel, micro_batch, *features)  # type: ignore[no-untyped-call]
    return loss
