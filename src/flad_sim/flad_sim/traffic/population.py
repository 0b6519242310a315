# SPDX-License-Identifier: Apache-2.0
"""Keeps the number of vehicles: places new ones where nobody sees them appear."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from flad_sim.traffic.fleet import draw_color, draw_kind
from flad_sim.traffic.simulation import SumoSimulation
from flad_sim.traffic.sumo_net import NetLane
from flad_sim.types import ClientVehicle

OUT_OF_SIGHT_M = 60.0
_ROUTE_M = 800.0
_END_MARGIN_M = 12.0  # a new vehicle needs room to brake before a junction
_SPACING_M = 14.0  # between new vehicles and others
_TRIES_PER_STEP = 8
_START_SHARE = 0.6  # of the lane's limit: new vehicles are already on their way


class Population:
    """Places vehicles; the numbers come only from the seed and from what has happened."""

    def __init__(self, simulation: SumoSimulation, seed: int, wanted: int) -> None:
        self._simulation = simulation
        self._rng = random.Random(f"population {seed}")
        self.wanted = wanted
        net = simulation.net
        self._lanes: list[NetLane] = [
            lane
            for edge in net.car_edges()
            for lane in (net.lanes[i] for i in net.edges[edge])
            if lane.for_cars and lane.length > 2.0 * _END_MARGIN_M
        ] or [net.lanes[i] for e in net.car_edges() for i in net.edges[e] if net.lanes[i].for_cars]
        self._weights = [lane.length for lane in self._lanes]

    def keep(self, clients: Sequence[ClientVehicle], tries: int = _TRIES_PER_STEP) -> None:
        """Ask for one vehicle for each that is missing, as far as places are found."""
        self._simulation.extend_routes(self._rng, _ROUTE_M)
        self._simulation.settle_lanes(self._rng, _ROUTE_M)
        missing = self.wanted - len(self._simulation.vehicles)
        taken = [(v.x, v.y) for v in self._simulation.vehicles.values()]
        for _ in range(min(missing, tries)):
            self._place(clients, taken)

    def _place(self, clients: Sequence[ClientVehicle], taken: list[tuple[float, float]]) -> None:
        rng = self._rng
        kind = draw_kind(rng, self._simulation.kinds)
        color = draw_color(rng, kind.spec)
        lane = rng.choices(self._lanes, self._weights)[0]
        if kind.cycles:
            if lane.edge not in self._simulation.net.cycle_ways:
                return
            lane = self._rightmost(lane)
        length = 2.0 * kind.spec.extent[0]
        highest = max(length + 0.5, lane.length - _END_MARGIN_M)
        position = rng.uniform(min(length + 0.5, highest), highest)
        x, y = _along(lane, position)
        near = (c.pose.transform for c in clients)
        if any(math.hypot(t.x - x, t.y - y) < OUT_OF_SIGHT_M + length for t in near):
            return
        if position > lane.length or any(math.hypot(p - x, q - y) < _SPACING_M for p, q in taken):
            return
        route = self._simulation.net.walk(rng, lane.edge, _ROUTE_M, cycling=kind.cycles)
        speed = min(_START_SHARE * lane.speed_mps, kind.top_speed_mps)
        self._simulation.add(kind, color, route, lane.index, position, speed)
        taken.append((x, y))

    def _rightmost(self, lane: NetLane) -> NetLane:
        net = self._simulation.net
        usable = [net.lanes[i] for i in net.edges[lane.edge] if net.lanes[i].for_cars]
        return next((k for k in usable if k.for_bicycles), usable[0])


def _along(lane: NetLane, position: float) -> tuple[float, float]:
    for i in range(len(lane.run) - 1):
        if lane.run[i + 1] >= position or i == len(lane.run) - 2:
            gap = lane.run[i + 1] - lane.run[i]
            share = 0.0 if gap <= 0.0 else min(1.0, (position - lane.run[i]) / gap)
            p = lane.points[i] + share * (lane.points[i + 1] - lane.points[i])
            return (float(p[0]), float(p[1]))
    return (float(lane.points[0][0]), float(lane.points[0][1]))
