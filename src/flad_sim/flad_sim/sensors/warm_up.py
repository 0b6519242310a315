# SPDX-License-Identifier: Apache-2.0
"""``python -m flad_sim.sensors.warm_up``: compile the kernels now, so that no start has to."""

from __future__ import annotations

import numpy as np

from flad_sim.scenery.mesh import MeshBuilder
from flad_sim.scenery.paint import paint_quads
from flad_sim.scenery.scenery import LAMP_COLUMNS, Scenery
from flad_sim.sensors.renderer import Renderer
from flad_sim.types import Tag


def main() -> None:
    """Make a renderer of a bare plane: it compiles, or finds the cache filled."""
    builder = MeshBuilder()
    plane = [[-9.0, -9.0, 0.0], [9.0, -9.0, 0.0], [9.0, 9.0, 0.0], [-9.0, 9.0, 0.0]]
    builder.fan(plane, rgb=(90, 90, 90), tag=Tag.GROUND)
    Renderer(
        Scenery(
            mesh=builder.build(),
            paint=paint_quads(np.zeros((0, 4, 2)), np.zeros(0, dtype=np.int64)),
            facades=np.zeros((1, 12), dtype=np.float32),
            boxes=(),
            signals=(),
            signal_lamps=np.zeros((0, LAMP_COLUMNS), dtype=np.float32),
            street_lamps=np.zeros((0, 3), dtype=np.float32),
            bounds=(-9.0, -9.0, 9.0, 9.0),
        )
    ).close()


if __name__ == "__main__":
    main()
