# SPDX-License-Identifier: Apache-2.0
"""Who is in the way: now (the corridor ahead), and soon (forecast boxes that meet ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flad_carla.expert.config import ExpertConfig
from flad_carla.expert.forecast import boxes_overlap, forecast_agents
from flad_carla.expert.scene import Agents, EgoState, FloatArray, Kind

_SAMPLES = np.array([(i, j) for i in (-1.0, -0.5, 0.0, 0.5, 1.0) for j in (-1.0, 0.0, 1.0)])
_MOVING_MPS = 0.3
_ALIGNED_COS = 0.9
_BEHIND_COS = 0.5
_MAX_SWING_M = 0.6
# In bends the car runs wider than its path, by up to this (measured: 0.5 m at a radius of 7 m).
_LOOSE_PER_BEND, _MAX_LOOSE_M = 2.5, 0.35


@dataclass(frozen=True, slots=True)
class Corridor:
    """The strip of road ahead: its centre line, one row per metre ([H])."""

    s: FloatArray
    x: FloatArray
    y: FloatArray
    yaw: FloatArray


@dataclass(frozen=True, slots=True)
class InPath:
    """An agent whose box is in the corridor now."""

    row: int  # in the agents
    s: float  # its nearest point along the path
    end_s: float  # its farthest one
    d: float  # of its centre
    speed_along_mps: float
    aligned: float  # cosine of its heading to the path's


@dataclass(frozen=True, slots=True)
class Meeting:
    """An agent whose forecast box meets ours."""

    row: int
    time_s: float
    way_m: float  # of ours until then
    speed_along_mps: float
    oncoming: bool
    overlap_d: float  # sideways position of it relative to our path then


def agents_in_path(
    corridor: Corridor, agents: Agents, ego: EgoState, ego_s: float, config: ExpertConfig
) -> list[InPath]:
    """Agents in the corridor, nearest first."""
    if len(agents) == 0:
        return []
    local = _SAMPLES[None] * np.stack([agents.half_length, agents.half_width], axis=1)[:, None]
    c, s = np.cos(agents.yaw)[:, None], np.sin(agents.yaw)[:, None]
    px = agents.x[:, None] + c * local[..., 0] - s * local[..., 1]
    py = agents.y[:, None] + s * local[..., 0] + c * local[..., 1]
    along, side = _frenet(corridor, px, py)
    margin = np.where(agents.kind == Kind.WALKER, config.walker_margin_m, config.side_margin_m)
    inside = np.abs(side) < (ego.half_width + margin)[:, None] + _swing(corridor, along, side, ego)
    inside &= (along > ego_s + 0.5 * ego.half_length) & (along < corridor.s[-1] - 0.5)
    found: list[InPath] = []
    for row in np.flatnonzero(inside.any(axis=1)):
        i = int(row)
        hits = along[i][inside[i]]
        s_near = float(hits.min())
        yaw = float(np.interp(s_near, corridor.s, corridor.yaw))
        speed = float(agents.vx[i] * np.cos(yaw) + agents.vy[i] * np.sin(yaw))
        found.append(
            InPath(
                i,
                s_near,
                float(hits.max()),
                float(side[i, 7]),
                speed,
                float(np.cos(agents.yaw[i] - yaw)),
            )
        )
    return sorted(found, key=lambda hit: (hit.s, agents.ids[hit.row]))


def _curvature(corridor: Corridor, along: FloatArray) -> FloatArray:
    bend = np.gradient(np.unwrap(corridor.yaw), corridor.s)
    bend = np.convolve(bend, np.full(5, 0.2), mode="same")
    return np.asarray(np.interp(along, corridor.s, bend))


def _swing(corridor: Corridor, along: FloatArray, side: FloatArray, ego: EgoState) -> FloatArray:
    """How much farther our front corner reaches on the outer side of a bend."""
    curvature = _curvature(corridor, along)
    swing = np.minimum(0.5 * ego.half_length**2 * np.abs(curvature), _MAX_SWING_M)
    return np.asarray(np.where(curvature * side < 0.0, swing, 0.0))


def meetings(
    corridor: Corridor,
    agents: Agents,
    ego: EgoState,
    ego_poses: FloatArray,
    way_m: FloatArray,
    times_s: FloatArray,
    travel_limit_m: FloatArray,
    skip: Sequence[int],
    config: ExpertConfig,
) -> list[Meeting]:
    """Agents whose forecast meets the ego's within ``times_s`` [M].

    Args:
        ego_poses: [M, 3], the ego's own forecast; ``way_m`` [M] its way.
        travel_limit_m: [N], how far each agent will go at most (a red light holds it).
        skip: rows to leave out.
    """
    if len(agents) == 0:
        return []
    poses = _forecast(corridor, agents, times_s, travel_limit_m)
    moving = (agents.speed > _MOVING_MPS) | (agents.kind != Kind.WALKER)
    moving &= ~_follows(agents, ego)
    moving[list(skip)] = False
    rows = np.flatnonzero(moving)
    if len(rows) == 0:
        return []
    walkers = agents.kind[rows] == Kind.WALKER
    half = np.stack([agents.half_length[rows], agents.half_width[rows]], axis=1)
    margin = np.where(walkers, config.walker_margin_m, 0.5 * config.side_margin_m)
    ego_half = np.array([ego.half_length, ego.half_width])
    real = boxes_overlap(ego_poses[None], ego_half, poses[rows], half[:, None])
    along, _ = _frenet(corridor, ego_poses[:, 0][None], ego_poses[:, 1][None])
    loose = np.minimum(_LOOSE_PER_BEND * np.abs(_curvature(corridor, along[0])), _MAX_LOOSE_M)
    ego_grown = ego_half + 0.2 + np.stack([np.zeros_like(loose), loose], axis=1)
    grown = boxes_overlap(
        ego_poses[None], ego_grown[None], poses[rows], (half + margin[:, None])[:, None]
    )
    hit = np.where(grown[:, :1], real, grown)  # those already beside us only by their real size
    found: list[Meeting] = []
    for n, row in enumerate(rows):
        if hit[n].any():
            meeting = _meeting(int(row), int(np.argmax(hit[n])), poses, ego_poses, way_m, times_s)
            if _matters(meeting, agents, ego, poses, ego_poses):
                found.append(meeting)
    return found


def _meeting(
    row: int,
    k: int,
    poses: FloatArray,
    ego_poses: FloatArray,
    way_m: FloatArray,
    times_s: FloatArray,
) -> Meeting:
    ego_x, ego_y, ego_yaw = ego_poses[k]
    x, y, yaw = poses[row, k]
    before = poses[row, max(k - 1, 0)]
    after = poses[row, min(k + 1, len(times_s) - 1)]
    span = times_s[min(k + 1, len(times_s) - 1)] - times_s[max(k - 1, 0)]
    velocity = (after[:2] - before[:2]) / max(span, 1e-6)
    speed = float(velocity[0] * np.cos(ego_yaw) + velocity[1] * np.sin(ego_yaw))
    side = -(x - ego_x) * np.sin(ego_yaw) + (y - ego_y) * np.cos(ego_yaw)
    oncoming = bool(np.cos(yaw - ego_yaw) < -0.7)
    return Meeting(row, float(times_s[k]), float(way_m[k]), speed, oncoming, float(side))


def _matters(
    meeting: Meeting, agents: Agents, ego: EgoState, poses: FloatArray, ego_poses: FloatArray
) -> bool:
    """Who runs into our rear half is let go, unless we can still stop before the place."""
    k = round(meeting.time_s / 0.1)
    ego_x, ego_y, ego_yaw = ego_poses[min(k, len(ego_poses) - 1)]
    x, y, _ = poses[meeting.row, min(k, poses.shape[1] - 1)]
    ahead = (x - ego_x) * np.cos(ego_yaw) + (y - ego_y) * np.sin(ego_yaw)
    if ahead > 0.0:
        return True
    return bool(meeting.way_m > ego.speed**2 / (2.0 * 5.0) + 1.0)


def _forecast(
    corridor: Corridor, agents: Agents, times_s: FloatArray, travel_limit_m: FloatArray
) -> FloatArray:
    """Poses [N, M, 3]: along our own road where they drive along it, else by their wheels."""
    poses = forecast_agents(agents, times_s)
    along, side = _frenet(corridor, agents.x[:, None], agents.y[:, None])
    s0, d0 = along[:, 0], side[:, 0]
    yaw = np.interp(s0, corridor.s, corridor.yaw)
    inside = (s0 > corridor.s[0] + 0.5) & (s0 < corridor.s[-1] - 0.5) & (np.abs(d0) < 9.0)
    on_road = inside & (np.abs(np.cos(agents.yaw - yaw)) > _ALIGNED_COS)
    on_road &= agents.kind != Kind.WALKER
    t = times_s[None, :]
    vs = agents.vx * np.cos(yaw) + agents.vy * np.sin(yaw)
    vd = -agents.vx * np.sin(yaw) + agents.vy * np.cos(yaw)
    s = s0[:, None] + vs[:, None] * t
    d = d0[:, None] + vd[:, None] * np.minimum(t, 1.5)
    road_yaw = np.interp(s, corridor.s, corridor.yaw)
    # beyond either end of the corridor it goes straight on
    over = s - np.clip(s, corridor.s[0], corridor.s[-1])
    x = np.interp(s, corridor.s, corridor.x) + over * np.cos(road_yaw) - d * np.sin(road_yaw)
    y = np.interp(s, corridor.s, corridor.y) + over * np.sin(road_yaw) + d * np.cos(road_yaw)
    turn = (agents.yaw - yaw)[:, None] + road_yaw
    framed = np.stack([x, y, turn], axis=-1)
    poses = np.where(on_road[:, None, None], framed, poses)
    way = agents.speed[:, None] * t
    held = way > travel_limit_m[:, None]
    last = np.maximum((~held).sum(axis=1) - 1, 0)
    index = np.minimum(np.arange(len(times_s))[None, :], last[:, None])
    return np.asarray(np.take_along_axis(poses, index[..., None], axis=1))


def _follows(agents: Agents, ego: EgoState) -> NDArray[np.bool_]:
    """Who comes from behind in our direction: theirs to keep clear."""
    c, s = np.cos(ego.yaw), np.sin(ego.yaw)
    ahead = (agents.x - ego.x) * c + (agents.y - ego.y) * s
    same = np.cos(agents.yaw - ego.yaw) > _BEHIND_COS
    return np.asarray((ahead < -0.5 * ego.half_length) & same)


def _frenet(corridor: Corridor, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``(s, d)`` of points [N, P] relative to the corridor's centre line."""
    dx = x[..., None] - corridor.x
    dy = y[..., None] - corridor.y
    j = np.argmin(dx * dx + dy * dy, axis=-1)
    yaw = corridor.yaw[j]
    rx, ry = x - corridor.x[j], y - corridor.y[j]
    along = corridor.s[j] + rx * np.cos(yaw) + ry * np.sin(yaw)
    return along, -rx * np.sin(yaw) + ry * np.cos(yaw)


def frenet(corridor: Corridor, agents: Agents) -> tuple[FloatArray, FloatArray]:
    """``(s, d)`` [N] of the agents' centres."""
    along, side = _frenet(corridor, agents.x[:, None], agents.y[:, None])
    return along[:, 0], side[:, 0]
