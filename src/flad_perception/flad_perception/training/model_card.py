# SPDX-License-Identifier: Apache-2.0
"""The model card: what was trained on what, by which command, and how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_ROWS = (
    ("frames", "frames", "{:.0f}"),
    ("frames with a relevant light within 30 m", "light_frames", "{:.0f}"),
    ("traffic light, balanced accuracy", "light_balanced_accuracy", "{:.3f}"),
    ("- red found", "light_red_recall", "{:.3f}"),
    ("- free found", "light_green_recall", "{:.3f}"),
    ("- always green", "light_balanced_accuracy_always_green", "{:.3f}"),
    ("- moving means green", "light_balanced_accuracy_moving_is_green", "{:.3f}"),
    ("waypoint L1 at 0.5 s [m]", "waypoint_l1_m_at_0.5s", "{:.3f}"),
    ("waypoint L1 at 1.0 s [m]", "waypoint_l1_m_at_1.0s", "{:.3f}"),
    ("- constant velocity", "waypoint_l1_m_at_1.0s_constant_velocity", "{:.3f}"),
    ("waypoint L1 at 1.5 s [m]", "waypoint_l1_m_at_1.5s", "{:.3f}"),
    ("waypoint L1 at 2.0 s [m]", "waypoint_l1_m_at_2.0s", "{:.3f}"),
    ("waypoint L1 at 2.5 s [m]", "waypoint_l1_m_at_2.5s", "{:.3f}"),
    ("- constant velocity", "waypoint_l1_m_at_2.5s_constant_velocity", "{:.3f}"),
    ("road at 2 m, error across [m]", "path_across_m_at_2m", "{:.3f}"),
    ("- straight on", "path_across_m_at_2m_straight", "{:.3f}"),
    ("- variance explained, no turn near", "path_explained_at_2m", "{:.2f}"),
    ("road at 6 m, error across [m]", "path_across_m_at_6m", "{:.3f}"),
    ("- straight on", "path_across_m_at_6m_straight", "{:.3f}"),
    ("- variance explained, no turn near", "path_explained_at_6m", "{:.2f}"),
    ("road at 12 m, error across [m]", "path_across_m_at_12m", "{:.3f}"),
    ("- straight on", "path_across_m_at_12m_straight", "{:.3f}"),
    ("- variance explained, no turn near", "path_explained_at_12m", "{:.2f}"),
    ("road at 20 m, error across [m]", "path_across_m_at_20m", "{:.3f}"),
    ("- straight on", "path_across_m_at_20m_straight", "{:.3f}"),
    ("- variance explained, no turn near", "path_explained_at_20m", "{:.2f}"),
    ("vehicles with a LiDAR point", "vehicles", "{:.0f}"),
    ("vehicle AP at 2 m", "vehicle_ap_2m", "{:.3f}"),
    ("vehicle AP at 2 m, unseen vehicles too", "vehicle_ap_2m_all", "{:.3f}"),
    ("stop sign, balanced accuracy", "stop_balanced_accuracy", "{:.3f}"),
)

Towns = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What the card tells."""

    name: str
    model_hash: str
    num_parameters: int
    command: str
    seed: int
    machine: str
    reached: str
    """Steps, epochs, minutes, frames a second."""
    data: Mapping[str, Any]
    """:meth:`flad_perception.training.frames.Frames.summary`"""
    figures: Mapping[str, Towns]
    """By what was held out."""
    curves_file: str


def model_card(facts: CardFacts) -> str:
    """The card as Markdown."""
    lines = [
        f"# Vision encoder `{facts.name}`",
        "",
        f"- model hash: `{facts.model_hash}`, {facts.num_parameters:,} parameters",
        f"- trained by: `{facts.command}`",
        f"- seed: {facts.seed}",
        f"- machine: {facts.machine}",
        f"- reached: {facts.reached}",
        "- settings: `config.yaml` beside the results (encoder and training)",
        "",
        "## Data",
        "",
        *(f"- {name.replace('_', ' ')}: {_said(value)}" for name, value in facts.data.items()),
        "",
        "Held-out towns and weathers were never trained on; the held-out towns were looked at",
        "once, after training.",
        "",
        "## Figures",
    ]
    for what, towns in facts.figures.items():
        lines += ["", f"### {what}", "", *_table(towns)]
    lines += [
        "",
        "Lines that begin with - and name no share of classes are baselines on the same frames.",
        "Waypoint L1 is the mean of |dx| + |dy|. AP matches centres within 2 m and counts vehicles",
        "on the detection grid.",
        "",
        "## Curves",
        "",
        f"![loss and validation figures over the run]({facts.curves_file})",
        "",
        "## Meant for",
        "",
        "Driving in the project's own simulated towns, and as a start for federated training. It",
        "has seen rendered pictures only: it is not fit for a real road.",
    ]
    return "\n".join(lines) + "\n"


def _table(towns: Towns) -> list[str]:
    if not towns:
        return ["No frames."]
    names = list(towns)
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for text, key, form in _ROWS:
        if any(key in towns[name] for name in names):
            cells = [_cell(towns[name].get(key), form) for name in names]
            lines.append(f"| {text} | {' | '.join(cells)} |")
    return lines


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None or value != value else form.format(value)


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value) or "none"
    return str(value)
