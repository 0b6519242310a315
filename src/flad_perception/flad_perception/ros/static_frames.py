# SPDX-License-Identifier: Apache-2.0
"""Where sensors stand on the vehicle, from ``/tf_static``."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from tf2_msgs.msg import TFMessage

from flad_perception.live_sensors import mount_matrix

_MAX_DEPTH = 16


class StaticFrames:
    """The static transforms that were heard. Single-threaded."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, NDArray[np.float64]]] = {}

    def add(self, msg: TFMessage) -> None:
        """Take transforms in; a newer one of the same frame replaces the older.

        Raises:
            ValueError: if a transform is not finite; the good ones of the message are kept.
        """
        bad = []
        for transform in msg.transforms:
            try:
                matrix = _matrix(transform)
            except ValueError:
                bad.append(transform.child_frame_id)
                continue
            parent = _name(transform.header.frame_id)
            self._parents[_name(transform.child_frame_id)] = (parent, matrix)
        if bad:
            raise ValueError(f"transforms of {bad} are not finite")

    @property
    def num_frames(self) -> int:
        """How many frames have a place."""
        return len(self._parents)

    def mount(self, sensor_frame: str, vehicle_frame: str) -> NDArray[np.float64] | None:
        """``[4, 4]`` from a sensor's frame to the vehicle's; None where no chain is known."""
        frame, goal = _name(sensor_frame), _name(vehicle_frame)
        total = np.eye(4)
        for _ in range(_MAX_DEPTH):
            if frame == goal:
                return total
            if frame not in self._parents:
                return None
            frame, matrix = self._parents[frame]
            total = matrix @ total
        return None


def _matrix(transform: TransformStamped) -> NDArray[np.float64]:
    t, r = transform.transform.translation, transform.transform.rotation
    return mount_matrix((t.x, t.y, t.z), (r.x, r.y, r.z, r.w))


def _name(frame_id: str) -> str:
    """ROS 1's leading slash is still about."""
    return str(frame_id).lstrip("/")
