# SPDX-License-Identifier: Apache-2.0
"""The signals of a town as actors: lights, stop and yield signs, speed limits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from flad_sim.actors import TrafficLight, TrafficSign
from flad_sim.blueprints import BlueprintLibrary
from flad_sim.registry import ActorRegistry
from flad_sim.types import BoundingBox, LightState, LightStatus, Pose, Signal, Transform

LIGHT_KIND = "1000001"
_SIGNS = {"205": "traffic.yield", "206": "traffic.stop"}
_SPEED_LIMIT_KIND = "274"


def place_signals(
    actors: ActorRegistry, library: BlueprintLibrary, signals: Iterable[Signal]
) -> None:
    """Add one actor for each signal whose kind CARLA knows."""
    poles: dict[int, int] = defaultdict(int)
    for signal in signals:
        blueprint_id = _blueprint_id(signal)
        if blueprint_id is None:
            continue
        actor_id = actors.new_id()
        blueprint = library[blueprint_id]
        box, pose = trigger_in_own_frame(signal), Pose(actor_transform(signal))
        if signal.kind == LIGHT_KIND:
            actors.add(
                TrafficLight(
                    actor_id=actor_id,
                    blueprint=blueprint,
                    attributes={},
                    box=box,
                    pose=pose,
                    signal=signal,
                    status=LightStatus(signal.signal_id, LightState.RED),
                    pole_index=poles[signal.group],
                )
            )
            poles[signal.group] += 1
        else:
            actors.add(
                TrafficSign(
                    actor_id=actor_id,
                    blueprint=blueprint,
                    attributes={},
                    box=box,
                    pose=pose,
                    signal=signal,
                )
            )


def actor_transform(signal: Signal) -> Transform:
    """The actor's pose: a light's x axis lies across the lanes that it controls.

    The leaderboard's red light test walks along that axis of the trigger box to find the lanes.
    """
    if signal.kind != LIGHT_KIND:
        return signal.transform
    return signal.transform.moved(yaw=signal.transform.yaw + 90.0)


def trigger_in_own_frame(signal: Signal) -> BoundingBox:
    """The trigger box, given in the world, as seen from its actor."""
    own = actor_transform(signal)
    x, y, z = (float(v) for v in own.to_local(np.array([signal.trigger.center]))[0])
    yaw = (signal.trigger.yaw - own.yaw + 90.0) % 180.0 - 90.0  # a box looks the same turned round
    return BoundingBox((x, y, z), signal.trigger.extent, yaw)


def _blueprint_id(signal: Signal) -> str | None:
    if signal.kind == LIGHT_KIND:
        return "traffic.traffic_light"
    if signal.kind == _SPEED_LIMIT_KIND:
        return f"traffic.speed_limit.{round(signal.value / 5.0) * 5}"
    return _SIGNS.get(signal.kind)
