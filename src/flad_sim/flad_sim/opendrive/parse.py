# SPDX-License-Identifier: Apache-2.0
"""OpenDRIVE text to plain records, in OpenDRIVE's own frame and units.

Nothing is computed here: `reference_line` evaluates the curves, `sections` the lanes.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field

import numpy as np

from flad_sim.types import FloatArray

MPS_PER_UNIT = {"m/s": 1.0, "km/h": 1.0 / 3.6, "mph": 0.44704}


class OpenDriveError(ValueError):
    """A map that cannot be read; the text says what is wrong, where, and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cubics:
    """A piecewise cubic of s: piece i is ``a + b d + c d^2 + d d^3``, ``d = s - starts[i]``."""

    starts: FloatArray  # [N], ascending
    coefficients: FloatArray  # [N, 4]

    def __call__(self, s: FloatArray) -> FloatArray:
        """Values at ``s`` ``[M]``; 0 where no piece is given."""
        if len(self.starts) == 0:
            return np.zeros_like(s)
        c, d = self._pieces(s)
        return c[:, 0] + d * (c[:, 1] + d * (c[:, 2] + d * c[:, 3]))

    def slope(self, s: FloatArray) -> FloatArray:
        """Derivatives at ``s`` ``[M]``."""
        if len(self.starts) == 0:
            return np.zeros_like(s)
        c, d = self._pieces(s)
        return c[:, 1] + d * (2.0 * c[:, 2] + d * 3.0 * c[:, 3])

    @property
    def is_linear(self) -> bool:
        """Whether every piece is a straight line."""
        return not np.any(np.abs(self.coefficients[:, 2:]) > 1e-9)

    def _pieces(self, s: FloatArray) -> tuple[FloatArray, FloatArray]:
        index = np.clip(np.searchsorted(self.starts, s + 1e-9, side="right") - 1, 0, None)
        return self.coefficients[index], s - self.starts[index]


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """One piece of a road's reference line."""

    s: float
    x: float
    y: float
    hdg: float
    length: float
    kind: str  # line, arc, spiral, poly3, paramPoly3
    numbers: tuple[float, ...] = ()  # curvature(s) or coefficients, as the element lists them
    normalized: bool = False  # paramPoly3 only: p runs over [0, 1] and not over the arc length


@dataclass(frozen=True, kw_only=True, slots=True)
class MarkRecord:
    """A painted line from ``s_offset`` on."""

    s_offset: float
    kind: str
    color: str
    width: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneRecord:
    """One lane of one section."""

    lane_id: int
    lane_type: str
    width: Cubics
    height: float  # metres that the lane is raised, where the map says so, else nan
    marks: tuple[MarkRecord, ...]
    speed_mps: float | None
    predecessor: int | None
    successor: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SectionRecord:
    """A stretch of road with constant lanes."""

    s: float
    lanes: dict[int, LaneRecord]


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkRecord:
    """What a road's end touches."""

    element: str  # road or junction
    element_id: int
    contact: str  # start, end or "" for junctions


@dataclass(frozen=True, kw_only=True, slots=True)
class SignalRecord:
    """A signal, or a reference to one (then ``kind`` is empty)."""

    signal_id: str
    road_id: int
    s: float
    t: float
    orientation: str
    kind: str = ""
    value: float = 0.0
    unit: str = ""
    z_offset: float = 0.0
    h_offset: float = 0.0
    validity: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class RoadRecord:
    """One road."""

    road_id: int
    length: float
    junction_id: int
    predecessor: LinkRecord | None
    successor: LinkRecord | None
    speeds: tuple[tuple[float, float | None], ...]  # (s, m/s or unknown)
    geometries: tuple[Geometry, ...]
    elevation: Cubics
    superelevation: Cubics
    lane_offset: Cubics
    sections: tuple[SectionRecord, ...]
    signals: tuple[SignalRecord, ...]
    references: tuple[SignalRecord, ...]

    def section_end(self, index: int) -> float:
        """Where section ``index`` ends, metres along the road."""
        following = index + 1
        return self.sections[following].s if following < len(self.sections) else self.length


@dataclass(frozen=True, kw_only=True, slots=True)
class MapRecord:
    """A whole file."""

    name: str
    geo_reference: str
    roads: dict[int, RoadRecord]
    controllers: dict[str, tuple[str, ...]]  # controller id -> signal ids
    junction_controllers: dict[int, tuple[str, ...]] = field(default_factory=dict)


def parse_opendrive(text: str) -> MapRecord:
    """Read OpenDRIVE text.

    Raises:
        OpenDriveError: if it is empty, not XML, not OpenDRIVE, has no road, or has a number that
            is none.
    """
    root = _root(text)
    header = root.find("header")
    reference = root.findtext("header/geoReference") or ""
    roads = {}
    for element in root.findall("road"):
        try:
            road = _road(element)
        except (ValueError, KeyError, AttributeError) as error:
            raise OpenDriveError(
                f"OpenDRIVE road id={element.get('id')!r} cannot be read ({error!r}): check its "
                "planView and lanes, or export the map again"
            ) from error
        if road is not None:
            roads[road.road_id] = road
    if not roads:
        raise OpenDriveError(
            "OpenDRIVE text has no <road> with a planView and lanes: nothing to drive on; check "
            "that the whole file was exported"
        )
    return MapRecord(
        name=header.get("name", "") if header is not None else "",
        geo_reference=reference.strip(),
        roads=roads,
        controllers={
            e.get("id", ""): tuple(c.get("signalId", "") for c in e.findall("control"))
            for e in root.findall("controller")
        },
        junction_controllers={
            int(e.get("id", "-1")): tuple(c.get("id", "") for c in e.findall("controller"))
            for e in root.findall("junction")
        },
    )


def _root(text: str) -> ET.Element:
    if not text.strip():
        raise OpenDriveError("OpenDRIVE text is empty: give the contents of a .xodr file")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        # Entities can expand without bound; no OpenDRIVE file needs them.
        raise OpenDriveError(
            "OpenDRIVE text declares a DOCTYPE or entities, which are refused: remove the "
            "declaration"
        )
    try:
        root = ET.fromstring(text.encode("utf-8", "surrogateescape") if "<?xml" in text else text)
    except (ET.ParseError, ValueError) as error:
        raise OpenDriveError(
            f"OpenDRIVE text is not well-formed XML ({error}): the file is damaged or cut off; "
            "copy or export it again"
        ) from error
    for element in root.iter():
        element.tag = element.tag.rsplit("}", 1)[-1]  # some tools write a namespace
    if root.tag != "OpenDRIVE":
        raise OpenDriveError(
            f"the XML's root is <{root.tag}>, not <OpenDRIVE>: give a .xodr file (a SUMO .net.xml "
            "goes to --net)"
        )
    return root


def _road(element: ET.Element) -> RoadRecord | None:
    geometries = tuple(_geometry(e) for e in element.findall("planView/geometry"))
    sections = tuple(_section(e) for e in element.findall("lanes/laneSection"))
    if not geometries or not sections:
        return None
    road_id = int(element.attrib["id"])
    return RoadRecord(
        road_id=road_id,
        length=_number(element, "length"),
        junction_id=int(element.get("junction", "-1")),
        predecessor=_link(element.find("link/predecessor")),
        successor=_link(element.find("link/successor")),
        speeds=tuple(
            (_number(e, "s", 0.0), _speed(e.find("speed"))) for e in element.findall("type")
        ),
        geometries=geometries,
        elevation=_cubics(element.findall("elevationProfile/elevation"), "s"),
        superelevation=_cubics(element.findall("lateralProfile/superelevation"), "s"),
        lane_offset=_cubics(element.findall("lanes/laneOffset"), "s"),
        sections=sections,
        signals=tuple(_signal(e, road_id) for e in element.findall("signals/signal")),
        references=tuple(_signal(e, road_id) for e in element.findall("signals/signalReference")),
    )


def _geometry(element: ET.Element) -> Geometry:
    shape = next(e for e in element if e.tag in _SHAPE_NUMBERS)
    return Geometry(
        s=_number(element, "s"),
        x=_number(element, "x"),
        y=_number(element, "y"),
        hdg=_number(element, "hdg"),
        length=_number(element, "length"),
        kind=shape.tag,
        numbers=tuple(_number(shape, name, 0.0) for name in _SHAPE_NUMBERS[shape.tag]),
        normalized=shape.get("pRange", "normalized") != "arcLength",
    )


_SHAPE_NUMBERS: dict[str, tuple[str, ...]] = {
    "line": (),
    "arc": ("curvature",),
    "spiral": ("curvStart", "curvEnd"),
    "poly3": ("a", "b", "c", "d"),
    "paramPoly3": ("aU", "bU", "cU", "dU", "aV", "bV", "cV", "dV"),
}


def _section(element: ET.Element) -> SectionRecord:
    s = _number(element, "s")
    lanes = [
        _lane(e) for side in ("left", "center", "right") for e in element.findall(f"{side}/lane")
    ]
    return SectionRecord(s=s, lanes={lane.lane_id: lane for lane in lanes})


def _lane(element: ET.Element) -> LaneRecord:
    lane_id = int(element.attrib["id"])
    height = element.find("height")
    speed = element.find("speed")
    predecessor, successor = element.find("link/predecessor"), element.find("link/successor")
    return LaneRecord(
        lane_id=lane_id,
        lane_type=element.get("type", "none"),
        width=_cubics(element.findall("width"), "sOffset"),
        height=math.nan if height is None else _number(height, "inner", 0.0),
        marks=tuple(_mark(e) for e in element.findall("roadMark")),
        speed_mps=_speed(speed),
        predecessor=None if predecessor is None else int(predecessor.attrib["id"]),
        successor=None if successor is None else int(successor.attrib["id"]),
    )


def _mark(element: ET.Element) -> MarkRecord:
    color = element.get("color", "standard")
    width = _number(element, "width", 0.0)
    return MarkRecord(
        s_offset=_number(element, "sOffset", 0.0),
        kind=element.get("type", "none"),
        color="white" if color == "standard" else color,
        width=width if width > 0.0 else 0.12,  # EN 1436 markings are 10 to 15 cm wide
    )


def _link(element: ET.Element | None) -> LinkRecord | None:
    if element is None or element.get("elementId") is None:
        return None
    return LinkRecord(
        element=element.get("elementType", "road"),
        element_id=int(element.attrib["elementId"]),
        contact=element.get("contactPoint", ""),
    )


def _signal(element: ET.Element, road_id: int) -> SignalRecord:
    return SignalRecord(
        signal_id=element.attrib["id"],
        road_id=road_id,
        s=_number(element, "s", 0.0),
        t=_number(element, "t", 0.0),
        orientation=element.get("orientation", "none"),
        kind=element.get("type", ""),
        value=_number(element, "value", 0.0),
        unit=element.get("unit", ""),
        z_offset=_number(element, "zOffset", 0.0),
        h_offset=_number(element, "hOffset", 0.0),
        validity=tuple(
            (int(e.attrib["fromLane"]), int(e.attrib["toLane"]))
            for e in element.findall("validity")
        ),
    )


def _speed(element: ET.Element | None) -> float | None:
    if element is None:
        return None
    text = element.get("max", "")
    try:
        return float(text) * MPS_PER_UNIT.get(element.get("unit", "m/s"), 1.0)
    except ValueError:  # "no limit" and "undefined" are allowed words
        return None


def _cubics(elements: list[ET.Element], start_name: str) -> Cubics:
    rows = sorted(
        (_number(e, start_name, 0.0), *(_number(e, name, 0.0) for name in "abcd")) for e in elements
    )
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    return Cubics(starts=table[:, 0].copy(), coefficients=table[:, 1:].copy())


def _number(element: ET.Element, name: str, default: float | None = None) -> float:
    text = element.get(name)
    if text is None or not text.strip():
        if default is None:
            raise ValueError(f"<{element.tag}> has no {name}")
        return default
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"<{element.tag}> has {name}={text}")
    return value
