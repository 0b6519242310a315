# SPDX-License-Identifier: Apache-2.0
"""Lines over the steps of a run as one picture, without a plotting library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

_PANEL_PX = (420, 260)
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 26, 26
_COLOURS = ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189))
_GRID_LINES = 4

Line = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One set of axes."""

    title: str
    lines: Mapping[str, Line]
    """``(step, value)`` pairs by name; what is not a number is left out."""


def draw_curves(path: Path, panels: Sequence[Panel]) -> None:
    """Write ``panels``, two a row, as a PNG."""
    width, height = _PANEL_PX
    rows = -(-len(panels) // 2)
    picture = Image.new("RGB", (2 * width, max(1, rows) * height), "white")
    for number, panel in enumerate(panels):
        picture.paste(_drawn(panel), (number % 2 * width, number // 2 * height))
    picture.save(path, optimize=True)


def smoothed(line: Line, num_points: int = 200) -> list[tuple[float, float]]:
    """Means of neighbours, so that at most ``num_points`` are left."""
    size = max(1, -(-len(line) // num_points))
    parts = [line[i : i + size] for i in range(0, len(line), size)]
    return [
        (sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts
    ]


def _drawn(panel: Panel) -> Image.Image:
    picture = Image.new("RGB", _PANEL_PX, "white")
    draw = ImageDraw.Draw(picture)
    draw.text((_LEFT, 6), panel.title, fill="black")
    lines = {n: [(x, y) for x, y in line if y == y] for n, line in panel.lines.items()}
    points = [point for line in lines.values() for point in line]
    if not points:
        draw.text((_LEFT + 10, _PANEL_PX[1] // 2), "nothing measured", fill="grey")
        return picture
    x_low, x_high = _range([x for x, _ in points])
    y_low, y_high = _range([y for _, y in points])
    x0, x1, y0, y1 = _LEFT, _PANEL_PX[0] - _RIGHT, _PANEL_PX[1] - _BOTTOM, _TOP

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            x0 + (x1 - x0) * (x - x_low) / (x_high - x_low),
            y0 + (y1 - y0) * (y - y_low) / (y_high - y_low),
        )

    for i in range(_GRID_LINES + 1):
        y = y_low + (y_high - y_low) * i / _GRID_LINES
        draw.line([place(x_low, y), place(x_high, y)], fill=(225, 225, 225))
        draw.text((4, place(x_low, y)[1] - 6), f"{y:.3g}", fill="black")
    draw.text((x0, y0 + 8), f"step {x_low:.0f}", fill="black")
    draw.text((x1 - 60, y0 + 8), f"{x_high:.0f}", fill="black")
    for number, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        draw.line([place(x, y) for x, y in line], fill=colour, width=2)
        draw.text((x1 - 130, _TOP + 2 + 12 * number), name, fill=colour)
    return picture


def _range(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
