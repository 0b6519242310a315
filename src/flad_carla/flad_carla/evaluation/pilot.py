# SPDX-License-Identifier: Apache-2.0
"""Who turns a decision into a control: the interface; ``pilot_node.py`` has the pilot over DDS."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import carla

from flad_carla.expert.driver import Decision
from flad_carla.run_log import BodyView, DriverView, PlanView, Point, PredictionView
from flad_carla.session import Tick
from flad_planner.language.narrator import Words


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the planner answered to one tick."""

    control: carla.VehicleControl
    state: str = ""
    desired_speed_mps: float = math.nan
    plan: PlanView | None = None  # another driver's plan, where one was heard
    latency_s: float = math.nan
    prediction: PredictionView | None = None  # the encoder's newest, where one runs
    driver: DriverView | None = None  # who drove the newest frame, where one drives by words


class Pilot(Protocol):
    """One ego's way from a decision to a control."""

    def start(self, role: str) -> None:
        """A new ego of this role is in the world."""

    def answer(
        self,
        tick: Tick,
        ego: BodyView,
        decision: Decision | None,
        far_node: Point | None = None,
        words: Words | None = None,
    ) -> Answer:
        """Publish the tick and the decision (None: no plan is due); wait for the control.

        ``far_node`` is the route's next far node in the world, which an encoder is told, and
        ``words`` are what a language driver is.
        """

    def await_edge(self, is_there: bool) -> None:
        """In lockstep, wait until the driver knows that its edge is there, or gone."""

    def end(self) -> None:
        """The ego is about to go."""

    def close(self) -> None:
        """Free everything."""
