# SPDX-License-Identifier: Apache-2.0
"""What a round is asked for, how it goes, how it ended: values of :mod:`.conductor`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flad_common.config import knob, section
from flad_pipeline.aggregation.norms import GateConfig
from flad_pipeline.aggregation.strategy import StrategyConfig


@dataclass(frozen=True, kw_only=True)
class ConductorConfig:
    """How rounds go."""

    cut_every: int = knob(
        5, unit="steps", doc="Between common cuts; at most twice as much work is lost."
    )
    rotation_cuts: int = knob(2, unit="cuts", doc="A pipeline's turn has so many.")
    deadline_s: float = knob(600.0, unit="s", doc="After it a round goes on without who is late.")
    silent_after_s: float = knob(
        5.0, unit="s", doc="A vehicle that says nothing for so long is lost."
    )
    hang_after_s: float = knob(
        60.0, unit="s", doc="So is one that finishes nothing for so long; longer than a step."
    )
    repeat_s: float = knob(0.5, unit="s", doc="An order that nobody follows is said again.")
    patience_s: float = knob(
        30.0, unit="s", doc="A cluster that is left too small waits so long for somebody to come."
    )
    most_recoveries: int = knob(20, unit="1", doc="Of a client in a round; then it is given up.")
    strategy: StrategyConfig = section(StrategyConfig, doc="How updates become a model.")
    gate: GateConfig = section(GateConfig, doc="How far an update may go.")

    def __post_init__(self) -> None:
        for name in ("cut_every", "rotation_cuts", "most_recoveries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.patience_s < 0.0:
            raise ValueError(f"patience_s must not be negative, got {self.patience_s}")
        for name in ("deadline_s", "silent_after_s", "hang_after_s", "repeat_s"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    @property
    def rotation_period(self) -> int:
        """Steps of a turn."""
        return self.cut_every * self.rotation_cuts


@dataclass(frozen=True, kw_only=True)
class RoundGoal:
    """What is asked for; zeros leave it to the edge."""

    round: int = 0
    vehicles: tuple[str, ...] = ()
    steps: int = 0
    deadline_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RoundOutcome:
    """How a round ended."""

    completed: bool
    round: int
    model_hash: str
    model_file: Path
    clients: tuple[str, ...]
    num_samples: int
    text: str
    report: Mapping[str, Any]

    @classmethod
    def of(cls, report: Mapping[str, Any], model_file: Path) -> RoundOutcome:
        """What a round's report says, which also stands in the journal."""
        return cls(
            completed=report["model_hash"] != report["start_hash"],
            round=report["round"],
            model_hash=report["model_hash"],
            model_file=model_file,
            clients=tuple(report["counted"]),
            num_samples=sum(report["counted"].values()),
            text=report["text"],
            report=report,
        )


def model_name(round_number: int) -> str:
    """Of a round's model in the journal; 0: what training began with."""
    return f"model_{round_number:04d}"
