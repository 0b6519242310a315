# SPDX-License-Identifier: Apache-2.0
"""What the encoder should answer in a scene: LMDrive's targets, in our frame.

LMDrive's local frame has x to the right and, for waypoints, forward along -y; ours has x forward
and y left. A point ``(a, b)`` of its waypoints is ``(-b, -a)`` here; for its detection grid see
:mod:`flad_perception.detections`. A recording and a live world both give a ``Scene``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from flad_perception.batch import (
    BOX_FIELDS,
    COMMAND_LEFT,
    COMMAND_ON,
    COMMAND_RIGHT,
    LIGHT_FREE,
    LIGHT_RED,
)
from flad_perception.config import NUM_DETECTION_CHANNELS, EncoderConfig, GridConfig
from flad_perception.detections import (
    HALF_LENGTH_M,
    HALF_WIDTH_M,
    OFFSET_M,
    SPEED_MPS,
    cell_centers_m,
)
from flad_perception.scene import Scene, SceneActor

_SAMPLES_PER_M = 5  # LMDrive draws the boxes at 5 px/m
_MIN_OCCUPANCY = 0.05  # of a cell, to belong to an object
_MIN_HALF_LENGTH_M = 1.5  # smaller boxes are drawn this long, and as much wider
_OWN_RADIUS_M = 1.0  # an actor this near is the ego itself
# Points on a body: above the road's own points, below bridges.
_BODY_Z_M = (0.3, 4.0)
_BODY_MARGIN_M = 0.1
_EGO_ALONG_M = 10.0  # the ego is beside the route's first metres
_TURNS = {1: COMMAND_LEFT, 2: COMMAND_RIGHT}  # LMDrive's commands

Array = NDArray[np.float32]


class TargetArrays(TypedDict):
    """Targets of one frame, under the names of ``flad_perception.batch.Targets``."""

    detection: Array
    """``[R, C, 8]``."""
    waypoints_m: Array
    """``[W, 2]``."""
    path_m: Array
    """``[P, 2]``."""
    command: int
    light: int
    stop: int
    target_point_m: Array
    """``[2]``; an input, but it comes from the scene too."""


def make_targets(scene: Scene, config: EncoderConfig) -> TargetArrays:
    """All targets of a scene.

    Raises:
        ValueError: if the scene has no future, which waypoints are made of.
    """
    far = scene.far_node_m or (scene.ego.x_m, scene.ego.y_m)
    return {
        "detection": detection_target(scene, config.grid),
        "waypoints_m": waypoint_target(scene, config.num_waypoints),
        "path_m": path_target(scene, config.path_at_m),
        "command": command_target(scene, config.path_at_m),
        "light": LIGHT_RED if scene.red_light_stops else LIGHT_FREE,
        "stop": int(scene.stop_sign),
        "target_point_m": np.array(scene.ego.to_local(far), dtype=np.float32),
    }


def waypoint_target(scene: Scene, num_waypoints: int) -> Array:
    """Where the ego will be, in its frame of now, ``[W, 2]``; the last place is held at the end.

    Raises:
        ValueError: if the scene has no future at all.
    """
    if not scene.future_m:
        raise ValueError("a scene needs at least one future position to make waypoints of")
    places = [*scene.future_m, *[scene.future_m[-1]] * num_waypoints][:num_waypoints]
    return np.array([scene.ego.to_local(place) for place in places], dtype=np.float32)


def path_target(scene: Scene, at_m: Sequence[float]) -> Array:
    """The route in the ego's frame of now, ``[P, 2]``, at distances along it.

    Distances count from the place of the route that is nearest to the ego, so the path says where
    the lane is whatever the ego's speed; NaN beyond the route's end.
    """
    path_m = np.full((len(at_m), 2), np.nan, dtype=np.float32)
    if len(scene.route_m) < 2 or not at_m:
        return path_m
    route_m = np.array([scene.ego.to_local(point) for point in scene.route_m])
    steps_m = np.diff(route_m, axis=0)
    lengths_m = np.maximum(np.hypot(*steps_m.T), 1e-6)
    # Where the ego is: its foot on each of the first pieces, the nearest of them.
    share = np.clip(-(route_m[:-1] * steps_m).sum(axis=1) / lengths_m**2, 0.0, 1.0)
    feet_m = route_m[:-1] + share[:, None] * steps_m
    along_m = np.concatenate(([0.0], np.cumsum(lengths_m)))
    near = along_m[:-1] < _EGO_ALONG_M
    here = int(np.where(near, np.hypot(*feet_m.T), np.inf).argmin())
    wanted_m = along_m[here] + share[here] * lengths_m[here] + np.asarray(at_m)
    known = wanted_m <= along_m[-1]
    for axis in (0, 1):
        path_m[known, axis] = np.interp(wanted_m[known], along_m, route_m[:, axis])
    return path_m


def command_target(scene: Scene, at_m: Sequence[float]) -> int:
    """What the route does next, within the path's reach: a command of ``flad_perception.batch``."""
    travelled_m = 0.0
    before = None
    for point, command in zip(scene.route_m, scene.route_commands, strict=False):
        travelled_m += math.dist(before, point) if before else 0.0
        before = point
        if not at_m or travelled_m > at_m[-1]:
            break
        if command in _TURNS:
            return _TURNS[command]
    return COMMAND_ON


def detection_target(scene: Scene, grid: GridConfig) -> Array:
    r"""The detection grid, ``[R, C, 8]``.

    Cells of which at least 5 % lie under a box (drawn at 5 samples per metre, short boxes
    enlarged) belong to the actor whose centre is nearest, at distance :math:`d`, with probability

    .. math:: p = \sqrt{\frac{c / 2}{\max(c / 2,\; d - c / \sqrt 2)}}

    for cells of side :math:`c`; LMDrive's :math:`c` is 1 m.
    """
    rows, columns = grid.shape
    target = np.zeros((rows, columns, NUM_DETECTION_CHANNELS), dtype=np.float32)
    actors = [_Local(scene, actor) for actor in scene.actors]
    actors = [a for a in actors if float(np.hypot(*a.center_m)) > _OWN_RADIUS_M]
    row, column = np.nonzero(_occupancy(actors, grid) >= _MIN_OCCUPANCY)
    if not len(row):
        return target
    cells_m = cell_centers_m(grid)[row, column]
    centers_m = np.array([a.center_m for a in actors])
    away_m = np.hypot(*np.moveaxis(centers_m[None] - cells_m[:, None], -1, 0))
    nearest = away_m.argmin(axis=1)
    half_m = 0.5 * grid.cell_m
    beyond_m = away_m[np.arange(len(row)), nearest] - np.sqrt(2.0) * half_m
    described = np.array([a.channels for a in actors])
    target[row, column, 0] = np.sqrt(half_m / np.maximum(half_m, beyond_m))
    target[row, column, 1:3] = (centers_m[nearest] - cells_m) / OFFSET_M
    target[row, column, 3:] = described[nearest]
    return target


def box_table(scene: Scene, points: Array | None = None) -> Array:
    """The actors for metrics, ``[M, 8]``, columns ``BOX_FIELDS``.

    Args:
        scene: the actors.
        points: of the LiDAR, ``[N, 3 or more]`` in the vehicle frame; how many lie on each body
            is counted. Without them the count is 0.
    """
    actors = [_Local(scene, actor) for actor in scene.actors]
    table = np.zeros((len(actors), len(BOX_FIELDS)), dtype=np.float32)
    if points is not None:
        low_m, high_m = _BODY_Z_M
        points = points[(points[:, 2] > low_m) & (points[:, 2] < high_m)]
    for row, local in zip(table, actors, strict=True):
        actor = local.actor
        row[:7] = (
            *local.center_m,
            local.yaw_rad,
            actor.half_length_m,
            actor.half_width_m,
            actor.speed_mps,
            actor.kind,
        )
        if points is not None:
            row[7] = local.covers(points[:, 0], points[:, 1], margin_m=_BODY_MARGIN_M).sum()
    return table


class _Local:
    """An actor in the vehicle frame."""

    def __init__(self, scene: Scene, actor: SceneActor) -> None:
        self.actor = actor
        self.center_m = scene.ego.to_local((actor.pose.x_m, actor.pose.y_m))
        self.yaw_rad = scene.ego.local_yaw_rad(actor.pose.yaw_rad)
        self.cos, self.sin = float(np.cos(self.yaw_rad)), float(np.sin(self.yaw_rad))

    @property
    def channels(self) -> tuple[float, ...]:
        """Channels 3 to 7 of its cells."""
        a = self.actor
        return (
            self.cos,
            self.sin,
            a.half_length_m / HALF_LENGTH_M,
            a.half_width_m / HALF_WIDTH_M,
            a.speed_mps / SPEED_MPS,
        )

    def covers(
        self,
        x_m: NDArray[np.floating],
        y_m: NDArray[np.floating],
        *,
        margin_m: float = 0.0,
        scale: float = 1.0,
    ) -> NDArray[np.bool_]:
        """Which points lie under the box, enlarged by a factor and a margin."""
        dx, dy = x_m - self.center_m[0], y_m - self.center_m[1]
        along, across = self.cos * dx + self.sin * dy, self.cos * dy - self.sin * dx
        is_along = np.abs(along) <= scale * self.actor.half_length_m + margin_m
        covered: NDArray[np.bool_] = is_along & (
            np.abs(across) <= scale * self.actor.half_width_m + margin_m
        )
        return covered


def _occupancy(actors: list[_Local], grid: GridConfig) -> NDArray[np.float64]:
    """Share of each cell that lies under a box, ``[R, C]``."""
    rows, columns = grid.shape
    per_cell = max(1, round(grid.cell_m * _SAMPLES_PER_M))
    step_m = grid.cell_m / per_cell
    drawn = np.zeros((rows * per_cell, columns * per_cell), dtype=bool)
    for local in actors:
        half_length_m = max(local.actor.half_length_m, 1e-3)
        scale = max(1.0, _MIN_HALF_LENGTH_M / half_length_m)
        reach_m = scale * float(np.hypot(half_length_m, local.actor.half_width_m)) + step_m
        # Only the samples around the box.
        top = max(0, int((grid.x_max_m - local.center_m[0] - reach_m) / step_m))
        bottom = max(0, int((grid.x_max_m - local.center_m[0] + reach_m) / step_m) + 1)
        left = max(0, int((grid.y_max_m - local.center_m[1] - reach_m) / step_m))
        right = max(0, int((grid.y_max_m - local.center_m[1] + reach_m) / step_m) + 1)
        window = drawn[top:bottom, left:right]
        x_m = grid.x_max_m - (top + np.arange(window.shape[0]) + 0.5) * step_m
        y_m = grid.y_max_m - (left + np.arange(window.shape[1]) + 0.5) * step_m
        window |= local.covers(x_m[:, None], y_m[None, :], scale=scale)
    share: NDArray[np.float64] = drawn.reshape(rows, per_cell, columns, per_cell).mean(axis=(1, 3))
    return share
