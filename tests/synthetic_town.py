# SPDX-License-Identifier: Apache-2.0
"""A crossroads written down by hand, and bare stages, for tests of scenery and sensors.

Traffic drives on the right: along +x on y in [0, 3.5], back on y in [-3.5, 0]; a street of the same
width crosses at x = 100. Pavements of 2.5 m lie at 0.12 m. The junction is |x - 100|, |y| < 9.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flad_sim.scenery import Scenery
from flad_sim.scenery.mesh import MeshBuilder
from flad_sim.scenery.paint import paint_quads
from flad_sim.types import (
    BoundingBox,
    LaneStrip,
    RoadMark,
    SensorRequest,
    Signal,
    StaticBox,
    Tag,
    Transform,
    VisibleActor,
    VisibleWorld,
    Weather,
)

LANE_M, PAVEMENT_M, JUNCTION_M, MIDDLE_X = 3.5, 2.5, 9.0, 100.0


@dataclass(frozen=True)
class HandmadeNetwork:
    """The four things scenery asks a road network for."""

    lanes: tuple[LaneStrip, ...]
    marks: tuple[RoadMark, ...]
    signals: tuple[Signal, ...]
    junction_areas: tuple[np.ndarray, ...]


def crossroads() -> HandmadeNetwork:
    """Four arms with pavements, lights for +x traffic (near side) and for +y traffic (far side)."""
    lanes: list[LaneStrip] = []
    marks: list[RoadMark] = []
    arms = [
        Transform(MIDDLE_X - JUNCTION_M, 0.0, yaw=180.0),
        Transform(MIDDLE_X + JUNCTION_M, 0.0, yaw=0.0),
        Transform(MIDDLE_X, -JUNCTION_M, yaw=-90.0),
        Transform(MIDDLE_X, JUNCTION_M, yaw=90.0),
    ]
    for road, arm in enumerate(arms):
        lanes += [
            # outward traffic keeps right, inward traffic comes on the other side
            _strip(road, -1, "driving", arm, 0.0, LANE_M),
            _strip(road, 1, "driving", arm, 0.0, -LANE_M, reverse=True),
            _strip(road, -2, "sidewalk", arm, LANE_M, LANE_M + PAVEMENT_M, z=0.12),
            _strip(road, 2, "sidewalk", arm, -LANE_M - PAVEMENT_M, -LANE_M, z=0.12),
        ]
        marks.append(RoadMark(_line(arm, 0.0), "broken", "yellow", 0.12))
        marks.append(RoadMark(_line(arm, LANE_M - 0.2), "solid", "white", 0.15))
    j = JUNCTION_M
    corners = [[-j, -j, 0.0], [j, -j, 0.0], [j, j, 0.0], [-j, j, 0.0]]
    area = np.array(corners) + np.array([MIDDLE_X, 0.0, 0.0])
    area[0, 2] = area[2, 2] = 0.12  # as where an outline touches a pavement
    signals = (
        _light(
            "near", Transform(MIDDLE_X - j, LANE_M / 2), Transform(MIDDLE_X - j + 0.5, LANE_M + 0.7)
        ),
        _light(
            "far",
            Transform(MIDDLE_X - LANE_M / 2, -j, yaw=90.0),
            Transform(MIDDLE_X - LANE_M - 0.8, j + 0.5, yaw=90.0),
        ),
    )
    return HandmadeNetwork(tuple(lanes), tuple(marks), signals, (area,))


def bare_scenery(*boxes: StaticBox) -> Scenery:
    """A grass plane at z = 0 with ``boxes`` of plain grey on it, no roads."""
    builder = MeshBuilder()
    far = 2000.0
    ring = [[-far, -far, 0.0], [far, -far, 0.0], [far, far, 0.0], [-far, far, 0.0]]
    builder.fan(ring, rgb=(90, 90, 90), tag=Tag.GROUND)
    for box in boxes:
        builder.box(box.center, box.extent, rgb=(150, 150, 150), tag=box.tag, yaw=box.yaw)
    return Scenery(
        mesh=builder.build(),
        paint=paint_quads(np.zeros((0, 4, 2)), np.zeros(0, dtype=np.int64)),
        facades=np.zeros((1, 12), dtype=np.float32),
        boxes=boxes,
        signals=(),
        signal_lamps=np.zeros((0, 7), dtype=np.float32),
        street_lamps=np.zeros((0, 3), dtype=np.float32),
        bounds=(-50.0, -50.0, 50.0, 50.0),
    )


def visible(
    *actors: VisibleActor, weather: Weather | None = None, frame: int = 1, **changes: object
) -> VisibleWorld:
    """A world at a frame of 0.05 s."""
    return VisibleWorld(
        frame=frame,
        elapsed_s=0.05 * frame,
        delta_s=0.05,
        weather=weather or Weather(),
        actors=actors,
        **changes,  # type: ignore[arg-type]
    )


def camera(
    place: Transform,
    kind: str = "rgb",
    *,
    size: tuple[int, int] = (160, 120),
    fov: float = 90.0,
    sensor_id: int = 1,
) -> SensorRequest:
    """A request for ``sensor.camera.<kind>``."""
    attributes = {"image_size_x": str(size[0]), "image_size_y": str(size[1]), "fov": str(fov)}
    return SensorRequest(sensor_id, f"sensor.camera.{kind}", attributes, place)


def pixels(payload: bytes) -> np.ndarray:
    """The BGRA image ``[H, W, 4]`` of a camera's payload."""
    width, height = np.frombuffer(payload, dtype="<u4", count=2)
    return np.frombuffer(payload, dtype=np.uint8, offset=12).reshape(height, width, 4)


def _strip(
    road: int,
    lane: int,
    kind: str,
    arm: Transform,
    left: float,
    right: float,
    *,
    reverse: bool = False,
    z: float = 0.0,
) -> LaneStrip:
    a, b = _line(arm, left, z), _line(arm, right, z)
    if reverse:
        a, b = a[::-1], b[::-1]
    return LaneStrip(road, 0, lane, kind, -1, a, b)


def _line(arm: Transform, offset: float, z: float = 0.0) -> np.ndarray:
    s = np.linspace(0.0, 80.0, 41)
    return arm.to_world(np.column_stack([s, np.full_like(s, offset), np.full_like(s, z)]))


def _light(name: str, stop: Transform, foot: Transform) -> Signal:
    return Signal(
        signal_id=name,
        kind="1000001",
        value=0.0,
        road_id=0,
        s=0.0,
        transform=foot.moved(yaw=stop.yaw + 180.0),
        height=4.0,
        trigger=BoundingBox(stop.location, (1.5, 1.5, 1.0), stop.yaw),
        stop_points=(stop,),
        group=1,
    )
