# SPDX-License-Identifier: Apache-2.0
"""Who is where and trains with whom as a picture (SVG): coverage, clusters, pipelines; for reports.

Of a plan, or of what a federation really did (``flad_bringup.federate.page``). The same as markers
for rviz: :mod:`flad_edge.ros.planning_messages`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from flad_edge.mobility.traces import Coverage
from flad_edge.swift.fleet import FleetPlan, Member

_COLORS = ("#d1495b", "#2e86ab", "#3a9d5d", "#d9a404", "#8e5bb5", "#c46b2d", "#3f7f7f")
_ALONE, _LEFT_OVER = "#222222", "#b0b0b0"
_SIZE, _EDGE, _LINE = 640, 24, 15


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """A cluster with the pipeline that is drawn through it."""

    order: tuple[str, ...]
    """Its vehicles by stage; empty: none is drawn."""
    members: tuple[str, ...]
    words: str
    """For the legend; empty: it has no line there."""


def fleet_svg(plan: FleetPlan, members: Sequence[Member], coverage: Coverage) -> str:
    """A self-contained SVG; north (y) is up.

    Args:
        plan: of these vehicles.
        members: where they are; one without a place in the plan is grey, as who is left over.
        coverage: of the edge.
    """
    clusters = []
    for cluster in plan.clusters:
        best = cluster.plan.best
        there = best is not None and best.pipeline is not None
        order = (
            tuple(cluster.members[v] for v in best.pipeline.order)
            if best is not None and best.pipeline is not None
            else ()
        )
        words = f"{len(order)} vehicles, step {best.cost_s:.1f} s" if there and best else ""
        clusters.append(Drawn(order=order, members=cluster.members, words=words))
    return map_svg(clusters, plan.alone, {m.name: (m.x_m, m.y_m) for m in members}, coverage)


def map_svg(
    clusters: Sequence[Drawn],
    alone: Collection[str],
    place_m: Mapping[str, tuple[float, float]],
    coverage: Coverage,
) -> str:
    """The same of clusters that are given; who is in none and not alone is grey."""
    scale = (_SIZE - 2 * _EDGE) / (2.0 * coverage.radius_m)
    place = {
        name: (
            _SIZE / 2 + scale * (x_m - coverage.x_m),
            _SIZE / 2 - scale * (y_m - coverage.y_m),
        )
        for name, (x_m, y_m) in place_m.items()
    }
    color = dict.fromkeys(alone, _ALONE)
    shapes, legend = [], []
    for number, cluster in enumerate(clusters):
        color |= dict.fromkeys(cluster.members, (tint := _COLORS[number % len(_COLORS)]))
        if not cluster.order:
            continue
        way = " ".join(
            f"{x:.1f},{y:.1f}" for x, y in (place[n] for n in cluster.order if n in place)
        )
        shapes.append(
            f'<polyline points="{way}" fill="none" stroke="{tint}" stroke-width="2" opacity="0.7"/>'
        )
        for stage, name in enumerate(cluster.order):
            if name in place:
                x, y = place[name]
                shapes.append(f'<text x="{x + 7:.1f}" y="{y - 5:.1f}">{stage}</text>')
        legend.append((tint, cluster.words))
    for name, (x, y) in sorted(place.items()):
        shapes.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{color.get(name, _LEFT_OVER)}">'
            f"<title>{escape(name)}</title></circle>"
        )
    legend += [
        (_ALONE, f"{len(alone)} train alone"),
        (_LEFT_OVER, f"{len(set(place) - set(color))} take no part"),
    ]
    for row, (tint, text) in enumerate(legend):
        y = _LINE * (row + 1)
        shapes.append(f'<rect x="8" y="{y - 9}" width="10" height="10" fill="{tint}"/>')
        shapes.append(f'<text x="22" y="{y}">{escape(text)}</text>')
    circle = (
        f'<circle cx="{_SIZE / 2}" cy="{_SIZE / 2}" r="{_SIZE / 2 - _EDGE}" fill="#fafafa" '
        'stroke="#808080" stroke-dasharray="6 4"/>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SIZE} {_SIZE}" '
        f'font-family="sans-serif" font-size="12">{circle}{"".join(shapes)}</svg>\n'
    )
