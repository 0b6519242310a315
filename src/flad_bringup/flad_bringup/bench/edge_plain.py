# SPDX-License-Identifier: Apache-2.0
"""What the edge's service is measured against: one ordinary forward pass per request.

The library's own modules with their own causal mask, batches of one, nothing kept but the frames
that arrived: no code of the service and none of the cached histories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flad_edge.adllm.model import AdLlm


@dataclass
class PlainHistory:
    """Everything a vehicle has shown since its instruction."""

    ids: tuple[int, ...]
    frames: list[Tensor] = field(default_factory=list)
    """``[K, D]`` each."""
    notices: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Ids, by the frame that they follow."""


@torch.no_grad()
def plain_waypoints_m(model: AdLlm, history: PlainHistory) -> Tensor:
    """Waypoints ``[P, 2]`` at the last frame, everything read anew.

    Args:
        model: whose parts are called one by one.
        history: with the frame that is asked about as its last.
    """
    return _ask(
        model, history, _read(model, history, range(_first(model, history), _last(history)))
    )


class KeptFrames:
    """The same, but what the Q-Former made of a frame is kept: only Llama reads everything anew."""

    def __init__(self, model: AdLlm) -> None:
        self._model = model
        self._kept: dict[int, Tensor] = {}  # by the frame's number

    @torch.no_grad()
    def prepare(self, history: PlainHistory) -> None:
        """Read the frames before the last one; not part of what a request costs."""
        wanted = range(_first(self._model, history), _last(history) - 1)
        self._kept = {f: t for f, t in self._kept.items() if f in wanted}
        if missing := [f for f in wanted if f not in self._kept]:
            self._kept |= dict(zip(missing, _read(self._model, history, missing), strict=True))

    @torch.no_grad()
    def waypoints_m(self, history: PlainHistory) -> Tensor:
        """Waypoints ``[P, 2]`` at the last frame."""
        last = _last(history) - 1
        new = _read(self._model, history, [last])
        before = [self._kept[f] for f in range(_first(self._model, history), last)]
        return _ask(self._model, history, [*before, *new])


def _last(history: PlainHistory) -> int:
    return len(history.frames)


def _first(model: AdLlm, history: PlainHistory) -> int:
    return model.config.history.first_seen(len(history.frames) - 1)


def _read(model: AdLlm, history: PlainHistory, frames: Sequence[int]) -> Sequence[Tensor]:
    """What the Q-Former makes of frames: ``[Q, H]`` each."""
    reader = model.frame_reader
    tokens = torch.stack([history.frames[f] for f in frames]).to(model.device)
    ids = torch.tensor([history.ids] * len(tokens), device=model.device)
    queries = reader.queries.expand(len(tokens), -1, -1)
    read = reader.qformer(
        input_ids=ids,
        attention_mask=torch.ones(
            len(tokens), queries.shape[1] + ids.shape[1], dtype=torch.long, device=model.device
        ),
        query_embeds=queries,
        encoder_hidden_states=reader.norm(tokens) + reader.places,
    ).last_hidden_state
    return list(reader.project(read[:, : queries.shape[1]]).to(model.llm.dtype))


def _ask(model: AdLlm, history: PlainHistory, frames: Sequence[Tensor]) -> Tensor:
    parts = [_embed(model, history.ids)]
    first = _last(history) - len(frames)
    notices: Mapping[int, tuple[int, ...]] = history.notices
    for number, frame in enumerate(frames, start=first):
        parts.append(frame)
        if number in notices and number + 1 < _last(history):
            parts.append(_embed(model, notices[number]))
    hidden = model.llm(inputs_embeds=torch.cat(parts)[None], use_cache=False).last_hidden_state
    waypoints: Tensor = model.waypoint_head(hidden[0, -1].float()).unflatten(-1, (-1, 2))
    return waypoints


def _embed(model: AdLlm, ids: Sequence[int]) -> Tensor:
    table = model.llm.get_input_embeddings()
    embedded: Tensor = table(torch.tensor(ids, device=model.device))
    return embedded
