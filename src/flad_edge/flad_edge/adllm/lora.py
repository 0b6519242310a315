# SPDX-License-Identifier: Apache-2.0
"""LoRA on the language model (Hu et al. 2021), by ``peft``: W x + (alpha / r) B A x.

LMDrive's setting: rank 16, alpha 32, dropout 0.05, on the projections of queries and values.
"""

from __future__ import annotations

from dataclasses import dataclass

import flad_perception.torchvision_ops  # noqa: F401  before transformers, which peft imports
from flad_common.config import knob
from flad_edge.adllm.model import AdLlm

# isort: split
from peft import LoraConfig, PeftModel, get_peft_model


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Size of the adapters."""

    rank: int = knob(16, unit="1", doc="Of the change to a matrix.")
    alpha: float = knob(32.0, unit="1", doc="The change is scaled by alpha / rank.")
    dropout: float = knob(0.05, unit="1", doc="Of the adapters' input, while training.")

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0.0 or not 0.0 <= self.dropout < 1.0:
            raise ValueError(
                f"rank must be at least 1, alpha positive and dropout in [0, 1), got {self.rank}, "
                f"{self.alpha} and {self.dropout}"
            )


def add_adapters(model: AdLlm, config: AdapterConfig) -> None:
    """Put adapters into the model's language model; of the whole model only they train then.

    The model answers as before until they have been trained: B begins as zeros.

    Raises:
        ValueError: if it has adapters already.
    """
    if isinstance(model.llm, PeftModel):
        raise ValueError("the model has adapters already; merge them first")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.llm = get_peft_model(
        model.llm,
        LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules=["q_proj", "v_proj"],
            bias="none",
        ),
    )


def merge_adapters(model: AdLlm) -> None:
    """Add the adapters into the weights they sit on, and take them out; all weights train again.

    Histories that were started before hold keys and values of the weights without: start new ones.

    Raises:
        ValueError: if the model has no adapters.
    """
    if not isinstance(model.llm, PeftModel):
        raise ValueError("the model has no adapters to merge")
    model.llm = model.llm.merge_and_unload()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
