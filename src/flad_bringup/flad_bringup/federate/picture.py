# SPDX-License-Identifier: Apache-2.0
"""A federation as a picture (SVG): who trained which stage when, what was lost, and the loss.

Colours are those of the driving report's page (``flad_carla/report/web/style.css``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from flad_bringup.federate.story import Story, Upset, Worked

_WIDTH, _LEFT, _RIGHT = 1160, 96, 16
_ROW, _BAR, _TOP = 34, 22, 26
_LOSS, _GAP, _BOTTOM = 150, 36, 26
_STAGES = ("var(--accent)", "var(--good)", "var(--seen)", "var(--walker)", "var(--bike)")
_TICKS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
_MOST_TICKS = 12
_MEAN_OF = 9  # steps


def picture(story: Story) -> str:
    """The whole, as one SVG element."""
    return "\n".join(_Picture(story).parts())


def stage_color(stage: int) -> str:
    """Of a stage's blocks."""
    return "var(--off)" if stage < 0 else _STAGES[stage % len(_STAGES)]


class _Picture:
    def __init__(self, story: Story) -> None:
        self._story = story
        self._names = list(story.vehicles)
        times = [s.ended_s for s in story.steps] + [u.at_s for u in story.upsets]
        self._first, self._last = story.first_s, max(times, default=1.0)
        self._rows_end = _TOP + _ROW * len(self._names)
        self._height = self._rows_end + _GAP + _LOSS + _BOTTOM

    def parts(self) -> Iterator[str]:
        label = "Steps of every vehicle by stage, what was lost, and the loss, over time"
        yield f'<svg viewBox="0 0 {_WIDTH} {self._height}" role="img" aria-label="{label}">'
        yield from self._axis()
        yield from self._rows()
        yield from self._losses()
        for upset in self._story.upsets:
            yield from self._upset(upset)
        yield "</svg>"

    def _x(self, at_s: float) -> float:
        share = (at_s - self._first) / max(1e-9, self._last - self._first)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def _axis(self) -> Iterator[str]:
        span = self._last - self._first
        every = next((t for t in _TICKS if span / t <= _MOST_TICKS), _TICKS[-1])
        for number in range(int(span / every) + 1):
            x = self._x(self._first + number * every)
            yield _line(x, _TOP, x, self._height - _BOTTOM, "var(--line)")
            yield _text(x, self._height - 8, f"{number * every} s", "middle")

    def _rows(self) -> Iterator[str]:
        for row, name in enumerate(self._names):
            y = _TOP + _ROW * row + (_ROW - _BAR) / 2
            yield _text(_LEFT - 10, y + _BAR * 0.7, name, "end")
            for step in self._story.steps:
                if step.vehicle == name:
                    yield self._block(step, y)

    def _block(self, step: Worked, y: float) -> str:
        x, end = self._x(step.began_s), self._x(step.ended_s)
        words = f"{step.vehicle}: round {step.round}, step {step.step}, stage {step.stage + 1}"
        if step.loss is not None:
            words += f", own data, loss {step.loss:.3f}"
        return (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.8, end - x - 0.6):.1f}" '
            f'height="{_BAR}" rx="1.5" fill="{stage_color(step.stage)}">'
            f"<title>{escape(words)}</title></rect>"
        )

    def _losses(self) -> Iterator[str]:
        known = [s for s in self._story.steps if s.loss is not None]
        if not known:
            return
        top, bottom = self._rows_end + _GAP, self._rows_end + _GAP + _LOSS
        most = max(s.loss or 0.0 for s in known)

        def y(loss: float) -> float:
            return bottom - (bottom - top) * loss / max(1e-9, most)

        yield _text(_LEFT - 10, top - 10, "loss", "end")
        for share in (0.0, 0.5, 1.0):
            yield _line(_LEFT, y(share * most), _WIDTH - _RIGHT, y(share * most), "var(--line)")
            yield _text(_LEFT - 10, y(share * most) + 4, f"{share * most:.2f}", "end")
        for step in known:
            yield (
                f'<circle cx="{self._x(step.ended_s):.1f}" cy="{y(step.loss or 0.0):.1f}" r="2.2" '
                f'fill="var(--soft)" opacity="0.55"><title>{escape(step.vehicle)}: '
                f"{step.loss:.3f}</title></circle>"
            )
        for number in sorted({s.round for s in known}):
            mean = _running_mean([s for s in known if s.round == number])
            way = " ".join(f"{self._x(t):.1f},{y(loss):.1f}" for t, loss in mean)
            yield (
                f'<polyline points="{way}" fill="none" stroke="var(--accent)" stroke-width="2"/>'
            )

    def _upset(self, upset: Upset) -> Iterator[str]:
        x = self._x(upset.at_s)
        if upset.again_s is not None:
            width = max(1.0, self._x(upset.again_s) - x)
            yield (
                f'<rect x="{x:.1f}" y="{_TOP}" width="{width:.1f}" '
                f'height="{self._rows_end - _TOP}" fill="var(--bad)" opacity="0.18"/>'
            )
        yield _line(x, _TOP - 6, x, self._rows_end, "var(--bad)", width=2)
        words = f"{upset.kind} {upset.who}"
        if upset.again_s is not None:
            words += f": {upset.again_s - upset.at_s:.1f} s to the next step"
        side = "end" if x > 0.7 * _WIDTH else "start"
        yield _text(x, _TOP - 11, words, side, color="var(--bad)")


def _running_mean(steps: Sequence[Worked]) -> list[tuple[float, float]]:
    losses = [step.loss or 0.0 for step in steps]
    means = []
    for i, step in enumerate(steps):
        near = losses[max(0, i - _MEAN_OF // 2) : i + _MEAN_OF // 2 + 1]
        means.append((step.ended_s, sum(near) / len(near)))
    return means


def _line(x1: float, y1: float, x2: float, y2: float, color: str, *, width: float = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" '
        f'stroke-width="{width}"/>'
    )


def _text(x: float, y: float, text: str, anchor: str, *, color: str = "") -> str:
    fill = f' style="fill:{color}"' if color else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{fill}>{escape(text)}</text>'
