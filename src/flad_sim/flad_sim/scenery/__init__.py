# SPDX-License-Identifier: Apache-2.0
"""What stands around the roads: a town grown from a road network by seed."""

from __future__ import annotations

from flad_sim.scenery.grow import grow_scenery
from flad_sim.scenery.scenery import Scenery

__all__ = ["Scenery", "grow_scenery"]
