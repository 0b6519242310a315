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
    from flad_edge.adllm.frame_reader import Instructions
    from flad_edge.adllm.model import AdLlm

_GROW_TOKENS = 64  # room is added in such pieces, so that most frames move nothing
_FEW_FRAMES = 5  # fewer are not worth a pass of their own, while there is time


class Reading:
    """Keys and values of the first tokens of one sequence."""

    def __init__(self) -> None:
        self.num_tokens = 0
        self._kv: Tensor | None = None

    @property
    def num_bytes(self) -> int:
        """Memory that it holds."""
        return 0 if self._kv is None else self._kv.numel() * self._kv.element_size()

    def copy_into(self, kv: Tensor, num_tokens: int) -> None:
        """Write what was read of the first tokens into ``[2, L, G, T, C]``, zeros after it."""
        if num_tokens:
            assert self._kv is not None
            kv[:, :, :, :num_tokens] = self._kv[:, :, :, :num_tokens]
        kv[:, :, :, num_tokens:] = 0.0  # masked, but 0 x NaN would be NaN

    def keep(self, kv: Tensor, start: int, stop: int) -> None:
        """Take the tokens' keys and values up to ``stop``; those before ``start`` are here already.

        Later ones are forgotten.
        """
        if self._kv is None or self._kv.shape[3] < stop:
            room = -(-stop // _GROW_TOKENS) * _GROW_TOKENS
            grown = kv.new_empty(*kv.shape[:3], room, kv.shape[4])
            if self._kv is not None:
                grown[:, :, :, :start] = self._kv[:, :, :, :start]
            self._kv = grown
        self._kv[:, :, :, start:stop] = kv[:, :, :, start:stop]
        self.num_tokens = stop


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
        self.reading = Reading()
        self.ahead = Reading()
        """Of the history as it will be when the oldest frames have gone."""
        self.num_ahead = 0
        """Frames that are read in :attr:`ahead`."""
        self._instruction: Instructions | None = None

    def read_instruction(self) -> Instructions:
        """What the Q-Former makes of it, found once: no frame changes it."""
        if self._instruction is None:
            ids = torch.tensor([self.instruction_ids], device=self.model.device)
            self._instruction = self.model.frame_reader.read_instructions(ids, None)
        return self._instruction

    @property
    def num_frames(self) -> int:
        """At most ``max_frames``."""
        return len(self.frames)

    @property
    def num_bytes(self) -> int:
        """Memory that the history holds."""
        frames = sum(t.numel() * t.element_size() for t in self.frames)
        instruction = 0 if self._instruction is None else self._instruction.num_bytes
        return frames + self.reading.num_bytes + self.ahead.num_bytes + instruction

    @property
    def unread_ahead(self) -> list[Tensor]:
        """Frames that will stay and have not been read ahead."""
        return self.frames[self.model.config.history.dropped_frames + self.num_ahead :]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """What one vehicle's sequence needs read next."""

    source: Reading
    """Holds what is read already and stays: the first ``start`` tokens."""
    start: int
    new: Tensor
    """``[n, H]``."""

    @property
    def stop(self) -> int:
        """Tokens that will have been read."""
        return self.start + len(self.new)


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
    rule = model.config.history
    plans = [_plan_step(model, h, f) for h, f in zip(histories, frames, strict=True)]
    last = frames.new_empty(len(plans), frames.shape[-1])
    caches = list(_read_all(model, plans, last))
    for rows, kv in caches:
        for column, row in enumerate(rows):
            history, plan, notice = histories[row], plans[row], notices[row]
            if len(history.frames) == rule.max_frames:
                history.frames = history.frames[rule.dropped_frames :]
                history.ahead, history.num_ahead = Reading(), 0
            plan.source.keep(kv[:, :, column], plan.start, plan.stop)
            history.reading = plan.source
            frame = frames[row] if notice is None else torch.cat([frames[row], notice])
            history.frames = [*history.frames, frame]
    return last


def read_ahead(model: AdLlm, histories: Sequence[History], max_frames: int) -> int:
    """Read what full histories will need when their oldest frames go; return how many frames.

    Nothing that is asked later is answered otherwise, only sooner. A history's frames are read a
    few at a time, and all of them when the next one will make it drop its oldest.

    Args:
        model: whose Llama reads.
        histories: some change, none in what it says.
        max_frames: of all histories together; an answer that is asked for meanwhile waits so long.
    """
    full = model.config.history.max_frames
    chosen: list[tuple[History, list[Tensor]]] = []
    for history in sorted(histories, key=lambda h: -len(h.frames)):
        unread = history.unread_ahead[:max_frames]
        if len(unread) >= (1 if len(history.frames) == full else _FEW_FRAMES):
            chosen.append((history, unread))
            max_frames -= len(unread)
    plans = [_plan_ahead(history, unread) for history, unread in chosen]
    for rows, kv in list(_read_all(model, plans, None)):
        for column, row in enumerate(rows):
            (history, unread), plan = chosen[row], plans[row]
            # The instruction's part comes from another reading, so it is kept anew.
            start = plan.start if history.num_ahead else 0
            history.ahead.keep(kv[:, :, column], start, plan.stop)
            history.num_ahead += len(unread)
    return sum(len(unread) for _, unread in chosen)


def _plan_step(model: AdLlm, history: History, frame: Tensor) -> _Plan:
    frames = history.frames
    if not frames:
        instruction = model.embed(history.instruction_ids)
        return _Plan(source=history.reading, start=0, new=torch.cat([instruction, frame]))
    if len(frames) < model.config.history.max_frames:
        # A notice after the last frame has not been read yet.
        new = torch.cat([frames[-1][len(frame) :], frame])
        return _Plan(source=history.reading, start=history.reading.num_tokens, new=new)
    return _plan_ahead(history, [*history.unread_ahead, frame])


def _plan_ahead(history: History, frames: Sequence[Tensor]) -> _Plan:
    """To read ``frames`` after those that were read ahead, or after the instruction."""
    source = history.ahead if history.num_ahead else history.reading
    start = source.num_tokens if history.num_ahead else len(history.instruction_ids)
    return _Plan(source=source, start=start, new=torch.cat(list(frames)))


def _read_all(
    model: AdLlm, plans: Sequence[_Plan], last: Tensor | None
) -> Iterator[tuple[list[int], Tensor]]:
    """Read all plans' new tokens: groups of rows, and what :func:`_read_group` gives of each."""
    for rows in _similar([len(p.new) for p in plans]):
        yield rows, _read_group(model, [plans[row] for row in rows], last, rows)


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


def _read_group(
    model: AdLlm, plans: Sequence[_Plan], last: Tensor | None, rows: list[int]
) -> Tensor:
    """Read each plan's new tokens; write ``last[rows]``; return ``[2, L, B, G, T, C]``."""
    device, c = model.device, model.config.llm
    starts, lengths = [p.start for p in plans], [len(p.new) for p in plans]
    longest = max(lengths)
    embeddings = torch.nn.utils.rnn.pad_sequence([p.new for p in plans], batch_first=True)
    positions = torch.stack([torch.arange(s, s + longest) for s in starts]).to(device)
    kv = embeddings.new_empty(
        *(2, c.layers, len(plans), c.kv_heads),
        *(max(starts) + longest, c.hidden // c.heads),
    )
    for column, plan in enumerate(plans):
        plan.source.copy_into(kv[:, :, column], plan.start)
    hidden = read(model.llm, embeddings, positions, kv)
    if last is not None:
        last[rows] = hidden[range(len(plans)), [length - 1 for length in lengths]]
    return kv
