# SPDX-License-Identifier: Apache-2.0
"""Light times for recording: short greens across, a long one for whoever records.

With the towns' own programs the car stood still for a quarter of a recording, with these for a
twelfth; it drove up to somewhat more green lights than red ones. Only the public CARLA calls are
used, so it works against any server.
"""

from __future__ import annotations

from dataclasses import dataclass

import carla

from flad_carla.run_log import ExpertView


@dataclass(frozen=True, kw_only=True)
class FavouredLightsConfig:
    """Seconds of each stage; yellow and all-red as in the towns: a shorter yellow is run over."""

    green_s: float = 14.0  # of the approach that the car is on
    cross_green_s: float = 4.0  # of every other
    yellow_s: float = 3.0
    all_red_s: float = 2.0

    def __post_init__(self) -> None:
        for name in ("green_s", "cross_green_s", "yellow_s", "all_red_s"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


class FavouredLights:
    """Sets the times of all lights at the start, and of the next light on the way."""

    def __init__(self, config: FavouredLightsConfig | None = None) -> None:
        self._config = config or FavouredLightsConfig()
        self._favoured = -1
        self._behind: set[int] = set()  # still with a favoured green

    def start(self, world: carla.World) -> None:
        """All lights get the short times; called once the car stands in the world."""
        c = self._config
        self._favoured = -1
        self._behind.clear()
        for light in world.get_actors().filter("traffic.traffic_light*"):
            light.set_green_time(c.cross_green_s)
            light.set_yellow_time(c.yellow_s)
            light.set_red_time(c.all_red_s)

    def step(self, world: carla.World, expert: ExpertView) -> None:
        """Favour the light that the car comes to; once its green is over it is as all others.

        Not before: a light stops being ahead when the front bumper is over its line, and a green
        that ended then would be a red light run.
        """
        ahead = expert.affected_light_id
        if ahead != self._favoured:
            self._behind.add(self._favoured)
            self._behind -= {-1, ahead}
            self._favoured = ahead
            light = world.get_actor(ahead) if ahead >= 0 else None
            if light is not None:
                light.set_green_time(self._config.green_s)
        for light_id in sorted(self._behind):
            light = world.get_actor(light_id)
            if light is None or light.get_state() != carla.TrafficLightState.Green:
                self._behind.remove(light_id)
                if light is not None:
                    light.set_green_time(self._config.cross_green_s)
