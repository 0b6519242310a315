# SPDX-License-Identifier: Apache-2.0
"""What moves by itself: SUMO's vehicles, traffic lights and pedestrians."""

from flad_sim.traffic.errors import TrafficError
from flad_sim.traffic.traffic import Traffic

__all__ = ["Traffic", "TrafficError"]
