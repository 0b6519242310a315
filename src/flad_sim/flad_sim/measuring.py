# SPDX-License-Identifier: Apache-2.0
"""From sensors that are due to messages on their streams, in the order of the sensors' ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flad_sim.actors import Sensor
from flad_sim.opendrive.geo import GeoReference
from flad_sim.protocol import payloads
from flad_sim.protocol.snapshot import pack_header
from flad_sim.sensors import SERVED, Renderer
from flad_sim.types import SensorRequest

if TYPE_CHECKING:
    from flad_sim.world import World


class Measurements:
    """Takes a frame's measurements; one per episode."""

    def __init__(self, renderer: Renderer, geo: GeoReference) -> None:
        self._renderer = renderer
        self._geo = geo

    def take(self, world: World, is_listened: Callable[[int], bool]) -> list[tuple[int, bytes]]:
        """Messages ``(stream id, header and payload)`` of this frame."""
        due = [
            s
            for s in world.actors.of_kind(Sensor)
            if s.stream_id and s.due(world.elapsed_s) and is_listened(s.stream_id)
        ]
        if not due:
            return []
        requests = [
            SensorRequest(
                s.actor_id,
                s.blueprint.blueprint_id,
                s.attributes,
                s.pose.transform,
                s.parent_id,
                s.pose.velocity,
            )
            for s in due
        ]
        done = self._renderer.render(
            world.visible(), [r for r in requests if r.blueprint in SERVED]
        )
        for s in due:
            if s.blueprint.blueprint_id == "sensor.other.gnss":
                t = s.pose.transform
                done[s.actor_id] = payloads.pack_gnss(*self._geo.to_geo(t.x, t.y, t.z))
        return [
            (
                s.stream_id,
                pack_header(s.sensor_type, world.frame, world.elapsed_s, s.pose.transform)
                + done[s.actor_id],
            )
            for s in due
            if s.actor_id in done
        ]
