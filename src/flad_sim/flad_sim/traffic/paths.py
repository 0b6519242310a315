# SPDX-License-Identifier: Apache-2.0
"""Where SUMO's vehicles will drive: their lanes ahead, as numbers that kernels can walk along."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flad_sim.traffic.simulation import SumoVehicle
from flad_sim.traffic.sumo_net import SumoNet
from flad_sim.types import FloatArray

IntArray = NDArray[np.int64]

MAX_LANES = 10
_LOOK_AHEAD_M = 90.0


@dataclass(frozen=True, slots=True)
class LaneTable:
    """All lanes' points one after another; lane i has points ``starts[i]:starts[i + 1]``."""

    starts: IntArray  # [L + 1]
    points: FloatArray  # [P, 3], CARLA's frame
    run: FloatArray  # [P], metres along the lane


class PathBook:
    """Keeps every vehicle's lanes ahead, looked up again only when it changes lanes."""

    def __init__(self, net: SumoNet) -> None:
        self._net = net
        self._index = {lane_id: i for i, lane_id in enumerate(net.lanes)}
        lanes = list(net.lanes.values())
        sizes = [len(lane.points) for lane in lanes]
        self.table = LaneTable(
            starts=np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
            points=np.ascontiguousarray(np.concatenate([lane.points for lane in lanes])),
            run=np.concatenate([lane.run for lane in lanes]),
        )
        self._known: dict[str, tuple[tuple[str, int, int], IntArray]] = {}

    def rows(self, vehicles: list[SumoVehicle]) -> IntArray:
        """Lane numbers ahead of each vehicle, its own first, ``[V, MAX_LANES]``, -1 unused."""
        rows = np.full((len(vehicles), MAX_LANES), -1, dtype=np.int64)
        keys = set()
        for i, vehicle in enumerate(vehicles):
            state = (vehicle.lane, vehicle.route_index, len(vehicle.route))
            known = self._known.get(vehicle.key)
            if known is None or known[0] != state:
                known = (state, self._row(vehicle))
                self._known[vehicle.key] = known
            rows[i] = known[1]
            keys.add(vehicle.key)
        if len(self._known) > 2 * len(keys) + 16:
            self._known = {k: v for k, v in self._known.items() if k in keys}
        return rows

    def _row(self, vehicle: SumoVehicle) -> IntArray:
        net = self._net
        row = np.full(MAX_LANES, -1, dtype=np.int64)
        lane, ahead = vehicle.lane, -vehicle.lane_pos_m
        step = vehicle.route_index
        for k in range(MAX_LANES):
            if lane not in self._index:
                break
            row[k] = self._index[lane]
            ahead += net.lanes[lane].length
            if ahead > _LOOK_AHEAD_M:
                break
            if lane.startswith(":"):
                links = net.links.get(lane, ())
                lane = (links[0].via or links[0].to_lane) if links else ""
                continue
            step += 1
            if step >= len(vehicle.route):
                break
            lane = self._over_junction(lane, vehicle.route[step])
        return row

    def _over_junction(self, lane: str, edge: str) -> str:
        """The first lane after ``lane`` on the way to ``edge``; it may need a lane change first."""
        net = self._net
        own = net.lanes[lane]
        siblings = sorted(
            net.edges[own.edge], key=lambda i: (abs(net.lanes[i].index - own.index), i)
        )
        for start in siblings:
            for link in net.links.get(start, ()):
                if net.lanes[link.to_lane].edge == edge:
                    return link.via or link.to_lane
        return ""
