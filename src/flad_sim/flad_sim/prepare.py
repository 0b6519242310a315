# SPDX-License-Identifier: Apache-2.0
"""``python -m flad_sim.prepare``: compile every kernel, so that no client waits for a compiler.

The kernels are cached on disk beside their sources; a second time this takes a few seconds.
"""

from __future__ import annotations

from flad_sim import physics
from flad_sim.scenery import grow_scenery
from flad_sim.sensors import Renderer
from flad_sim.towns import available_towns, load_town


def prepare() -> None:
    """Step a body, and make a renderer, which draws once of every kind when it is made."""
    physics.prepare()
    network = load_town(available_towns()[0]).network
    Renderer(grow_scenery(network, 0)).close()


if __name__ == "__main__":
    prepare()
