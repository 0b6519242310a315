# SPDX-License-Identifier: Apache-2.0
"""Something stands in our lane: the ego has to go round it."""

from __future__ import annotations

import carla

from flad_carla.evaluation.world_view import WorldState
from flad_carla.scenarios.base import Scenario


class ParkedObstacle(Scenario):
    """A broken-down car in the lane. Parameter: ``distance`` (m ahead of the trigger, 35)."""

    over_m = 100.0

    def place(self, state: WorldState, ego_s: float) -> bool:
        """The car, with its hand brake on and its hazard lights blinking."""
        s = self.start_s + self.config.number("distance", 35.0)
        self.clear_traffic(state, ego_s + 10.0, s + 40.0, side_m=6.0)
        car = self.spawn("vehicle.nissan.micra", self.stage.track.transform(s, 0.2))
        if car is None:
            return False
        car.apply_control(carla.VehicleControl(hand_brake=True, brake=1.0))
        blinkers = carla.VehicleLightState.RightBlinker | carla.VehicleLightState.LeftBlinker
        car.set_light_state(carla.VehicleLightState(blinkers))
        return True


class ConstructionObstacle(Scenario):
    """A construction site: a warning board, cones and a barrier. Parameter: ``distance`` (35)."""

    over_m = 100.0

    def place(self, state: WorldState, ego_s: float) -> bool:
        """The board first, the site behind it."""
        s = self.start_s + self.config.number("distance", 35.0)
        self.clear_traffic(state, ego_s + 10.0, s + 40.0, side_m=6.0)
        track = self.stage.track
        board = self.spawn("static.prop.trafficwarning", track.transform(s, 0.0, 180.0, up=0.0))
        for i, d in enumerate((-1.0, 0.0, 1.0)):
            self.spawn("static.prop.constructioncone", track.transform(s - 2.5, d, up=0.0))
            if i != 1:
                self.spawn("static.prop.constructioncone", track.transform(s + 3.0, d, up=0.0))
        self.spawn("static.prop.streetbarrier", track.transform(s + 5.5, 0.0, up=0.0))
        return board is not None
