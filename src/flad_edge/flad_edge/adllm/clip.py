# SPDX-License-Identifier: Apache-2.0
"""Clips as training reads them, and how they lie in the language model's rows.

    [instruction][frame: Q][notice?][frame: Q][notice?] ...

Shapes: B clips, F frames, K scene tokens of D channels, Q queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flad_edge.adllm.history import HistoryConfig


@dataclass(frozen=True, kw_only=True)
class ClipBatch:
    """Clips, each of one instruction.

    Raises:
        ValueError: if the parts do not go together.
    """

    instructions: tuple[str, ...]
    tokens: Tensor
    """``[B, F, K, D]``; what stands beyond a clip's frames is not read."""
    num_frames: tuple[int, ...]
    """Of each clip, 1 to F."""
    notices: tuple[Mapping[int, str], ...]
    """Of each clip, by the frame (from 0) that they follow."""

    def __post_init__(self) -> None:
        if self.tokens.dim() != 4:
            raise ValueError(f"tokens are [B, F, K, D], got {list(self.tokens.shape)}")
        sizes = [len(self.instructions), len(self.tokens), len(self.num_frames), len(self.notices)]
        if len(set(sizes)) != 1 or sizes[0] == 0:
            raise ValueError(
                f"instructions, tokens, num_frames and notices are of {sizes} clips; expected the "
                "same number of each, at least one"
            )
        most = self.tokens.shape[1]
        if not all(1 <= n <= most for n in self.num_frames):
            raise ValueError(f"num_frames must be in 1..{most}, got {self.num_frames}")
        for n, notices in zip(self.num_frames, self.notices, strict=True):
            if outside := [f for f in notices if not 0 <= f < n]:
                raise ValueError(f"notices after frames {outside} of a clip of {n} frames")

    @property
    def frame_mask(self) -> Tensor:
        """``[B, F]``, True where a clip has a frame; on the tokens' device."""
        lengths = torch.tensor(self.num_frames)
        mask = torch.arange(self.tokens.shape[1]) < lengths[:, None]
        return mask.to(self.tokens.device)


@dataclass(frozen=True, kw_only=True)
class RowPlan:
    """Where each token of the rows comes from, and where the answers are read."""

    text_ids: tuple[int, ...]
    """Instructions and notices, one after the other: the first part of the source."""
    sources: tuple[tuple[int, ...], ...]
    """Per row, indices into [text_ids][frames' tokens, in the order of ``frame_mask``]."""
    answer_rows: tuple[int, ...]
    answer_columns: tuple[int, ...]
    """One per frame, in the order of ``frame_mask``: the frame's last token."""


def plan_rows(
    instructions: Sequence[Sequence[int]],
    num_frames: Sequence[int],
    notices: Sequence[Mapping[int, Sequence[int]]],
    num_queries: int,
    history: HistoryConfig,
) -> RowPlan:
    """Lay every clip into as many rows as the history rule asks for.

    Args:
        instructions: ids, per clip.
        num_frames: per clip.
        notices: ids, per clip, by the frame that they follow.
        num_queries: tokens of a frame.
        history: the rule; each reading is a row.
    """
    text: list[int] = []
    num_text = sum(map(len, instructions)) + sum(len(i) for n in notices for i in n.values())
    sources: list[tuple[int, ...]] = []
    answers: list[tuple[int, int]] = []
    frame_start = num_text
    for ids, length, after in zip(instructions, num_frames, notices, strict=True):
        head = _append(text, ids)
        extra = {frame: _append(text, notice) for frame, notice in after.items()}
        for reading in history.readings(length):
            row = list(head)
            for frame in range(reading.first, reading.stop):
                start = frame_start + frame * num_queries
                row += range(start, start + num_queries)
                if frame >= reading.answers_from:
                    answers.append((len(sources), len(row) - 1))
                row += extra.get(frame, ())
            sources.append(tuple(row))
        frame_start += length * num_queries
    return RowPlan(
        text_ids=tuple(text),
        sources=tuple(sources),
        answer_rows=tuple(row for row, _ in answers),
        answer_columns=tuple(column for _, column in answers),
    )


def _append(text: list[int], ids: Sequence[int]) -> range:
    text.extend(ids)
    return range(len(text) - len(ids), len(text))
