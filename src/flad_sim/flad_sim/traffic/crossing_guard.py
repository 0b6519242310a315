# SPDX-License-Identifier: Apache-2.0
"""Whether a pedestrian can step onto a crossing: nothing reaches it before the other kerb is."""

from __future__ import annotations

import math

import numpy as np

from flad_sim.traffic.guard import Movers, distance_to_crossing
from flad_sim.traffic.lights import TrafficLights
from flad_sim.traffic.paths import LaneTable
from flad_sim.traffic.pavements import Crossing
from flad_sim.traffic.prediction import NUM_TIMES, TIME_STEP_S, Obstacles
from flad_sim.types import FloatArray, LightState

_RESERVE_S = 1.0
_AFTER_LINE_M = 7.0  # a crossing this close behind a stop line belongs to its light
_STOPPING = 4.0  # m/s^2 that a driver uses for a red light
_STARTING = 1.6  # m/s^2 of a standing vehicle that moves off
_ASSERTIVE_S = 10.0  # after waiting so long one walks in front of cars that stand
_WIDTH_M = 1.5  # of the strip that has to stay free, to each side of the line


def is_safe(
    crossing: Crossing,
    seconds: float,
    waited_s: float,
    movers: Movers,
    ends_m: FloatArray,
    clients: Obstacles,
    lights: TrafficLights,
    table: LaneTable,
) -> bool:
    """Decide for one pedestrian.

    Args:
        crossing: the way over the road.
        seconds: what crossing it takes.
        waited_s: how long the pedestrian has stood there.
        movers: SUMO's vehicles.
        ends_m: metres from each vehicle's bumper to the end of its lane, ``[V]``.
        clients: predicted vehicles of the client.
        lights: asked how long the crossing's own light stays red.
        table: the lanes that ``movers`` drive on.
    """
    needed = seconds + _RESERVE_S
    held = bool(crossing.signal_ids) and all(
        lights.state(i) == LightState.RED and lights.red_left_s(i) > needed
        for i in crossing.signal_ids
    )
    if crossing.signal_ids and not held:
        return False
    distance = distance_to_crossing(movers, crossing.a, crossing.b, _WIDTH_M, table)
    for v in np.flatnonzero(np.isfinite(distance)).tolist():
        d, speed = float(distance[v]), float(movers.speed[v])
        after_line = d - float(ends_m[v])
        can_stop = speed * speed / (2.0 * _STOPPING) < ends_m[v] + 1.0
        if held and 0.0 <= after_line < _AFTER_LINE_M and can_stop:
            continue
        if d > 0.0 and waited_s > _ASSERTIVE_S and speed < 0.3:
            continue
        if d <= 0.0 or _arrival_s(d, speed) < needed:
            return False
    return not _client_comes(crossing, needed, waited_s, held, clients)


def _arrival_s(distance: float, speed: float) -> float:
    if speed > 3.0:
        return distance / speed
    return (math.sqrt(speed * speed + 2.0 * _STARTING * distance) - speed) / _STARTING


def _client_comes(
    crossing: Crossing, needed: float, waited_s: float, held: bool, clients: Obstacles
) -> bool:
    d = crossing.b - crossing.a
    length = float(np.hypot(d[0], d[1]))
    for o in range(len(clients.z)):
        if clients.speed[o] < 0.3 and (held or waited_s > _ASSERTIVE_S / 2.0):
            track = clients.track[o, :1, :2]
        else:
            last = clients.track[o, -1]
            times = np.arange(1, 1 + max(0, int((needed / TIME_STEP_S) - NUM_TIMES))) * TIME_STEP_S
            step = clients.track[o, -1, :2] - clients.track[o, -2, :2]
            further = last[:2] + times[:, None] / TIME_STEP_S * step
            track = np.vstack([clients.track[o, :, :2], further])
        rel = track - crossing.a
        along = np.clip(rel @ d / (length * length), 0.0, 1.0)
        gap = np.linalg.norm(rel - along[:, None] * d, axis=1)
        if bool((gap < clients.half[o, 0] + _WIDTH_M).any()):
            return True
    return False
