# SPDX-License-Identifier: Apache-2.0
"""Numbers of the surface materials: what a triangle's ``material`` selects in the shader.

Plain integers, because compiled kernels freeze them; the shader is ``flad_sim.sensors.shading``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

PLAIN = 0  # the triangle's own colour, matt
ASPHALT = 1  # road, with paint looked up by position
PAVEMENT = 2  # concrete slabs
GRASS = 3
FACADE = 4  # windows; aux is the row of the facade table
FOLIAGE = 5
GLASS = 6
BODY = 7  # the actor's colour under clear coat
SIGNAL_LAMP = 8  # aux is 3 * signal + (0 red, 1 yellow, 2 green)
HEAD_LAMP = 9
BRAKE_LAMP = 10
STREET_LAMP = 11  # shines at night
ROOF = 12
METAL = 13
BLINKER_LEFT = 14
BLINKER_RIGHT = 15
REVERSE_LAMP = 16
CLOTH = 17  # the actor's colour, matt
SIGN = 18  # retroreflective: keeps its colour at night

NUM_MATERIALS = 19
FACADE_COLUMNS = 12  # of the table that describes facades, see scenery.buildings


def linear(rgb: ArrayLike) -> NDArray[np.float32]:
    """Linear light ``[..., 3]`` of 8-bit sRGB ``[..., 3]``."""
    c = np.asarray(rgb, dtype=np.float64) / 255.0
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4).astype(np.float32)
