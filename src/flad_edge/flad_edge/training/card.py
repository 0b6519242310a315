# SPDX-License-Identifier: Apache-2.0
"""The model card of an AD-LLM or ADM: what was trained on what, and how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_HORIZONS = ("0.5", "1.0", "1.5", "2.0", "2.5")
_ROWS = (
    ("frames", "frames", "{:.0f}"),
    *(
        row
        for t in _HORIZONS
        for row in (
            (f"waypoint L1 at {t} s [m]", f"waypoint_l1_m_at_{t}s", "{:.2f}"),
            ("- constant velocity", f"waypoint_l1_m_at_{t}s_constant_velocity", "{:.2f}"),
        )
    ),
    ("wanted speed, mean error [m/s]", "wanted_speed_error_mps", "{:.2f}"),
    ("aim while moving, mean error [deg]", "aim_error_deg", "{:.2f}"),
    ("starts when it shall", "starts_when_it_shall", "{:.1%}"),
    ("stands when it shall", "stands_when_it_shall", "{:.1%}"),
    ("turns to the right side", "turns_to_the_right_side", "{:.1%}"),
    ("completed: accuracy", "completed_accuracy", "{:.1%}"),
    ("completed: ends found", "completed_recall", "{:.1%}"),
    ("completed: others left alone", "completed_specificity", "{:.1%}"),
    ("goes the recorded way, told truly", "goes_the_recorded_way_told_truly", "{:.1%}"),
    (
        "goes the recorded way, told the opposite",
        "goes_the_recorded_way_told_the_opposite",
        "{:.1%}",
    ),
)

Parts = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What the card tells."""

    what: str
    """AD-LLM, or ADM."""
    name: str
    model_hash: str
    num_parameters: int
    command: str
    seed: int
    machine: str
    reached: str
    teacher: str
    """Its hash; empty without one."""
    data: Mapping[str, Any]
    figures: Mapping[str, Parts]
    """By what was held out."""


def model_card(facts: CardFacts) -> str:
    """The card as Markdown."""
    lines = [
        f"# {facts.what} `{facts.name}`",
        "",
        f"- model hash: `{facts.model_hash}`, {facts.num_parameters:,} parameters",
        f"- trained by: `{facts.command}`",
        *([f"- teacher: `{facts.teacher}`"] if facts.teacher else []),
        f"- seed: {facts.seed}",
        f"- machine: {facts.machine}",
        f"- reached: {facts.reached}",
        "- settings: `config.yaml` beside the results (model and training)",
        "",
        "## Data",
        "",
        *(f"- {name.replace('_', ' ')}: {_said(value)}" for name, value in facts.data.items()),
        "",
        "Labels are the expert's plans. Held-out towns and weathers were never trained on; the",
        "held-out towns were looked at once, after training.",
        "",
        "## Figures",
    ]
    for what, parts in facts.figures.items():
        lines += ["", f"### {what}", "", *_table(parts)]
    lines += [
        "",
        "L1 is the mean of |dx| + |dy|. `told in other words`: phrasings that training never saw.",
        "`blind`: the same model, every token zero. `words exchanged`: left for right in the",
        "instruction, on frames that end more than 2 m to a side. Whole clips, the driving",
        "history rule.",
        "",
        "## Curves",
        "",
        "![loss and validation figures over the run](curves.png)",
        "",
        "## Meant for",
        "",
        "Driving in the project's own simulated towns behind the encoder named above. It has seen",
        "rendered towns and the sentences of one bank only: it is not fit for a real road.",
    ]
    return "\n".join(lines) + "\n"


def _table(parts: Parts) -> list[str]:
    if not parts:
        return ["No frames."]
    names = list(parts)
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for text, key, form in _ROWS:
        if any(key in parts[name] for name in names):
            cells = [_cell(parts[name].get(key), form) for name in names]
            lines.append(f"| {text} | {' | '.join(cells)} |")
    return lines


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None or value != value else form.format(value)


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return "; ".join(str(item) for item in value) or "none"
    return str(value)
