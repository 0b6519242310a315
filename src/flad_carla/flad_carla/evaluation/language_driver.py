# SPDX-License-Identifier: Apache-2.0
"""A drive on a language model: which models, which words, and when its edge is taken away."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flad_planner.language.bank import Split
from flad_planner.language.operator_text import TextLimits, accepted_text

LANGUAGE_DRIVERS = ("adllm", "adm", "blind")
FRAME_PERIOD_S = 0.2
SPLITS = {"trained": Split.TRAINING, "held_out": Split.HELD_OUT}


@dataclass(frozen=True, kw_only=True)
class EdgeLossWindow:
    """When the edge's process is killed and when another is started, on every route."""

    lost_s: float
    back_s: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.lost_s < self.back_s:
            raise ValueError(
                f"the edge must be lost before it is back, got {self.lost_s:g}:{self.back_s:g} s"
            )

    @classmethod
    def parse(cls, text: str) -> EdgeLossWindow:
        """``T0:T1`` in seconds of simulated time since the route's start.

        Raises:
            ValueError: if it is none.
        """
        lost, colon, back = text.partition(":")
        try:
            return cls(lost_s=float(lost), back_s=float(back) if colon else float("inf"))
        except ValueError as error:
            raise ValueError(
                f"--edge-loss is {text!r}, expected T0:T1 with 0 <= T0 < T1 in seconds ({error})"
            ) from error


@dataclass(frozen=True, kw_only=True)
class LanguageDriver:
    """Who drives by words, and what is said."""

    who: Literal["adllm", "adm", "blind"]
    encoder_hash: str
    """Of the encoder on the vehicle; the models must have been trained on its tokens."""
    adllm: Path | None = None
    adm: Path | None = None
    phrasings: Literal["trained", "held_out"] = "trained"
    notice: bool = False
    instruction: str = ""
    """An operator's, all the way, in place of the route's; empty: none."""
    wrong_turns: bool = False
    """At every junction, tell another way than the route's, where there is one."""
    edge_loss: EdgeLossWindow | None = None

    def __post_init__(self) -> None:
        for name in ("adllm", "adm"):
            path = getattr(self, name)
            if path is not None and not path.is_file():
                raise ValueError(f"--{name} {path} is no file; expected weights (.safetensors)")
        if self.uses_edge and self.adllm is None:
            raise ValueError(f"--driver {self.who} needs --adllm FILE: weights for the edge")
        if self.who == "adm" and self.adm is None:
            raise ValueError("--driver adm needs --adm FILE: weights for the vehicle")
        if self.edge_loss is not None and not self.uses_edge:
            raise ValueError("--edge-loss needs a driver on an edge: --driver adllm")
        if self.wrong_turns and self.instruction:
            raise ValueError(
                "--wrong-turns changes the route's own words, but --instruction replaces them; "
                "give one of both"
            )
        if self.instruction:
            object.__setattr__(self, "instruction", accepted_text(self.instruction, TextLimits()))

    @property
    def uses_edge(self) -> bool:
        """Whether an edge drives."""
        return self.who != "adm"
