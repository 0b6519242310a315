# SPDX-License-Identifier: Apache-2.0
"""Collects what the encoder predicted in a run and judges it against the simulator's truth."""

from __future__ import annotations

import logging
import math
from array import array
from collections import deque
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flad_carla.report.matching import match, points_inside
from flad_carla.report.perception import CELL_M, MATCH_M, TABLES, Column, Perception, State
from flad_carla.report.sweep import Area, cells, obstacle_points
from flad_carla.rig import SensorSpec
from flad_carla.run_log import (
    BodyView,
    PoseView,
    PredictionView,
    RunInfo,
    SensorTick,
    TickEntry,
)
from flad_common.frames import carla_yaw_to_ros

_log = logging.getLogger(__name__)

_HISTORY_S = 3.0  # a prediction that comes later than this after its sensors is dropped
_SAME_TICK_S = 0.026
_ABSURD = 1e3  # metres or m/s: an encoder that diverged, nothing to draw


@dataclass(frozen=True)
class _Past:
    """A tick that a prediction may still come for."""

    entry: TickEntry
    sweep: Any | None  # raw points of the LiDAR, if one was due


class PerceptionLog:
    """Collects the predictions of one run, tick by tick. Single-threaded."""

    def __init__(self, info: RunInfo, area: Area | None = None) -> None:
        self._encoder = info.encoder
        self._role = info.role
        self._area = area or Area()
        self._lidar = next((s for s in info.rig.sensors if _is_lidar(s)), None)
        self._turn_ticks = _ticks_per_turn(self._lidar, info.step_s)
        self._past: deque[_Past] = deque(maxlen=max(2, round(_HISTORY_S / info.step_s)))
        self._last: PredictionView | None = None
        self._hash = ""
        self._missing: set[str] = set()
        self._num_late = 0
        self._is_fresh = False
        self._bodies: dict[int, BodyView] = {}
        self._tables = {name: array("d") for name in TABLES}
        self._num_moments = 0

    @property
    def is_fresh(self) -> bool:
        """Whether the newest tick has a prediction of its own sensors."""
        return self._is_fresh

    @property
    def bodies(self) -> Mapping[int, BodyView]:
        """Every road user in the truth, by its id."""
        return self._bodies

    def add(self, tick: SensorTick, entry: TickEntry) -> None:
        """Take one tick, and the prediction that arrived in it, if one did."""
        sweep = tick.data.get(self._role, {}).get(self._lidar.id) if self._lidar else None
        self._past.append(_Past(entry, None if sweep is None else sweep.raw_data))
        new, self._is_fresh = entry.prediction, False
        if new is None or new is self._last:
            return
        self._last = new
        at = self._index_of(new, tick.sim_time_s - entry.sim_time_s)
        if at is None:
            self._num_late += 1
            return
        self._add_moment(new, at)
        self._is_fresh = at == len(self._past) - 1

    def add_picture(self, picture: int) -> None:
        """Keep what the LiDAR sees in this tick, which is the one of picture number ``picture``."""
        points = self._obstacles(len(self._past) - 1)
        if points is not None:
            for cell in cells(points, self._area, CELL_M).tolist():
                self._tables["sweeps"].extend((picture, cell))

    def result(self) -> Perception:
        """Everything so far, with all columns of a table equally long."""
        if self._num_late:
            _log.warning(
                "%d predictions came more than %g s after their sensors and are not in the report",
                self._num_late,
                _HISTORY_S,
            )
        if not self._num_moments:
            return Perception(encoder=self._encoder)
        tables = {
            name: np.frombuffer(self._tables[name], dtype=np.float64).reshape(-1, len(columns))
            for name, columns in TABLES.items()
        }
        return Perception(
            encoder=self._encoder,
            model_hash=self._hash,
            missing_views=tuple(sorted(self._missing)),
            area=self._area,
            has_lidar=self._lidar is not None,
            **{
                name: {column: tables[name][:, i].copy() for i, column in enumerate(columns)}
                for name, columns in TABLES.items()
            },
        )

    def _index_of(self, new: PredictionView, start_s: float) -> int | None:
        """Of the tick whose sensors the prediction is from; its stamp may be of either clock."""
        newest_s = self._past[-1].entry.sim_time_s
        stamp_s = new.stamp_s
        if abs(stamp_s - start_s - newest_s) < abs(stamp_s - newest_s):
            stamp_s -= start_s
        gaps = [abs(past.entry.sim_time_s - stamp_s) for past in self._past]
        at = int(np.argmin(gaps))
        return at if gaps[at] < _SAME_TICK_S else None

    def _add_moment(self, new: PredictionView, at: int) -> None:
        entry = self._past[at].entry
        moment = self._num_moments
        self._num_moments += 1
        self._hash = new.model_hash or self._hash
        self._missing.update(new.missing_views)
        bodies = [b for b in entry.actors if self._is_near(entry.ego.pose, b)]
        boxes = np.array([_flat_box(entry.ego.pose, b) for b in bodies]).reshape(-1, 6)
        predictions = [b for b in new.boxes if _is_sane(astuple(b))]
        centers = np.array([(b.x_m, b.y_m) for b in predictions]).reshape(-1, 2)
        matches = match(centers, boxes[:, :2], MATCH_M)
        states = self._states(boxes, {int(m) for m in matches if m >= 0}, at)
        vehicles = [b.type_id.startswith("vehicle") for b in bodies]
        for body, box, state in zip(bodies, boxes, states, strict=True):
            if state is State.FOUND or self._area.holds(box[0], box[1]):
                self._bodies.setdefault(body.actor_id, body)
                self._tables["truth"].extend(
                    (moment, body.actor_id, box[0], box[1], box[5], box[2], state)
                )
        for predicted, hit in zip(predictions, matches >= 0, strict=True):
            self._tables["boxes"].extend(
                (
                    *(moment, predicted.x_m, predicted.y_m, predicted.yaw_rad),
                    *(2.0 * predicted.half_length_m, 2.0 * predicted.half_width_m),
                    *(predicted.speed_mps, predicted.score, hit),
                )
            )
        for x, y in new.waypoints if all(map(_is_sane, new.waypoints)) else ():
            self._tables["waypoints"].extend((moment, x, y))

        def count(wanted: State) -> int:
            return sum(
                state is wanted and vehicle and self._area.holds(box[0], box[1])
                for state, vehicle, box in zip(states, vehicles, boxes, strict=True)
            )

        red_true = float(bool(entry.expert.red_lights)) if entry.expert else math.nan
        self._tables["moments"].extend(
            (
                *(entry.sim_time_s, new.light_red, red_true, new.stop),
                new.latency_s if math.isfinite(new.latency_s) else math.nan,
                *(count(State.FOUND), count(State.MISSED), int(np.sum(matches < 0))),
            )
        )

    def _states(self, boxes: Column, found: set[int], at: int) -> list[State]:
        points = self._obstacles(at) if len(found) < len(boxes) else None
        states = []
        for i, box in enumerate(boxes):
            if i in found:
                states.append(State.FOUND)
            elif points is not None and not points_inside(points, box[:5]):
                states.append(State.UNSEEN)
            else:
                states.append(State.MISSED)
        return states

    def _is_near(self, ego: PoseView, body: BodyView) -> bool:
        if not body.type_id.startswith(("vehicle", "walker")):
            return False
        forward, right = ego.to_local(body.pose.x, body.pose.y)
        return self._area.holds(forward, -right, MATCH_M)

    def _obstacles(self, at: int) -> NDArray[np.float32] | None:
        """Points of the whole turn that ended in tick ``at``; None without a LiDAR."""
        sweeps = [
            (past.entry.ego.pose, past.sweep)
            for past in list(self._past)[max(0, at - self._turn_ticks + 1) : at + 1]
            if past.sweep is not None
        ]
        if self._lidar is None or not sweeps:
            return None
        return obstacle_points(sweeps, self._lidar.pose, self._area)


def _is_sane(numbers: tuple[float, ...]) -> bool:
    return all(abs(number) < _ABSURD for number in numbers)  # NaN is not


def _is_lidar(spec: SensorSpec) -> bool:
    return spec.type == "sensor.lidar.ray_cast"


def _ticks_per_turn(lidar: SensorSpec | None, step_s: float) -> int:
    if lidar is None:
        return 1
    hertz = float(lidar.attributes.get("rotation_frequency", 10.0))
    return max(1, math.ceil(1.0 / max(hertz * step_s, 1e-3) - 1e-6))


def _flat_box(ego: PoseView, body: BodyView) -> tuple[float, float, float, float, float, float]:
    """x, y, yaw, half length, half width, and z of the middle, seen from ``ego``."""
    x, y = body.pose.to_world(body.center[0], body.center[1])
    forward, right = ego.to_local(x, y)
    yaw_rad = carla_yaw_to_ros(body.pose.yaw - ego.yaw)
    z = body.pose.z + body.center[2] - ego.z - forward * math.tan(math.radians(ego.pitch))
    return (forward, -right, yaw_rad, body.extent[0], body.extent[1], z)
