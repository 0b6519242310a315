# SPDX-License-Identifier: Apache-2.0
"""OpenDRIVE maps, read into CARLA's frame. Owns everything that is known from the map's text."""

from flad_sim.opendrive.network import RoadNetwork, read_opendrive
from flad_sim.opendrive.parse import OpenDriveError

__all__ = ["OpenDriveError", "RoadNetwork", "read_opendrive"]
