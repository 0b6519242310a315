# SPDX-License-Identifier: Apache-2.0
"""Everything that moves by itself: SUMO's vehicles, the lights, the pedestrians.

This is the only class that the world sees. It advances by whatever time the world takes; SUMO
inside always steps by 0.05 s, and poses in between are interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from flad_sim.towns import Town
from flad_sim.traffic.crossing_guard import is_safe
from flad_sim.traffic.guard import Guard, Movers
from flad_sim.traffic.lights import LIGHT_KIND, TrafficLights
from flad_sim.traffic.motion import Bodies, interpolated
from flad_sim.traffic.paths import PathBook
from flad_sim.traffic.pavements import Pavements, find_pavements
from flad_sim.traffic.population import OUT_OF_SIGHT_M, Population
from flad_sim.traffic.prediction import RoadUsers
from flad_sim.traffic.simulation import STEP_S, SumoSimulation, SumoVehicle
from flad_sim.traffic.sumo_lights import SumoLights
from flad_sim.traffic.sumo_net import SumoNet, read_sumo_net
from flad_sim.traffic.walkers import Walker, Walkers
from flad_sim.types import (
    ClientVehicle,
    FloatArray,
    LightState,
    LightStatus,
    MovingActor,
    Transform,
)

_WARM_UP_S = 5.0  # so that the first frame shows traffic on its way
_EPSILON = 1e-6
_STUCK_UNSEEN_S = 90.0  # then a vehicle is taken out if no client is near
_STUCK_SEEN_S = 150.0  # then even in sight; a leaderboard calls its own car blocked at 180 s


class Traffic:
    """One episode of traffic. Single-threaded; one per process (libsumo)."""

    def __init__(self, town: Town, *, seed: int, num_vehicles: int, num_walkers: int) -> None:
        """Start an episode; equal arguments and steps give equal states to the last bit.

        Raises:
            TrafficError: if another one is open, or SUMO refuses the network.
        """
        if num_vehicles < 0 or num_walkers < 0:
            raise ValueError(
                f"num_vehicles and num_walkers must not be negative, got {num_vehicles} and "
                f"{num_walkers}"
            )
        self._network = town.network
        net = read_sumo_net(town.net_file)
        self._lights = TrafficLights(town.network.signals, seed)
        self._paths = PathBook(net)
        self._guard = Guard(self._paths.table)
        self._users = RoadUsers(town.network)
        self._walkers = Walkers(
            town.network,
            find_pavements(town.network) if num_walkers else Pavements(),
            seed,
            num_walkers,
        )
        self._stops = [
            (s.signal_id, p.x, p.y, math.radians(p.yaw))
            for s in town.network.signals
            if s.kind == LIGHT_KIND
            for p in s.stop_points
        ]
        self._bodies = Bodies(town.network)
        self._behind_s = 0.0  # how much of the last SUMO step the world has not seen yet
        self._simulation = SumoSimulation(net, seed)
        try:
            self._simulation.limit_lanes(_map_limits(net, town))
            self._sumo_lights = SumoLights(net, town.network.signals, self._lights)
            self._population = Population(self._simulation, seed, num_vehicles)
            self._population.keep((), tries=num_vehicles * 4)
            for _ in range(round(_WARM_UP_S / STEP_S)):
                self._lights.step(STEP_S)
                self._step_sumo((), ())
        except Exception:
            self._simulation.close()
            raise

    def close(self) -> None:
        """End the episode; doing it twice is allowed."""
        self._simulation.close()

    def step(
        self,
        dt_s: float,
        client_vehicles: Sequence[ClientVehicle] = (),
        client_walkers: Sequence[ClientVehicle] = (),
    ) -> None:
        """Advance by ``dt_s`` seconds, reacting to what the client moves."""
        if not dt_s > 0.0:
            raise ValueError(f"dt_s must be positive, got {dt_s}")
        self._lights.step(dt_s)
        self._behind_s -= dt_s
        while self._behind_s < -_EPSILON:
            self._step_sumo(client_vehicles, client_walkers)
            self._behind_s += STEP_S

    def actors(self) -> list[MovingActor]:
        """All vehicles and pedestrians as they are now."""
        share = 1.0 - max(0.0, self._behind_s) / STEP_S
        share = 1.0 if share > 1.0 - _EPSILON else share
        vehicles = [
            MovingActor(
                key=key,
                blueprint=vehicle.kind.spec.blueprint,
                pose=self._bodies.pose(row, share),
                color=vehicle.color,
                brake_light=vehicle.brake_light,
            )
            for key, vehicle in self._simulation.vehicles.items()
            if (row := self._bodies.row(key)) is not None
        ]
        walkers = [
            MovingActor(
                key=w.key,
                blueprint=w.spec.blueprint,
                pose=interpolated(w.last, w.pose, share),
                walk_speed=w.now_mps,
            )
            for w in self._walkers.walkers.values()
        ]
        return vehicles + walkers

    def lights(self) -> list[LightStatus]:
        """All traffic lights as they are now."""
        return self._lights.statuses()

    def set_light(self, signal_id: str, state: LightState) -> None:
        """See `TrafficLights.set_state`."""
        self._lights.set_state(signal_id, state)

    def set_light_times(
        self,
        signal_id: str,
        green: float | None = None,
        yellow: float | None = None,
        red: float | None = None,
    ) -> None:
        """See `TrafficLights.set_times`; seconds."""
        self._lights.set_times(signal_id, green, yellow, red)

    def freeze_lights(self, frozen: bool) -> None:
        """See `TrafficLights.freeze`."""
        self._lights.freeze(frozen)

    def reset_lights(self) -> None:
        """See `TrafficLights.reset`."""
        self._lights.reset()

    def light_group(self, signal_id: str) -> list[str]:
        """See `TrafficLights.group`."""
        return self._lights.group(signal_id)

    def remove(self, key: str) -> None:
        """A client took this actor: it leaves the traffic and is not replaced."""
        if key in self._simulation.vehicles:
            self._simulation.remove(key)
            self._population.wanted -= 1
        else:
            self._walkers.remove(key)

    def _step_sumo(
        self, clients: Sequence[ClientVehicle], client_walkers: Sequence[ClientVehicle]
    ) -> None:
        self._sumo_lights.update()
        self._limit_speeds(clients, client_walkers)
        self._simulation.step(clients)
        self._bodies.step(self._simulation.vehicles, STEP_S)
        self._move_walkers(clients, client_walkers)
        self._remove_stuck(clients)
        self._population.keep(clients)

    def _limit_speeds(
        self, clients: Sequence[ClientVehicle], client_walkers: Sequence[ClientVehicle]
    ) -> None:
        vehicles = list(self._simulation.vehicles.values())
        if not vehicles:
            return
        movers = self._movers(vehicles)
        crossing = [_as_obstacle(w) for w in self._walkers.on_road()]
        obstacles = self._users.predict(
            clients, [*client_walkers, *crossing], self._red_lines(bool(clients))
        )
        bends = self._guard.bend_limits(movers)
        yields = self._guard.yield_limits([v.key for v in vehicles], movers, obstacles, STEP_S)
        for vehicle, bend, give_way in zip(vehicles, bends.tolist(), yields.tolist(), strict=True):
            self._simulation.limit_speed(vehicle, min(bend, give_way), give_way < bend)

    def _movers(self, vehicles: list[SumoVehicle]) -> Movers:
        rows = self._bodies.rows([v.key for v in vehicles])
        return Movers(
            paths=self._paths.rows(vehicles),
            position=np.array([v.lane_pos_m for v in vehicles]),
            speed=np.array([v.speed_mps for v in vehicles]),
            half=self._bodies.half[rows],
            xyz=self._bodies.centers()[rows],
            yaw=np.radians(self._bodies.now[rows, 4]),
        )

    def _red_lines(self, wanted: bool) -> FloatArray:
        if not wanted:
            return np.empty((0, 3))
        rows = [
            (x, y, yaw) for i, x, y, yaw in self._stops if self._lights.state(i) != LightState.GREEN
        ]
        return np.array(rows).reshape(-1, 3)

    def _move_walkers(
        self, clients: Sequence[ClientVehicle], client_walkers: Sequence[ClientVehicle]
    ) -> None:
        if not self._walkers.walkers:
            return
        vehicles = list(self._simulation.vehicles.values())
        waiting = self._walkers.waiting_for()
        if waiting:
            movers = self._movers(vehicles)
            lanes = self._simulation.net.lanes
            ends = np.array(
                [lanes[v.lane].length - v.lane_pos_m if v.lane in lanes else 0.0 for v in vehicles]
            )
            obstacles = self._users.predict(clients, (), self._red_lines(bool(clients)))
            for walker, crossing, seconds in waiting:
                safe = is_safe(
                    crossing,
                    seconds,
                    walker.waiting_s,
                    movers,
                    ends,
                    obstacles,
                    self._lights,
                    self._paths.table,
                )
                self._walkers.answer(walker, safe)
        self._walkers.step(STEP_S, self._circles(clients, client_walkers))

    def _circles(
        self, clients: Sequence[ClientVehicle], client_walkers: Sequence[ClientVehicle]
    ) -> FloatArray:
        """Everything that pedestrians stop for, as circles (x, y, radius)."""
        centers = self._bodies.centers()
        yaw = np.radians(self._bodies.now[:, 4])
        ahead = np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
        reach = np.maximum(0.0, self._bodies.half[:, :1] - 1.0) * ahead
        own = np.concatenate([centers[:, :2] + k * reach for k in (-1.0, 0.0, 1.0)])
        circles = np.column_stack([own, np.full(len(own), 1.0)])
        theirs = [
            row
            for body in (*clients, *client_walkers)
            for row in _three_circles(body.pose.transform, body.extent[0], body.extent[1])
        ]
        return np.concatenate([circles, np.array(theirs).reshape(-1, 3)])

    def _remove_stuck(self, clients: Sequence[ClientVehicle]) -> None:
        for vehicle in list(self._simulation.vehicles.values()):
            if vehicle.still_s < _STUCK_UNSEEN_S:
                continue
            near = any(
                math.hypot(c.pose.transform.x - vehicle.x, c.pose.transform.y - vehicle.y)
                < OUT_OF_SIGHT_M
                for c in clients
            )
            if not near or vehicle.still_s > _STUCK_SEEN_S:
                self._simulation.remove(vehicle.key)


def _as_obstacle(walker: Walker) -> ClientVehicle:
    return ClientVehicle(-1, walker.spec.blueprint, walker.pose, (0.4, 0.4, 0.9))


def _three_circles(t: Transform, half_length: float, radius: float) -> list[tuple[float, ...]]:
    reach = max(0.0, half_length - radius)
    c, s = math.cos(math.radians(t.yaw)), math.sin(math.radians(t.yaw))
    return [(t.x + k * reach * c, t.y + k * reach * s, radius) for k in (-1.0, 0.0, 1.0)]


def _map_limits(net: SumoNet, town: Town) -> dict[str, float]:
    """Speed limits (m/s) that the map states for the lanes of SUMO's network."""
    lanes = [lane for lane in net.lanes.values() if lane.for_cars]
    middles = np.array([lane.points[len(lane.points) // 2] for lane in lanes]).reshape(-1, 3)
    limits = town.network.speed_limits_kmh(middles[:, :2], middles[:, 2]) / 3.6
    return {lane.lane_id: float(v) for lane, v in zip(lanes, limits, strict=True)}
