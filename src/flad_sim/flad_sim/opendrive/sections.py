# SPDX-License-Identifier: Apache-2.0
"""Lanes of one road as points of the world: centres, edges, strips, painted lines.

This is where OpenDRIVE's right-handed frame is mirrored into CARLA's (y and yaw change sign).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from flad_sim.opendrive.parse import Cubics, MarkRecord, RoadRecord, SectionRecord
from flad_sim.opendrive.reference_line import ReferenceLine, max_curvature
from flad_sim.types import FloatArray, LaneStrip, RoadMark, Transform

KERB_HEIGHT_M = 0.12  # a common kerb; the client's map knows none, so it is not in lane centres
_CHORD_ERROR_M = 0.01
_MAX_STEP_M = 20.0
_CUBIC_STEP_M = 1.0  # where a width, an offset or an elevation is curved
_NOT_SURFACE = frozenset({"none"})


class RoadGeometry:
    """One road, evaluated in CARLA's frame."""

    def __init__(self, record: RoadRecord) -> None:
        self.record = record
        self._line = ReferenceLine(record.geometries)

    def section_index(self, s: float) -> int:
        """The section that holds ``s``."""
        index = 0
        for i, section in enumerate(self.record.sections):
            if section.s <= s + 1e-9:
                index = i
        return index

    def points(self, s: FloatArray, t: FloatArray) -> FloatArray:
        """World points ``[N, 3]`` at distances ``s`` and lateral offsets ``t`` (left positive).

        The offsets are measured from the reference line; the lane offset is not added.
        """
        line = self._line.at(s)
        tilt = self.record.superelevation(s)
        flat = t * np.cos(tilt)
        x = line.xy[:, 0] - np.sin(line.heading_rad) * flat
        y = line.xy[:, 1] + np.cos(line.heading_rad) * flat
        z = self.record.elevation(s) + t * np.sin(tilt)
        return np.stack([x, -y, z], axis=1)

    def heading_deg(self, s: float) -> float:
        """CARLA yaw of the reference line's tangent at ``s``."""
        return -math.degrees(float(self._line.at(np.array([s])).heading_rad[0]))

    def edge_t(self, index: int, edge: int, s: FloatArray) -> FloatArray:
        """Lateral offset of an edge of section ``index``, metres, left positive.

        Edge 0 is the centre, any other number the outer edge of the lane of that number.
        """
        section = self.record.sections[index]
        t = self.record.lane_offset(s)
        for width in self._widths(section, edge):
            t = t + math.copysign(1.0, edge) * width(s - section.s)
        return t

    def edge_slope(self, index: int, edge: int, s: FloatArray) -> FloatArray:
        """Derivative of `edge_t`."""
        section = self.record.sections[index]
        slope = self.record.lane_offset.slope(s)
        for width in self._widths(section, edge):
            slope = slope + math.copysign(1.0, edge) * width.slope(s - section.s)
        return slope

    def lane_width(self, index: int, lane_id: int, s: float) -> float:
        """Width of a lane at ``s``, metres."""
        section = self.record.sections[index]
        return float(section.lanes[lane_id].width(np.array([s - section.s]))[0])

    def lane_center(self, index: int, lane_id: int, s: float) -> Transform:
        """Pose of a lane's centre; looks along the direction of travel."""
        at = np.array([s])
        inner = lane_id - int(math.copysign(1, lane_id))
        t = (self.edge_t(index, inner, at) + self.edge_t(index, lane_id, at)) / 2.0
        slope = (self.edge_slope(index, inner, at) + self.edge_slope(index, lane_id, at)) / 2.0
        x, y, z = self.points(at, t)[0]
        yaw = self.heading_deg(s) - math.degrees(math.atan(float(slope[0])))
        pitch = math.degrees(math.atan(float(self.record.elevation.slope(at)[0])))
        if lane_id > 0:
            yaw, pitch = yaw + 180.0, -pitch
        return Transform(float(x), float(y), float(z), pitch=pitch, yaw=_wrap_deg(yaw))

    def stations(self, index: int) -> FloatArray:
        """Where section ``index`` has to be sampled so that no chord is off by over 1 cm."""
        record = self.record
        section = record.sections[index]
        start, end = section.s, record.section_end(index)
        if end - start < 1e-6:
            return np.array([start, max(end, start)])
        half_width = self._half_width(index, start, end)
        breaks = {start, end}
        curved: list[tuple[float, float, float]] = []  # from, to, step
        for g in record.geometries:
            breaks.add(g.s)
            curvature = max_curvature(g)
            if curvature > 1e-9:
                tightest = 1.0 / curvature + half_width
                curved.append((g.s, g.s + g.length, math.sqrt(8.0 * _CHORD_ERROR_M * tightest)))
        offsets = [(record.lane_offset, 0.0), (record.elevation, 0.0), (record.superelevation, 0.0)]
        offsets += [(lane.width, start) for lane in section.lanes.values()]
        for cubics, origin in offsets:
            breaks.update(float(v) + origin for v in cubics.starts)
            if not cubics.is_linear:
                curved.append((start, end, _CUBIC_STEP_M))
        ordered = sorted(b for b in breaks if start <= b <= end)
        pieces = []
        for a, b in itertools.pairwise(ordered):
            if b - a < 1e-6:
                continue
            middle = (a + b) / 2.0
            step = min([_MAX_STEP_M, *(st for lo, hi, st in curved if lo <= middle <= hi)])
            pieces.append(np.linspace(a, b, math.ceil((b - a) / step - 1e-9) + 1)[:-1])
        return np.concatenate([*pieces, [end]])

    def strips(self) -> Iterator[LaneStrip]:
        """Every lane of every section (not the centre lane, nor lanes without width)."""
        for index, section in enumerate(self.record.sections):
            s = self.stations(index)
            for lane_id, lane in sorted(section.lanes.items()):
                if lane_id == 0 or lane.lane_type in _NOT_SURFACE:
                    continue
                inner = lane_id - int(math.copysign(1, lane_id))
                near = self.points(s, self.edge_t(index, inner, s))
                far = self.points(s, self.edge_t(index, lane_id, s))
                if float(np.max(np.abs(near - far))) < 1e-3:
                    continue
                left, right = (far, near) if lane_id > 0 else (near, far)
                rise = lane.height
                if math.isnan(rise):
                    rise = KERB_HEIGHT_M if lane.lane_type == "sidewalk" else 0.0
                left[:, 2] += rise
                right[:, 2] += rise
                if lane_id > 0 and is_driving(lane.lane_type):
                    left, right = right[::-1].copy(), left[::-1].copy()
                yield LaneStrip(
                    road_id=self.record.road_id,
                    section=index,
                    lane_id=lane_id,
                    lane_type=lane.lane_type,
                    junction_id=self.record.junction_id,
                    left=left,
                    right=right,
                )

    def marks(self) -> Iterator[RoadMark]:
        """Every painted line, cut where its record changes."""
        for index, section in enumerate(self.record.sections):
            s = self.stations(index)
            end = self.record.section_end(index)
            for lane_id, lane in sorted(section.lanes.items()):
                for mark, start, stop in _mark_ranges(lane.marks, section.s, end):
                    if mark.kind == "none" or stop - start < 1e-3:
                        continue
                    at = np.concatenate(
                        ([start], s[(s > start + 1e-6) & (s < stop - 1e-6)], [stop])
                    )
                    yield RoadMark(
                        points=self.points(at, self.edge_t(index, lane_id, at)),
                        kind=mark.kind,
                        color=mark.color,
                        width=mark.width,
                    )

    def speed_mps(self, s: float, index: int, lane_id: int) -> float | None:
        """The lane's own limit, else the road's, else nothing."""
        lane = self.record.sections[index].lanes[lane_id]
        if lane.speed_mps is not None:
            return lane.speed_mps
        found = None
        for start, limit in self.record.speeds:
            if start <= s + 1e-9:
                found = limit
        return found

    def _widths(self, section: SectionRecord, edge: int) -> list[Cubics]:
        sign = 1 if edge > 0 else -1
        return [
            section.lanes[sign * k].width
            for k in range(1, abs(edge) + 1)
            if sign * k in section.lanes
        ]

    def _half_width(self, index: int, start: float, end: float) -> float:
        s = np.linspace(start, end, 5)
        lanes = self.record.sections[index].lanes
        edges = [self.edge_t(index, edge, s) for edge in (min(lanes), max(lanes))]
        return float(max(np.max(np.abs(t)) for t in edges))


def is_driving(lane_type: str) -> bool:
    """Whether cars drive on lanes of this type."""
    return lane_type in ("driving", "bidirectional", "entry", "exit", "onRamp", "offRamp")


def _mark_ranges(
    marks: tuple[MarkRecord, ...], section_start: float, section_end: float
) -> Iterator[tuple[MarkRecord, float, float]]:
    ordered = sorted(marks, key=lambda m: m.s_offset)
    for i, mark in enumerate(ordered):
        start = section_start + mark.s_offset
        stop = section_start + ordered[i + 1].s_offset if i + 1 < len(ordered) else section_end
        yield mark, start, min(stop, section_end)


def _wrap_deg(angle: float) -> float:
    return (angle + 180.0) % 360.0 - 180.0
