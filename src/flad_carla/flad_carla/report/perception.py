# SPDX-License-Identifier: Apache-2.0
"""What the vehicle's encoder predicted along a run, moment by moment, beside the truth.

A moment is one prediction; all places are in the ROS vehicle frame of its tick (x forward, y left,
metres, radians). Truth are the road users that the simulator knows, taken at that very tick.
``perception_log`` collects them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flad_carla.report.sweep import Area
from flad_carla.rig import Rig

Column = NDArray[Any]

# One value per prediction. ``red`` and ``stop`` are probabilities; ``red_true`` is 1 where a red
# light makes the expert stop, NaN without an expert. The counts are of vehicles (see State).
MOMENT_COLUMNS = ("t", "red", "red_true", "stop", "latency", "found", "missed", "extra")
# One value per predicted box; ``hit`` is 1 where it lies on a road user.
BOX_COLUMNS = ("moment", "x", "y", "yaw", "length", "width", "speed", "score", "hit")
# One value per road user in the encoder's area; ``z`` is of the middle of its box.
TRUTH_COLUMNS = ("moment", "actor", "x", "y", "z", "yaw", "state")
WAYPOINT_COLUMNS = ("moment", "x", "y")
# Occupied LiDAR cells at the moment of each picture.
SWEEP_COLUMNS = ("picture", "cell")

CELL_M = 0.25
MATCH_M = 2.0  # between the centres of a box and its road user


class State(IntEnum):
    """How a road user fared with the encoder."""

    MISSED = 0
    FOUND = 1
    UNSEEN = 2  # missed too, but no LiDAR point was on it: not counted


@dataclass(frozen=True, kw_only=True)
class View:
    """A camera as the page needs it to draw boxes into its pictures; CARLA's frame and degrees."""

    id: str
    x_m: float
    y_m: float
    z_m: float
    pitch_deg: float
    yaw_deg: float
    fov_deg: float


@dataclass(frozen=True, kw_only=True)
class Perception:
    """The predictions of one run. Empty where no encoder ran."""

    encoder: str = ""  # as it was asked for: a name or a file
    model_hash: str = ""
    missing_views: tuple[str, ...] = ()  # views that failed at any time
    area: Area = field(default_factory=Area)
    has_lidar: bool = False
    moments: Mapping[str, Column] = field(default_factory=lambda: _empty(MOMENT_COLUMNS))
    boxes: Mapping[str, Column] = field(default_factory=lambda: _empty(BOX_COLUMNS))
    truth: Mapping[str, Column] = field(default_factory=lambda: _empty(TRUTH_COLUMNS))
    waypoints: Mapping[str, Column] = field(default_factory=lambda: _empty(WAYPOINT_COLUMNS))
    sweeps: Mapping[str, Column] = field(default_factory=lambda: _empty(SWEEP_COLUMNS))

    @property
    def num_moments(self) -> int:
        """How many predictions there are."""
        return int(self.moments["t"].size)

    def tables(self) -> dict[str, Mapping[str, Column]]:
        """The columns by the name of their table."""
        return {name: getattr(self, name) for name in TABLES}


TABLES = {
    "moments": MOMENT_COLUMNS,
    "boxes": BOX_COLUMNS,
    "truth": TRUTH_COLUMNS,
    "waypoints": WAYPOINT_COLUMNS,
    "sweeps": SWEEP_COLUMNS,
}


def view_of(rig: Rig, camera: str) -> View | None:
    """The camera's place and field of view; None if the rig does not have it."""
    spec = next((s for s in rig.sensors if s.id == camera and s.is_camera), None)
    if spec is None:
        return None
    pose = spec.pose
    return View(
        id=camera,
        x_m=pose.x_m,
        y_m=pose.y_m,
        z_m=pose.z_m,
        pitch_deg=pose.pitch_deg,
        yaw_deg=pose.yaw_deg,
        fov_deg=float(spec.attributes.get("fov", 90.0)),
    )


def _empty(columns: tuple[str, ...]) -> dict[str, Column]:
    return {name: np.zeros(0) for name in columns}
