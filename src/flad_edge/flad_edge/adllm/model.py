# SPDX-License-Identifier: Apache-2.0
"""The AD-LLM: whole clips for training, one frame at a time for driving.

Shapes: B clips or vehicles, F frames, K scene tokens of D channels, Q queries, H channels of the
LLM, P waypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flad_edge.adllm.attention import read
from flad_edge.adllm.clip import ClipBatch, plan_rows
from flad_edge.adllm.config import AdLlmConfig
from flad_edge.adllm.driving import History, advance, read_ahead
from flad_edge.adllm.frame_reader import FrameReader, Instructions, as_batch, pad_ids
from flad_edge.adllm.llama import llama_from_checkpoint, new_llama
from flad_edge.adllm.tokenizer import TextTokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class AdLlmOutput:
    """What the model says of every frame of every clip; zeros where a clip has none."""

    waypoints_m: Tensor
    """``[B, F, P, 2]``: x forward, y left, in the vehicle's frame, every 0.5 s."""
    completed_logits: Tensor
    """``[B, F, 2]``: carrying on, instruction completed."""
    read: Tensor
    """``[N, Q, H]``: what the Q-Former passes on of every frame there is, clip by clip."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepOutput:
    """What the model says of one new frame of each vehicle."""

    waypoints_m: Tensor
    """``[B, P, 2]``."""
    completed: Tensor
    """``[B]``: probability that the instruction has been carried out."""


class AdLlm(nn.Module):
    """Instruction and frames in, waypoints and "completed" out; no text is generated.

    Args:
        config: sizes.
        tokenizer: the one whose ids both the Q-Former's and the LLM's embeddings are for.
        llm: a ``LlamaModel`` of ``config.llm``'s sizes.
    """

    def __init__(self, config: AdLlmConfig, tokenizer: TextTokenizer, llm: Any) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.frame_reader = FrameReader(config)
        self.llm = llm
        self.waypoint_head = _head(config.llm.hidden, 2 * config.num_waypoints)
        self.completed_head = _head(config.llm.hidden, 2)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.frame_reader.queries.device

    def complaint(self, instruction: str) -> str | None:
        """Why the model cannot read an instruction; None if it can."""
        try:
            self.tokenizer.instruction(instruction)
        except ValueError as error:
            return str(error)
        return None

    def forward(self, clip: ClipBatch) -> AdLlmOutput:
        """Read whole clips; every frame is answered with what it would see while driving.

        Raises:
            ValueError: if the tokens are of another shape, or a text cannot be read.
        """
        self._check_tokens(clip.tokens)
        mask = clip.frame_mask.to(self.device)
        instructions = [self.tokenizer.instruction(text) for text in clip.instructions]
        plan = plan_rows(
            instructions,
            clip.num_frames,
            [{f: self.tokenizer.notice(t) for f, t in n.items()} for n in clip.notices],
            self.config.qformer.num_queries,
            self.config.history,
        )
        repeats = torch.tensor(clip.num_frames, device=self.device)
        read_of = self.frame_reader.read_instructions(*pad_ids(instructions, self.device))
        frames = self._read_frames(clip.tokens.to(self.device)[mask], read_of.repeat(repeats))
        source = torch.cat([self.embed(plan.text_ids), frames.flatten(0, 1)])
        # Padding stands to the right of all that is answered: any token will do for it.
        rows, _ = pad_ids(plan.sources, self.device)
        positions = torch.arange(rows.shape[1], device=self.device).expand(rows.shape)
        hidden = read(self.llm, nn.functional.embedding(rows, source), positions)
        answers = hidden[list(plan.answer_rows), list(plan.answer_columns)]
        waypoints_m, logits = self.heads(answers)
        return AdLlmOutput(
            waypoints_m=_scatter(waypoints_m, mask),
            completed_logits=_scatter(logits, mask),
            read=frames,
        )

    def start(self, instructions: list[str]) -> list[History]:
        """Begin to drive: one empty history per instruction.

        Raises:
            ValueError: if an instruction cannot be read.
        """
        return [History(self, i, self.tokenizer.instruction(i)) for i in instructions]

    @torch.inference_mode()
    def step(
        self, histories: Sequence[History], tokens: Tensor, notices: Sequence[str | None]
    ) -> StepOutput:
        """Append one frame to each history; only what is new is computed.

        Nothing is appended where this raises.

        Args:
            histories: of different vehicles, of any lengths.
            tokens: ``[B, K, D]``.
            notices: each follows its vehicle's frame, so later frames see it.

        Raises:
            ValueError: if the parts do not go together, a number is not finite, a notice cannot be
                read, or the model is in training mode, where its answers are noisy.
        """
        if self.training:
            raise ValueError("the model is in training mode; call eval() before driving")
        self._check_tokens(tokens)
        if not len(histories) == len(tokens) == len(notices) > 0:
            raise ValueError(
                f"{len(histories)} histories, tokens of {len(tokens)} vehicles and {len(notices)} "
                "notices; expected the same number of each, at least one"
            )
        if not torch.isfinite(tokens).all():
            bad = (~torch.isfinite(tokens).flatten(1).all(dim=1)).nonzero().flatten().tolist()
            raise ValueError(f"tokens of vehicles {bad} of the batch are not finite")
        if len({id(h) for h in histories}) != len(histories):
            raise ValueError("a history stands twice in the batch; a frame is appended once")
        if any(h.model is not self for h in histories):
            raise ValueError("a history was started by another model; start a new one")
        after = [self.embed(self.tokenizer.notice(n)) if n is not None else None for n in notices]
        frames = self._read_frames(
            tokens.to(self.device), as_batch([h.read_instruction() for h in histories])
        )
        waypoints_m, logits = self.heads(advance(self, histories, frames, after))
        return StepOutput(waypoints_m=waypoints_m, completed=logits.softmax(dim=-1)[:, 1])

    @torch.inference_mode()
    def read_ahead(self, histories: Sequence[History], max_frames: int) -> int:
        """Use an idle moment: read what will stay of histories that are about to drop frames.

        Answers are the same with it and without; the one after the drop comes sooner with it.

        Args:
            histories: of this model.
            max_frames: that may be read now.

        Returns:
            Frames that were read; 0 if there is nothing to do.
        """
        return read_ahead(self, histories, max_frames)

    def embed(self, ids: Sequence[int]) -> Tensor:
        """``[n, H]``: text in the language model's own embeddings."""
        table = self.llm.get_input_embeddings()
        embedded: Tensor = table(torch.tensor(ids, dtype=torch.long, device=self.device))
        return embedded

    def _read_frames(self, tokens: Tensor, instructions: Instructions) -> Tensor:
        """``[N, Q, H]``: frames ``[N, K, D]``, each with its instruction in mind."""
        frames: Tensor = self.frame_reader(tokens, instructions)
        return frames.to(self.llm.dtype)

    def heads(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """``[N, H]`` to waypoints ``[N, P, 2]`` and logits ``[N, 2]``."""
        hidden = hidden.float()
        return self.waypoint_head(hidden).unflatten(-1, (-1, 2)), self.completed_head(hidden)

    def _check_tokens(self, tokens: Tensor) -> None:
        wanted = (self.config.num_tokens, self.config.token_dim)
        if tuple(tokens.shape[-2:]) != wanted or tokens.dtype != torch.float32:
            raise ValueError(
                f"scene tokens are {tokens.dtype} {list(tokens.shape)}; expected torch.float32 "
                f"[..., {wanted[0]}, {wanted[1]}], as encoder {self.config.encoder} gives them"
            )


def build_adllm(
    config: AdLlmConfig,
    tokenizer: TextTokenizer,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
) -> AdLlm:
    """Make a model on the CPU, in training mode.

    Args:
        config: sizes.
        tokenizer: with a checkpoint, the checkpoint's (``tokenizer_of_checkpoint``).
        seed: of every weight that does not come from the checkpoint.
        checkpoint: a local folder of a Llama of these sizes; nothing is ever downloaded.

    Raises:
        ValueError: if the checkpoint is none, or of other sizes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        llm = llama_from_checkpoint(config, checkpoint) if checkpoint else new_llama(config)
        return AdLlm(config, tokenizer, llm).train()


def _head(hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, out))


def _scatter(values: Tensor, mask: Tensor) -> Tensor:
    """``[N, ...]`` to where ``mask`` ``[B, F]`` is True."""
    out = values.new_zeros(*mask.shape, *values.shape[1:])
    return out.masked_scatter(mask.view(*mask.shape, *[1] * (values.dim() - 1)), values)
