# SPDX-License-Identifier: Apache-2.0
"""A town from a road network and a seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from flad_sim.scenery.materials import ASPHALT, GRASS, PAVEMENT
from flad_sim.scenery.mesh import MeshBuilder
from flad_sim.scenery.paint import TILE_BYTES, TILE_M, PaintRaster
from flad_sim.scenery.scenery import Scenery
from flad_sim.types import LaneStrip, RoadMark, Signal, Tag


class Network(Protocol):
    """What scenery needs of a road network (``flad_sim.opendrive.RoadNetwork``)."""

    @property
    def lanes(self) -> Sequence[LaneStrip]: ...
    @property
    def marks(self) -> Sequence[RoadMark]: ...
    @property
    def signals(self) -> Sequence[Signal]: ...


def grow_scenery(network: Network, seed: int) -> Scenery:
    """The scenery of ``network``; the same for the same ``seed``."""
    builder = MeshBuilder()
    points = np.concatenate([np.concatenate([s.left, s.right]) for s in network.lanes])
    (x0, y0), (x1, y1) = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    margin = 400.0
    z = float(points[:, 2].min()) - 0.02
    builder.fan(
        [
            [x0 - margin, y0 - margin, z],
            [x1 + margin, y0 - margin, z],
            [x1 + margin, y1 + margin, z],
            [x0 - margin, y1 + margin, z],
        ],
        rgb=(92, 112, 60),
        tag=Tag.TERRAIN,
        material=GRASS,
    )
    for strip in network.lanes:
        if strip.lane_type == "sidewalk":
            rise = np.array([0.0, 0.0, 0.15])
            builder.strip(
                strip.left + rise,
                strip.right + rise,
                rgb=(150, 148, 142),
                tag=Tag.SIDEWALKS,
                material=PAVEMENT,
            )
        else:
            builder.strip(
                strip.left, strip.right, rgb=(74, 75, 78), tag=Tag.ROADS, material=ASPHALT
            )
    size = (int((x1 - x0) // TILE_M) + 1, int((y1 - y0) // TILE_M) + 1)
    paint = PaintRaster(
        np.full(size, -1, dtype=np.int32),
        np.zeros((1, TILE_BYTES), dtype=np.uint8),
        (float(x0), float(y0)),
    )
    signals = tuple(s.signal_id for s in network.signals if s.kind == "1000001")
    return Scenery(
        mesh=builder.build(),
        paint=paint,
        facades=np.zeros((1, 12), dtype=np.float32),
        boxes=(),
        signals=signals,
        signal_lamps=np.zeros((3 * len(signals), 6), dtype=np.float32),
        street_lamps=np.zeros((0, 3), dtype=np.float32),
        bounds=(float(x0), float(y0), float(x1), float(y1)),
    )
