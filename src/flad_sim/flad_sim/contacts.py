# SPDX-License-Identifier: Apache-2.0
"""Who stands where: free places for new actors. Crashes are ``flad_sim.physics``' part."""

from __future__ import annotations

import math

from flad_sim.blueprints import Blueprint
from flad_sim.types import Transform
from flad_sim.world import World


def overlaps(world: World, blueprint: Blueprint, transform: Transform) -> str:
    """The solid actor that ``blueprint`` would touch at a pose, "" when the place is free."""
    mine = _corners(blueprint.box.extent, transform)
    for actor in world.actors:
        if not actor.blueprint.has_body or actor.parent_id:
            continue
        t = actor.pose.transform
        reach = math.hypot(*actor.box.extent[:2]) + math.hypot(*blueprint.box.extent[:2])
        if abs(t.x - transform.x) > reach or abs(t.y - transform.y) > reach:
            continue
        height = 2.0 * max(actor.box.extent[2], blueprint.box.extent[2])
        if abs(t.z - transform.z) < height and _touch(mine, _corners(actor.box.extent, t)):
            return f"actor {actor.actor_id} ({actor.blueprint.blueprint_id})"
    return ""


Corners = list[tuple[float, float]]


def _corners(extent: tuple[float, float, float], t: Transform) -> Corners:
    yaw = math.radians(t.yaw)
    c, s = math.cos(yaw), math.sin(yaw)
    x, y, _ = extent
    return [
        (t.x + c * i * x - s * j * y, t.y + s * i * x + c * j * y)
        for i, j in ((1, 1), (1, -1), (-1, -1), (-1, 1))
    ]


def _touch(a: Corners, b: Corners) -> bool:
    """Whether two rectangles overlap: no side of either separates them."""
    for corners in (a, b):
        for i in (0, 1):
            nx = corners[i + 1][0] - corners[i][0]
            ny = corners[i + 1][1] - corners[i][1]
            in_a = [nx * x + ny * y for x, y in a]
            in_b = [nx * x + ny * y for x, y in b]
            if max(in_a) < min(in_b) or max(in_b) < min(in_a):
                return False
    return True
