# SPDX-License-Identifier: Apache-2.0
"""A town from a road network and a seed."""

from __future__ import annotations

import numpy as np

from flad_sim.scenery.buildings import add_houses
from flad_sim.scenery.edges import outer_edges
from flad_sim.scenery.furniture import Furnisher
from flad_sim.scenery.ground import Ground
from flad_sim.scenery.markings import painted
from flad_sim.scenery.materials import FACADE_COLUMNS
from flad_sim.scenery.mesh import MeshBuilder
from flad_sim.scenery.network import UNPAVED, Network, is_road
from flad_sim.scenery.roads import add_roads
from flad_sim.scenery.scenery import LAMP_COLUMNS, Scenery
from flad_sim.scenery.signals import add_signals


def grow_scenery(network: Network, seed: int) -> Scenery:
    """The scenery of ``network``; the same for the same ``seed``."""
    rng = np.random.default_rng([seed, 0x5CE7E])
    builder = MeshBuilder()
    ground = Ground(network.lanes, network.junction_areas)
    add_roads(builder, network, ground)
    works = add_signals(builder, network, ground)
    ground.take(np.array([box.center[:2] for box in works.boxes]).reshape(-1, 2))
    kerbs = outer_edges(network.lanes, lambda s: is_road(s.lane_type), ground.road_gap)
    streets = outer_edges(network.lanes, lambda s: s.lane_type not in UNPAVED, ground.paved_gap)
    houses = add_houses(builder, streets, ground, rng)
    furnisher = Furnisher(builder, ground, rng, works.sight_lines)
    furnisher.line_kerbs(kerbs)
    furnisher.plant_gardens(streets)
    furnisher.plant_parks()
    life = furnisher.placed
    facades = np.array(houses.facades, dtype=np.float32).reshape(-1, FACADE_COLUMNS)
    return Scenery(
        mesh=builder.build(),
        paint=painted(network),
        facades=facades if len(facades) else np.zeros((1, FACADE_COLUMNS), dtype=np.float32),
        boxes=(*works.boxes, *houses.boxes, *life.boxes),
        signals=tuple(works.names),
        signal_lamps=np.array(works.lamps, dtype=np.float32).reshape(-1, LAMP_COLUMNS),
        street_lamps=np.array(life.lamps, dtype=np.float32).reshape(-1, 3),
        bounds=ground.bounds,
    )
