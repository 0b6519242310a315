# SPDX-License-Identifier: Apache-2.0
"""Scenarios with another car: cutting in, coming at us in our lane, braking hard ahead."""

from __future__ import annotations

from typing import Any

from flad_carla.evaluation.world_view import WorldState
from flad_carla.scenarios.base import Scenario
from flad_carla.scenarios.path_driver import PathDriver, car_shape, pedals

# Ordinary cars, in the catalogues of CARLA 0.9.16 and of flad_sim.
_WIDEST_M = 20.0  # no street has its other side farther away
_CAR_IDS = (
    "vehicle.tesla.model3",
    "vehicle.audi.a2",
    "vehicle.seat.leon",
    "vehicle.toyota.prius",
    "vehicle.nissan.micra",
)


class _WithCar(Scenario):
    """One car of its own, driven along the route."""

    direction = 1

    def place_car(self, s: float, d: float) -> bool:
        """Spawn it at ``s``, ``d`` to the right."""
        turn = 0.0 if self.direction > 0 else 180.0
        blueprint = self.rng.choice(_CAR_IDS)
        self._car: Any = self.spawn(blueprint, self.stage.track.transform(s, d, turn))
        if self._car is None:
            return False
        self._driver = PathDriver(self.stage.track, s, self.direction, car_shape(self._car))
        return True

    def drive(self, state: WorldState, d: float, speed_mps: float) -> None:
        """One tick towards ``d`` and ``speed_mps``."""
        body = self.body(state, self._car)
        if body is not None:
            self._car.apply_control(self._driver.control(body, d, speed_mps))

    def hold(self, state: WorldState) -> None:
        """Stand, or brake as hard as it goes."""
        body = self.body(state, self._car)
        if body is not None:
            self._car.apply_control(pedals(body, 0.0))


class CutIn(_WithCar):
    """A slower car moves into our lane ahead of us: from the next lane, or from the kerb.

    Parameters: ``distance`` (m ahead of the ego when it begins, 14), ``speed`` (m/s, 5).
    """

    def place(self, state: WorldState, ego_s: float) -> bool:
        """Beside the lane, ahead of the trigger."""
        self._speed = self.config.number("speed", 5.0)
        self._at_s = self.start_s + self.config.number("distance", 14.0)
        self._from_d, self._from_kerb = self._side()
        self._merged_s: float | None = None
        self._lead_s = self._at_s
        self.clear_traffic(state, ego_s + 12.0, self.start_s + 60.0)
        return self.place_car(self._at_s, self._from_d)

    def _side(self) -> tuple[float, bool]:
        """Where the car comes from, and whether it stands there."""
        p = self.stage.track.point(self._at_s)
        here = self.stage.road.lane_at(p.x, p.y, p.z)
        for sign in (1, -1):
            beside = None if here is None else self.stage.road.beside(here, sign)
            if beside is not None and not beside.is_opposite:
                return beside.d, False
        return 0.5 * p.lane_width + 1.2, True

    def play(self, now_s: float, state: WorldState, ego_s: float) -> None:
        """Wait beside the lane, roll with the ego, merge, drive on."""
        if ego_s < self.start_s:
            self.hold(state)
            return
        if self._merged_s is None:
            self._merged_s = now_s
        since = now_s - self._merged_s
        share = min(1.0, since / 2.5)
        d = self._from_d * (1.0 - share * share * (3.0 - 2.0 * share))
        speed = self._speed if since < 8.0 else 7.5
        if since > 20.0 or self._driver.s > self.stage.track.length_m - 5.0:
            self.end()
            return
        self.drive(state, d, speed)


class OncomingDrift(_WithCar):
    """An oncoming car drifts over the centre line and goes back.

    Parameters: ``distance`` (m ahead of the trigger where it starts, 75), ``offset`` (m over into
    our side, 1.4), ``speed`` (m/s, 6). Keeping to the right of the lane suffices.
    """

    direction = -1

    def place(self, state: WorldState, ego_s: float) -> bool:
        """In the lane against ours."""
        self._speed = self.config.number("speed", 6.0)
        self._offset = self.config.number("offset", 1.4)
        far_s = self.start_s + self.config.number("distance", 75.0)
        lane_d = self._opposite_d(far_s)
        if lane_d is None:
            return False
        self._lane_d = lane_d
        self._begun_s: float | None = None
        self.clear_traffic(state, self.start_s - 20.0, far_s + 10.0, side_m=6.0)
        return self.place_car(far_s, lane_d)

    def _opposite_d(self, s: float) -> float | None:
        """Where the lane against ours is, past those that go our way."""
        p = self.stage.track.point(s)
        lane = self.stage.road.lane_at(p.x, p.y, p.z)
        d = 0.0
        while lane is not None and d > -_WIDEST_M:
            beside = self.stage.road.beside(lane, -1)
            if beside is None:
                return None
            d += beside.d
            if beside.is_opposite:
                return d
            lane = beside.point
        return None

    def play(self, now_s: float, state: WorldState, ego_s: float) -> None:
        """Come, drift for three seconds around the meeting, go back, vanish behind the ego."""
        if ego_s < self.start_s:
            self.hold(state)
            return
        if self._begun_s is None:
            self._begun_s = now_s
        gap = self._driver.s - ego_s
        if gap < -40.0 or self._driver.s < 5.0 or now_s - self._begun_s > 40.0:
            self.end()
            return
        over = 1.0 if 3.0 < gap < 38.0 else 0.0
        self.drive(state, self._lane_d + over * self._offset, self._speed)


class HardBrake(_WithCar):
    """The car ahead brakes to a stop for no reason, stands, and drives on.

    Parameters: ``distance`` (m that it leads us before it brakes, 30), ``speed`` (m/s, 6.5),
    ``standing`` (s, 4).
    """

    def place(self, state: WorldState, ego_s: float) -> bool:
        """In our lane at the trigger."""
        self._speed = self.config.number("speed", 6.5)
        self._lead_m = self.config.number("distance", 30.0)
        self._standing_s = self.config.number("standing", 4.0)
        self._stopped_at: float | None = None
        self.clear_traffic(state, ego_s + 12.0, self.start_s + 70.0)
        return self.place_car(self.start_s, 0.0)

    def play(self, now_s: float, state: WorldState, ego_s: float) -> None:
        """Wait for the ego, lead it, brake, stand, go on."""
        gone = self._driver.s - self.start_s
        if self._stopped_at is None and gone < 0.5 and self._driver.s - ego_s > 22.0:
            self.hold(state)
        elif self._stopped_at is None and gone < self._lead_m:
            self.drive(state, 0.0, self._speed)
        else:
            if self._stopped_at is None:
                self._stopped_at = now_s
            since = now_s - self._stopped_at
            if since < 2.0 + self._standing_s:
                self.hold(state)
            elif since > 20.0 or self._driver.s > self.stage.track.length_m - 5.0:
                self.end()
            else:
                self.drive(state, 0.0, self._speed + 1.0)
