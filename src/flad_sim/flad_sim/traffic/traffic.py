# SPDX-License-Identifier: Apache-2.0
"""Everything that moves by itself: SUMO's vehicles, the lights, the pedestrians.

This is the only class that the world sees. It advances by whatever time the world takes; SUMO
inside always steps by 0.05 s, and poses in between are interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flad_sim.towns import Town
from flad_sim.traffic.lights import TrafficLights
from flad_sim.traffic.motion import Body, between, move_bodies, new_body
from flad_sim.traffic.population import Population
from flad_sim.traffic.simulation import STEP_S, SumoSimulation
from flad_sim.traffic.sumo_lights import SumoLights
from flad_sim.traffic.sumo_net import read_sumo_net
from flad_sim.types import ClientVehicle, LightState, LightStatus, MovingActor

_WARM_UP_S = 5.0  # so that the first frame shows traffic on its way
_EPSILON = 1e-6


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
        self._simulation = SumoSimulation(net, seed)
        try:
            self._sumo_lights = SumoLights(net, town.network.signals, self._lights)
            self._population = Population(self._simulation, seed, num_vehicles)
            self._bodies: dict[str, Body] = {}
            self._behind_s = 0.0  # how much of the last SUMO step the world has not seen yet
            self._population.keep((), tries=num_vehicles * 4)
            for _ in range(round(_WARM_UP_S / STEP_S)):
                self._step_sumo(())
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
            self._step_sumo(client_vehicles)
            self._behind_s += STEP_S

    def actors(self) -> list[MovingActor]:
        """All vehicles and pedestrians as they are now."""
        share = 1.0 - max(0.0, self._behind_s) / STEP_S
        share = 1.0 if share > 1.0 - _EPSILON else share
        return [
            MovingActor(
                key=key,
                blueprint=vehicle.kind.spec.blueprint,
                pose=between(self._bodies[key], share),
                color=vehicle.color,
                brake_light=vehicle.brake_light,
            )
            for key, vehicle in self._simulation.vehicles.items()
            if key in self._bodies
        ]

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
            self._bodies.pop(key, None)
            self._population.wanted -= 1

    def _step_sumo(self, clients: Sequence[ClientVehicle]) -> None:
        self._sumo_lights.update()
        self._simulation.step(clients)
        self._move_bodies()
        self._population.keep(clients)

    def _move_bodies(self) -> None:
        vehicles = self._simulation.vehicles
        for key in [k for k in self._bodies if k not in vehicles]:
            del self._bodies[key]
        fresh = [key not in self._bodies for key in vehicles]
        for key, v in vehicles.items():
            if key not in self._bodies:
                self._bodies[key] = new_body(v.kind.spec, v.x, v.y, v.yaw_deg)
        move_bodies(
            [self._bodies[key] for key in vehicles],
            np.array([[v.x, v.y] for v in vehicles.values()]).reshape(-1, 2),
            [v.yaw_deg for v in vehicles.values()],
            [v.speed_mps for v in vehicles.values()],
            fresh,
            self._network,
            STEP_S,
        )
