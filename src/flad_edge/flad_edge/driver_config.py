# SPDX-License-Identifier: Apache-2.0
"""The parameters of the ``driver`` node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flad_common.config import knob, section
from flad_edge.driver import DriverConfig
from flad_planner.language.operator_text import TextLimits


@dataclass(frozen=True, kw_only=True)
class DriverNodeConfig:
    """How the node works in time and which ADM is on board; the rules are below ``driver``."""

    mode: Literal["lockstep", "realtime"] = knob(
        "realtime",
        unit="",
        doc="lockstep: an edge that is there is waited for; realtime: nothing is.",
    )
    adm: str = knob("", unit="", doc="Weights of the ADM, a .safetensors file; empty: none.")
    adm_encoder_hash: str = knob(
        "", unit="", doc="Of the encoder whose tokens the ADM was trained on; needed with adm."
    )
    num_threads: int = knob(1, unit="1", doc="That PyTorch computes with for the ADM; 0: its own.")
    lockstep_deadline_s: float = knob(
        30.0, unit="s", doc="In lockstep, wall time after which an edge that is there is given up."
    )
    driver: DriverConfig = section(DriverConfig, doc="Who drives when.")
    text: TextLimits = section(TextLimits, doc="What may be typed as an instruction or a notice.")

    def __post_init__(self) -> None:
        if self.num_threads < 0:
            raise ValueError(f"num_threads must not be negative, got {self.num_threads}")
        if not self.lockstep_deadline_s > 0.0:
            raise ValueError(
                f"lockstep_deadline_s must be positive, got {self.lockstep_deadline_s}"
            )
        if self.adm and not self.adm_encoder_hash:
            raise ValueError("adm needs adm_encoder_hash: a model drives by one encoder's tokens")
