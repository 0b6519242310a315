# SPDX-License-Identifier: Apache-2.0
"""Milliseconds of the world's parts, from a world that is stepped inside this process."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flad_bringup.bench.rows import Row
from flad_carla.rig import Rig, SensorSpec
from flad_sim.actors import Actor, Sensor
from flad_sim.errors import SimError
from flad_sim.protocol.structs import ActorDescription
from flad_sim.sensors.camera import CameraConfig
from flad_sim.sensors.reference import ReferenceTracer
from flad_sim.spawning import spawn
from flad_sim.types import Transform
from flad_sim.world import World, WorldConfig

_WARM_TICKS, _TICKS = 40, 120
_VEHICLE = "vehicle.lincoln.mkz_2020"


def part_rows(town: str, seed: int, num_actors: int, rig: Rig, delta_s: float) -> list[Row]:
    """Median milliseconds of each part of a frame."""
    world = World(WorldConfig(town=town, seed=seed, num_vehicles=num_actors, num_walkers=0))
    try:
        world.settings = replace(world.settings, fixed_delta_s=delta_s)
        sensors = _spawn_rig(world, rig)
        lidars = {s.stream_id for s in sensors if "lidar" in s.blueprint.blueprint_id}
        cameras = {s.stream_id for s in sensors} - lidars
        clock = _Clock()
        episode = world.episode
        clock.watch(episode.traffic, "step", "traffic")
        clock.watch(episode, "_move_driven", "physics")
        clock.watch(episode, "advance", "advance")
        clock.watch(world, "snapshot", "snapshot")
        for _ in range(_WARM_TICKS):
            world.tick()
        clock.spent_ms.clear()
        for _ in range(_TICKS):
            clock.time("cameras", lambda: world.tick(cameras.__contains__))
            clock.time("lidar", lambda: world.tick(lidars.__contains__))
            clock.time("nothing", lambda: world.tick(lambda _: False))
        ms = {name: statistics.median(values) for name, values in clock.spent_ms.items()}
        rows = {
            "traffic": ms["traffic"],
            "physics": ms["physics"],
            "bookkeeping": ms["advance"] - ms["traffic"] - ms["physics"],
            "snapshot": ms["snapshot"],
            "cameras": ms["cameras"] - ms["nothing"],
            "lidar": ms["lidar"] - ms["nothing"],
        }
        return [
            *(Row(name=f"sim_{k}_ms", value=v, unit="ms", better="lower") for k, v in rows.items()),
            _against_embreex(world, sensors),
        ]
    finally:
        world.close()


class _Clock:
    """Collects how long named calls take."""

    def __init__(self) -> None:
        self.spent_ms: dict[str, list[float]] = defaultdict(list)

    def time(self, name: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = call()
        self.spent_ms[name].append(1e3 * (time.perf_counter() - began))
        return result

    def watch(self, owner: Any, method: str, name: str) -> None:
        call = getattr(owner, method)
        timed = lambda *args, **kwargs: self.time(name, lambda: call(*args, **kwargs))  # noqa: E731
        setattr(owner, method, timed)


def _spawn_rig(world: World, rig: Rig) -> list[Sensor]:
    vehicle = _spawn_vehicle(world)
    sensors = []
    for spec in rig.sensors:
        p = spec.pose
        mount = Transform(p.x_m, p.y_m, p.z_m, p.pitch_deg, p.yaw_deg, p.roll_deg)
        sensor = spawn(world.episode, _description(spec), mount, vehicle.actor_id)
        assert isinstance(sensor, Sensor)
        sensors.append(sensor)
    return sensors


def _spawn_vehicle(world: World) -> Actor:
    refused: SimError | None = None
    for place in world.episode.spawn_points:
        try:
            return spawn(world.episode, ActorDescription(0, _VEHICLE, {}), place)
        except SimError as error:  # something stands there: try the next place
            refused = error
    raise RuntimeError(f"no spawn point of the town is free; the last refusal: {refused}")


def _description(spec: SensorSpec) -> ActorDescription:
    attributes = {key: str(value) for key, value in spec.attributes.items()}
    return ActorDescription(0, spec.type, attributes)


def _against_embreex(world: World, sensors: list[Sensor]) -> Row:
    """Depth of one camera's rays at the bare town, by our packets and by embreex's binding."""
    camera = next(s for s in sensors if s.blueprint.blueprint_id == "sensor.camera.rgb")
    view = CameraConfig.from_attributes(camera.attributes).view(camera.pose.transform)
    reference = ReferenceTracer(world.episode.scenery.mesh)
    num_rays = view.width * view.height
    clock = _Clock()
    for _ in range(6):
        clock.time("embreex", lambda: reference.depths_m(view))
        clock.time("ours", lambda: world.episode.renderer.depths_m(view))
    best = {name: min(values) for name, values in clock.spent_ms.items()}
    return Row(
        name="sim_primary_rays",
        value=1e-3 * num_rays / best["ours"],
        unit="Mrays/s",
        baseline="embreex's binding, one thread, same rays",
        baseline_value=1e-3 * num_rays / best["embreex"],
    )
