# SPDX-License-Identifier: Apache-2.0
"""Towns: four of our own, and any OpenDRIVE file of the user's."""

from flad_sim.towns.errors import TownError
from flad_sim.towns.load import Town, available_towns, build_towns, load_town

__all__ = ["Town", "TownError", "available_towns", "build_towns", "load_town"]
