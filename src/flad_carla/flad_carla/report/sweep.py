# SPDX-License-Identifier: Apache-2.0
"""What the LiDAR hit, small enough for a page: the occupied cells of a grid around the vehicle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flad_carla.run_log import PoseView
from flad_common.frames import (
    CarlaPose,
    carla_points_to_ros,
    carla_pose_to_ros,
    rotation_matrix,
)

_LOW_M, _HIGH_M = 0.3, 4.0  # above the road, below the trees' crowns


@dataclass(frozen=True, kw_only=True)
class Area:
    """The part of the plane that the encoder looks at, in the ROS vehicle frame."""

    x_min_m: float = -20.0
    x_max_m: float = 30.0
    y_min_m: float = -25.0
    y_max_m: float = 25.0

    def holds(self, x_m: float, y_m: float, margin_m: float = 0.0) -> bool:
        """Whether a point lies in it, or within ``margin_m`` of it."""
        return (
            self.x_min_m - margin_m <= x_m <= self.x_max_m + margin_m
            and self.y_min_m - margin_m <= y_m <= self.y_max_m + margin_m
        )


def obstacle_points(
    sweeps: Sequence[tuple[PoseView, Any]], mount: CarlaPose, area: Area
) -> NDArray[np.float32]:
    """Points above the road in ``area``, ``[N, 3]``, in the ROS frame of the last pose.

    ``sweeps`` are the vehicle's pose and the raw measurement (float32 x, y, z, intensity) of
    ticks in a row: a LiDAR that turns slower than the ticks needs several for a whole turn.
    """
    last_turn, last_place = _frame(sweeps[-1][0])
    turn, place = _frame(
        PoseView(x=mount.x_m, y=mount.y_m, z=mount.z_m, pitch=mount.pitch_deg, yaw=mount.yaw_deg)
    )
    clouds = []
    for pose, raw in sweeps:
        points = np.frombuffer(raw, dtype=np.float32).reshape(-1, 4)[:, :3]
        points = points[np.isfinite(points).all(axis=1)]
        pose_turn, pose_place = _frame(pose)
        # sensor -> vehicle then -> world -> vehicle now, as one matrix and one shift
        whole = last_turn.T @ pose_turn @ turn
        shift = last_turn.T @ (pose_turn @ place + pose_place - last_place)
        clouds.append(carla_points_to_ros(points) @ whole.T.astype(np.float32) + np.float32(shift))
    cloud = np.concatenate(clouds)
    x, y, z = cloud.T
    keep = (z > _LOW_M) & (z < _HIGH_M) & (x > area.x_min_m) & (x < area.x_max_m)
    keep &= (y > area.y_min_m) & (y < area.y_max_m)
    keep &= (np.abs(x) > 2.6) | (np.abs(y) > 1.2)  # not the vehicle itself
    return np.asarray(cloud[keep], dtype=np.float32)


def cells(points: NDArray[np.float32], area: Area, cell_m: float) -> NDArray[np.int64]:
    """Occupied cells as sorted numbers: row (from ``x_min_m`` on) times columns plus column."""
    columns = num_columns(area, cell_m)
    row = np.floor((points[:, 0] - area.x_min_m) / cell_m).astype(np.int64)
    column = np.floor((points[:, 1] - area.y_min_m) / cell_m).astype(np.int64)
    return np.unique(row * columns + column)


def num_columns(area: Area, cell_m: float) -> int:
    """Cells of one row, along y."""
    return int(np.ceil((area.y_max_m - area.y_min_m) / cell_m))


def _frame(pose: PoseView) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotation ``[3, 3]`` and place ``[3]`` of a pose, ROS axes."""
    ros = carla_pose_to_ros(
        CarlaPose(
            x_m=pose.x,
            y_m=pose.y,
            z_m=pose.z,
            pitch_deg=pose.pitch,
            yaw_deg=pose.yaw,
            roll_deg=pose.roll,
        )
    )
    return rotation_matrix(ros.orientation), np.array(ros.position_m)
