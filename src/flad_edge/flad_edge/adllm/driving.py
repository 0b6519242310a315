# SPDX-License-Identifier: Apache-2.0
"""One frame at a time for many vehicles: what each has been read already is not read again.

Shapes: B vehicles, Q queries, H channels, n tokens of one vehicle, T columns; keys and values are
``[2, L, G, T, C]`` (layers, heads, channels of a head), as in :mod:`flad_edge.adllm.attention`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flad_edge.adllm.attention import read

if TYPE_CHECKING:
    from flad_edge.adllm.model import AdLlm

_GROW_TOKENS = 64  # room is added in such pieces, so that most frames move nothing


class History:
    """What the model has read for one vehicle since its instruction; ``AdLlm.step`` appends.

    It belongs to one thread at a time.
    """

    def __init__(self, model: AdLlm, instruction: str, ids: tuple[int, ...]) -> None:
        self.model = model
        self.instruction = instruction
        self.instruction_ids = ids
        self.frames: list[Tensor] = []
        """``[Q + notice, H]`` each."""
        self.num_read = 0
        """Tokens whose keys and values are kept."""
        self._kv: Tensor | None = None

    @property
    def num_frames(self) -> int:
        """At most ``max_frames``."""
        return len(self.frames)

    @property
    def num_bytes(self) -> int:
        """Memory that the history holds."""
        kept = [*self.frames, *([] if self._kv is None else [self._kv])]
        return sum(t.numel() * t.element_size() for t in kept)

    def copy_into(self, kv: Tensor, num_tokens: int) -> None:
        """Write what was read of the first tokens into ``[2, L, G, T, C]``, zeros after it."""
        if num_tokens:
            assert self._kv is not None
            kv[:, :, :, :num_tokens] = self._kv[:, :, :, :num_tokens]
        kv[:, :, :, num_tokens:] = 0.0  # masked, but 0 x NaN would be NaN

    def keep(self, kv: Tensor, start: int, stop: int) -> None:
        """Take the tokens' keys and values from ``start`` to ``stop``; forget any later ones."""
        if self._kv is None or self._kv.shape[3] < stop:
            room = -(-stop // _GROW_TOKENS) * _GROW_TOKENS
            grown = kv.new_empty(*kv.shape[:3], room, kv.shape[4])
            if self._kv is not None:
                grown[:, :, :, :start] = self._kv[:, :, :, :start]
            self._kv = grown
        self._kv[:, :, :, start:stop] = kv[:, :, :, start:stop]
        self.num_read = stop


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """What one vehicle's next frame needs read."""

    history: History
    kept_frames: list[Tensor]
    num_read: int
    """Tokens that are read already and stay."""
    new: Tensor
    """``[n, H]``, the frame's own last."""


def advance(
    model: AdLlm,
    histories: Sequence[History],
    frames: Tensor,
    notices: Sequence[Tensor | None],
) -> Tensor:
    """Append one frame to each history; return its last token's hidden state ``[B, H]``.

    Args:
        model: whose Llama reads.
        histories: changed, all of them, after the last computation.
        frames: ``[B, Q, H]``.
        notices: ``[n, H]`` each, or None; read with the next frame.
    """
    plans = [_plan(model, h, f) for h, f in zip(histories, frames, strict=True)]
    last = frames.new_empty(len(plans), frames.shape[-1])
    caches: list[tuple[list[int], Tensor]] = []
    for rows in _similar([len(p.new) for p in plans]):
        kv = _read_group(model, [plans[row] for row in rows], last, rows)
        caches.append((rows, kv))
    for rows, kv in caches:
        for column, row in enumerate(rows):
            plan, notice = plans[row], notices[row]
            stop = plan.num_read + len(plan.new)
            plan.history.keep(kv[:, :, column], plan.num_read, stop)
            frame = frames[row] if notice is None else torch.cat([frames[row], notice])
            plan.history.frames = [*plan.kept_frames, frame]
    return last


def _plan(model: AdLlm, history: History, frame: Tensor) -> _Plan:
    rule, frames = model.config.history, history.frames
    if not frames:
        return _Plan(
            history=history,
            kept_frames=[],
            num_read=0,
            new=torch.cat([model.embed(history.instruction_ids), frame]),
        )
    if len(frames) < rule.max_frames:  # a notice after the last frame has not been read yet
        notice = frames[-1][len(frame) :]
        return _Plan(
            history=history,
            kept_frames=frames,
            num_read=history.num_read,
            new=torch.cat([notice, frame]),
        )
    kept = frames[rule.dropped_frames :]
    return _Plan(
        history=history,
        kept_frames=kept,
        num_read=len(history.instruction_ids),
        new=torch.cat([*kept, frame]),
    )


def _similar(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Groups of indices whose lengths differ by less than a factor of two: padding is work."""
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if group and lengths[index] >= 2 * lengths[group[0]]:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def _read_group(model: AdLlm, plans: Sequence[_Plan], last: Tensor, rows: list[int]) -> Tensor:
    """Read each plan's new tokens; write ``last[rows]``; return ``[2, L, B, G, T, C]``."""
    device, c = model.device, model.config.llm
    starts = torch.tensor([p.num_read for p in plans])
    lengths = torch.tensor([len(p.new) for p in plans])
    longest = int(lengths.max())
    embeddings = torch.nn.utils.rnn.pad_sequence([p.new for p in plans], batch_first=True)
    positions = (starts[:, None] + torch.arange(longest)).to(device)
    kv = embeddings.new_empty(
        *(2, c.layers, len(plans), c.kv_heads),
        *(int(starts.max()) + longest, c.hidden // c.heads),
    )
    for column, plan in enumerate(plans):
        plan.history.copy_into(kv[:, :, column], plan.num_read)
    hidden = read(model.llm, embeddings, positions, kv)
    last[rows] = hidden[torch.arange(len(plans)), lengths - 1]
    return kv
