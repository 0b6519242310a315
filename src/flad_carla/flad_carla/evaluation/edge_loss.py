# SPDX-License-Identifier: Apache-2.0
"""Takes the edge away from a vehicle that drives by it, and gives it back."""

from __future__ import annotations

from typing import Protocol

from flad_carla.evaluation.language_driver import EdgeLossWindow
from flad_carla.evaluation.pilot import Pilot


class EdgeSwitch(Protocol):
    """Whoever runs the edge."""

    def lose_edge(self) -> None:
        """Kill it without warning."""

    def regain_edge(self) -> None:
        """Start another one."""


class EdgeLoss:
    """One route's loss; in lockstep the world stands still until the driver has noticed."""

    def __init__(self, window: EdgeLossWindow, switch: EdgeSwitch, pilot: Pilot) -> None:
        self._window = window
        self._switch = switch
        self._pilot = pilot
        self._is_lost = self._was_lost = False

    def step(self, time_s: float) -> None:
        """Before a tick is answered, at its simulated time since the start of the route."""
        if not self._was_lost and time_s >= self._window.lost_s:
            self._is_lost = self._was_lost = True
            self._switch.lose_edge()
            self._pilot.await_edge(False)
        if self._is_lost and time_s >= self._window.back_s:
            self._is_lost = False
            self._switch.regain_edge()
            self._pilot.await_edge(True)
