# SPDX-License-Identifier: Apache-2.0
"""The road network of one map in CARLA's frame: lanes, paint, signals, surface, spawn points."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from flad_sim.opendrive.geo import GeoReference, parse_geo_reference
from flad_sim.opendrive.junctions import junction_areas
from flad_sim.opendrive.parse import MapRecord, OpenDriveError, parse_opendrive
from flad_sim.opendrive.sections import RoadGeometry, is_driving
from flad_sim.opendrive.signals import resolve_signals
from flad_sim.opendrive.surface import Surface, SurfacePoints
from flad_sim.types import FloatArray, LaneStrip, RoadMark, Signal, Transform

SPAWN_HEIGHT_M = 0.3  # so that a body never starts inside the road
_SPAWN_SPACING_M = 20.0
_SPAWN_MARGIN_M = 8.0  # from the ends of a lane
_SPAWN_MIN_WIDTH_M = 2.5
_BESIDE_M = 6.0  # this close to a lane, its height still counts (verges, gaps in junctions)
_DEFAULT_SPEED_KMH = 50.0  # where a map states none: the usual limit in towns


@dataclass(frozen=True, slots=True)
class LanePlace:
    """A place on a lane."""

    road_id: int
    section: int
    lane_id: int
    s: float


class RoadNetwork:
    """One map. Immutable after construction, safe to share between threads."""

    def __init__(self, record: MapRecord) -> None:
        self.name = record.name
        self.geo: GeoReference = parse_geo_reference(record.geo_reference)
        self.record = record
        self.roads = {k: RoadGeometry(road) for k, road in sorted(record.roads.items())}
        self.lanes: tuple[LaneStrip, ...] = tuple(
            strip for road in self.roads.values() for strip in road.strips()
        )
        self.marks: tuple[RoadMark, ...] = _without_twins(
            mark for road in self.roads.values() for mark in road.marks()
        )
        driving = tuple(is_driving(strip.lane_type) for strip in self.lanes)
        self.surface = Surface(
            self.lanes, tuple(lane.lane_type != "sidewalk" for lane in self.lanes)
        )
        self.signals: tuple[Signal, ...] = resolve_signals(record, self.roads, self.surface)
        self._speeds_kmh = np.array([self._strip_speed_kmh(strip) for strip in self.lanes])
        centers, owners = _center_samples(self.lanes, driving)
        self._centers, self._center_owners = centers, owners
        self._tree = cKDTree(centers[:, :2])

    @property
    def geo_reference(self) -> tuple[float, float]:
        """``(lat0, lon0)`` in degrees."""
        return (self.geo.lat0, self.geo.lon0)

    @functools.cached_property
    def junction_areas(self) -> list[FloatArray]:
        """Outlines ``[N, 3]`` of the asphalt of the junctions, without gaps between lanes."""
        return junction_areas(self.lanes, self.surface)

    def spawn_points(self) -> list[Transform]:
        """Poses on driving lanes outside junctions, along travel, 0.3 m above the road."""
        points = []
        for strip in self.lanes:
            if strip.junction_id >= 0 or not is_driving(strip.lane_type):
                continue
            center = (strip.left + strip.right) / 2.0
            width = np.linalg.norm(strip.left - strip.right, axis=1)
            run = np.concatenate(
                ([0.0], np.cumsum(np.linalg.norm(np.diff(center, axis=0), axis=1)))
            )
            usable = run[-1] - 2.0 * _SPAWN_MARGIN_M
            if usable < 0.0 or width.min() < _SPAWN_MIN_WIDTH_M:
                continue
            count = int(usable // _SPAWN_SPACING_M) + 1
            first = run[-1] / 2.0 - (count - 1) * _SPAWN_SPACING_M / 2.0
            for i in range(count):
                points.append(_pose_along(center, run, first + i * _SPAWN_SPACING_M))
        return points

    def lane_center(self, road_id: int, lane_id: int, s: float) -> Transform:
        """Pose of a lane's centre, looking along travel.

        Raises:
            ValueError: if the road or the lane does not exist there.
        """
        road = self.roads.get(road_id)
        if road is None:
            raise ValueError(f"no road {road_id} in map {self.name!r}")
        index = road.section_index(s)
        if lane_id == 0 or lane_id not in road.record.sections[index].lanes:
            raise ValueError(
                f"road {road_id} has no lane {lane_id} at s={s:.2f}; it has "
                f"{sorted(road.record.sections[index].lanes)}"
            )
        return road.lane_center(index, lane_id, s)

    def height(self, x: float, y: float, z_near: float | None = None) -> float | None:
        """Height of road or pavement at a point, nothing if no lane is within 6 m.

        Where a bridge crosses, the level nearest to ``z_near`` counts, or the top one.
        """
        z = self.heights(
            np.array([[x, y]]), None if z_near is None else np.array([z_near], dtype=np.float64)
        )[0]
        return None if math.isnan(z) else float(z)

    def heights(self, xy: FloatArray, z_near: FloatArray | None = None) -> FloatArray:
        """`height` for points ``[N, 2]``; nan where there is no surface."""
        z = self.surface.at(xy, z_near).z
        for i in np.flatnonzero(np.isnan(z)):
            if not np.isfinite(xy[i]).all():
                continue
            distance, nearest = self._tree.query(xy[i], distance_upper_bound=_BESIDE_M)
            if math.isfinite(distance):
                z[i] = self._centers[nearest, 2]
        return z

    def under(self, xy: FloatArray, z_near: FloatArray | None = None) -> SurfacePoints:
        """Height and index into ``lanes`` at points ``[N, 2]``."""
        return self.surface.at(xy, z_near)

    def speed_limit_kmh(self, x: float, y: float) -> float:
        """Speed limit of the lane under the point, else of the nearest driving lane."""
        return float(self.speed_limits_kmh(np.array([[x, y]]))[0])

    def speed_limits_kmh(self, xy: FloatArray, z_near: FloatArray | None = None) -> FloatArray:
        """`speed_limit_kmh` for points ``[N, 2]``."""
        strips = self.surface.at(xy, z_near).strip
        limits = np.where(strips >= 0, self._speeds_kmh[strips], np.nan)
        for i in np.flatnonzero(np.isnan(limits)):
            if not np.isfinite(xy[i]).all():
                limits[i] = _DEFAULT_SPEED_KMH
                continue
            limits[i] = self._speeds_kmh[self._center_owners[self._tree.query(xy[i])[1]]]
        return limits

    def _strip_speed_kmh(self, strip: LaneStrip) -> float:
        if not is_driving(strip.lane_type):
            return math.nan
        road = self.roads[strip.road_id]
        speed = road.speed_mps(road.record.sections[strip.section].s, strip.section, strip.lane_id)
        if speed is None and road.record.predecessor is not None:
            before = self.roads.get(road.record.predecessor.element_id)
            if before is not None and road.record.predecessor.element == "road":
                speed = before.record.speeds[-1][1] if before.record.speeds else None
        return _DEFAULT_SPEED_KMH if speed is None or speed <= 0.0 else speed * 3.6


def read_opendrive(text: str) -> RoadNetwork:
    """Read a map.

    Raises:
        OpenDriveError: if the text is no usable OpenDRIVE; says what, where and what to do.
    """
    return RoadNetwork(parse_opendrive(text))


def _without_twins(marks: Iterable[RoadMark]) -> tuple[RoadMark, ...]:
    """Drop lines painted twice, as where two one-way roads share a centre line."""
    seen = set()
    kept = []
    for mark in marks:
        ends = [tuple(round(float(v), 1) for v in mark.points[i]) for i in (0, -1)]
        middle = tuple(round(float(v)) for v in mark.points[[0, -1]].mean(axis=0))
        key = (*sorted(ends), middle, mark.kind, mark.color)
        if key not in seen:
            seen.add(key)
            kept.append(mark)
    return tuple(kept)


def _center_samples(
    strips: tuple[LaneStrip, ...], driving: tuple[bool, ...]
) -> tuple[FloatArray, np.typing.NDArray[np.int64]]:
    parts, owners = [], []
    for i, strip in enumerate(strips):
        if not driving[i]:
            continue
        center = (strip.left + strip.right) / 2.0
        run = np.concatenate(([0.0], np.cumsum(np.linalg.norm(np.diff(center, axis=0), axis=1))))
        at = np.linspace(0.0, run[-1], int(run[-1] / 2.0) + 2)
        parts.append(np.stack([np.interp(at, run, center[:, k]) for k in range(3)], axis=1))
        owners.append(np.full(len(at), i, dtype=np.int64))
    if not parts:
        raise OpenDriveError(
            "the map has no driving lane: cars cannot be placed; check the lane types of its roads"
        )
    return np.concatenate(parts), np.concatenate(owners)


def _pose_along(center: FloatArray, run: FloatArray, at: float) -> Transform:
    x, y, z = (float(np.interp(at, run, center[:, k])) for k in range(3))
    around = [at - 0.5, at + 0.5]  # smooths the corners of the polyline
    dx, dy, dz = (float(np.diff(np.interp(around, run, center[:, k]))[0]) for k in range(3))
    yaw = math.degrees(math.atan2(dy, dx))
    pitch = math.degrees(math.atan2(dz, math.hypot(dx, dy)))
    return Transform(x, y, z + SPAWN_HEIGHT_M, pitch=pitch, yaw=yaw)
