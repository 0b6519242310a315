# SPDX-License-Identifier: Apache-2.0
"""A line plot as SVG text: what a benchmark's figure needs and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 560, 340, 64, 46, 34, 150
_COLORS = ("#c0392b", "#2471a3", "#1e8449", "#b7950b", "#6c3483")
_TICKS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class LinePlot:
    """Lines of points; a log axis takes positive numbers only."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    log_x: bool = False
    log_y: bool = False
    y_from_zero: bool = True

    def __post_init__(self) -> None:
        if not any(self.lines.values()):
            raise ValueError(f"{self.title!r} has no point to draw")

    def save(self, path: Path) -> None:
        """Write the picture."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.svg(), encoding="utf-8")

    def svg(self) -> str:
        """The picture."""
        points = [p for line in self.lines.values() for p in line]
        x_axis = _Axis([p[0] for p in points], self.log_x, _LEFT, _WIDTH - _RIGHT)
        heights = [p[1] for p in points]
        y_axis = _Axis(heights, self.log_y, _HEIGHT - _BOTTOM, _TOP, from_zero=self.y_from_zero)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            'font-family="sans-serif" font-size="11">',
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
            _text(_LEFT, 18, self.title, size=13),
            _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, self.x, anchor="middle"),
            _text(8, _TOP - 4, self.y),
        ]
        for value in x_axis.ticks():
            x = x_axis.place(value)
            parts.append(_line(x, _TOP, x, _HEIGHT - _BOTTOM))
            parts.append(_text(x, _HEIGHT - _BOTTOM + 15, f"{value:.3g}", anchor="middle"))
        for value in y_axis.ticks():
            y = y_axis.place(value)
            parts.append(_line(_LEFT, y, _WIDTH - _RIGHT, y))
            parts.append(_text(_LEFT - 6, y + 4, f"{value:.3g}", anchor="end"))
        for number, (name, line) in enumerate(self.lines.items()):
            color = _COLORS[number % len(_COLORS)]
            places = [(x_axis.place(x), y_axis.place(y)) for x, y in line]
            way = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            parts.append(f'<polyline points="{way}" fill="none" stroke="{color}"/>')
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in places
            ]
            parts.append(_text(_WIDTH - _RIGHT + 10, _TOP + 16 * (number + 1), name, fill=color))
        return "\n".join([*parts, "</svg>", ""])


class _Axis:
    def __init__(
        self,
        values: Sequence[float],
        log: bool,
        begin: float,
        end: float,
        *,
        from_zero: bool = True,
    ) -> None:
        self._log, self._begin, self._end = log, begin, end
        low, high = min(values), max(values)
        if log and low <= 0.0:
            raise ValueError(f"a log axis takes positive numbers only, got {low}")
        self._low = math.log10(low) if log else min(0.0, low) if from_zero else low
        self._high = math.log10(high) if log else high
        if self._high <= self._low:
            self._high = self._low + 1.0

    def place(self, value: float) -> float:
        at = math.log10(value) if self._log else value
        share = (at - self._low) / (self._high - self._low)
        return self._begin + share * (self._end - self._begin)

    def ticks(self) -> list[float]:
        steps = [self._low + i * (self._high - self._low) / _TICKS for i in range(_TICKS + 1)]
        return [10.0**s for s in steps] if self._log else steps


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#dddddd"/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 11, fill: str = "black"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="{fill}">{escape(text)}</text>'
    )
