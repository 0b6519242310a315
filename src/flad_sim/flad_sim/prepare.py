# SPDX-License-Identifier: Apache-2.0
"""``python -m flad_sim.prepare``: compile every kernel ahead, so that no client waits for a compiler.

The kernels are cached on disk beside their sources; a second time this takes a few seconds.
"""

from __future__ import annotations

from flad_sim import physics
from flad_sim.catalogue import DEFAULT_VEHICLE
from flad_sim.scenery import grow_scenery
from flad_sim.sensors import SERVED, Renderer
from flad_sim.towns import available_towns, load_town
from flad_sim.types import SensorRequest, Transform, VisibleActor, VisibleWorld, Weather

_SMALL = {"image_size_x": "32", "image_size_y": "24", "points_per_second": "2000"}


def prepare() -> None:
    """Step a body and draw one small measurement of every kind."""
    physics.prepare()
    network = load_town(available_towns()[0]).network
    place = network.spawn_points()[0]
    car = VisibleActor(1, DEFAULT_VEHICLE, place)
    world = VisibleWorld(1, 0.05, 0.05, Weather(precipitation=50.0), (car,))
    renderer = Renderer(grow_scenery(network, 0))
    try:
        above = Transform(place.x, place.y, place.z + 5.0)
        for number, blueprint in enumerate(sorted(SERVED)):
            renderer.render(world, [SensorRequest(number, blueprint, _SMALL, above)])
    finally:
        renderer.close()


if __name__ == "__main__":
    prepare()
