# SPDX-License-Identifier: Apache-2.0
"""Tells SUMO what our lights show: heads are matched to SUMO's controlled links by place."""

from __future__ import annotations

import logging
import math
from collections import defaultdict

import libsumo
import numpy as np

from flad_sim.traffic.lights import TrafficLights
from flad_sim.traffic.sumo_net import NetLane, NetLink, SumoNet
from flad_sim.types import LightState, Signal

_MAX_LATERAL_M = 2.0
_MAX_ALONG_M = 10.0  # SUMO may end a lane earlier than the map does
_MAX_TURN_DEG = 45.0
_LETTERS = {
    LightState.RED: "r",
    LightState.YELLOW: "y",
    LightState.GREEN: "G",
    LightState.OFF: "o",
    LightState.UNKNOWN: "o",
}

_log = logging.getLogger(__name__)


class SumoLights:
    """Keeps SUMO's traffic lights equal to ours. Lives as long as the SUMO simulation."""

    def __init__(self, net: SumoNet, signals: tuple[Signal, ...], lights: TrafficLights) -> None:
        self._lights = lights
        self._seen = -1
        heads = [s for s in signals if s.stop_points and s.kind == "1000001"]
        by_light: dict[str, dict[int, NetLink]] = defaultdict(dict)
        for links in net.links.values():
            for link in links:
                if link.light:
                    by_light[link.light][link.light_index] = link
        self._ruled: dict[str, list[str | None]] = {}  # light -> signal id per link
        self._letters_off: dict[str, str] = {}
        self._told: dict[str, str] = {}
        matched: set[str] = set()
        for light, links_of in sorted(by_light.items()):
            size = max(links_of) + 1
            ruling = [
                _head_for(net.lanes[links_of[i].from_lane], heads) if i in links_of else None
                for i in range(size)
            ]
            if not any(ruling):
                libsumo.trafficlight.setProgram(light, "off")
                continue
            matched.update(r for r in ruling if r is not None)
            self._ruled[light] = ruling
            self._letters_off[light] = "".join(
                links_of[i].state if i in links_of and links_of[i].state in "Oo" else "O"
                for i in range(size)
            )
        blind = sorted({h.signal_id for h in heads} - matched)
        if blind:
            _log.warning(
                "SUMO's vehicles do not see traffic lights %s: no lane of %s ends at their stop "
                "lines",
                ", ".join(blind),
                net.path,
            )

    def update(self) -> None:
        """Tell SUMO what has changed."""
        if self._seen == self._lights.changes:
            return
        self._seen = self._lights.changes
        for light, ruling in self._ruled.items():
            states = [None if r is None else self._lights.state(r) for r in ruling]
            greens = {r for r, s in zip(ruling, states, strict=True) if s == LightState.GREEN}
            alone = len(greens) == 1
            letters = "".join(
                off if s is None else _letter(s, off, alone)
                for s, off in zip(states, self._letters_off[light], strict=True)
            )
            if self._told.get(light) != letters:
                libsumo.trafficlight.setRedYellowGreenState(light, letters)
                self._told[light] = letters


def _letter(state: LightState, when_off: str, alone: bool) -> str:
    # two approaches green at once (a client set one): turns that cross others have to yield
    if state == LightState.GREEN and not alone and when_off == "o":
        return "g"
    return _LETTERS[state]


def _head_for(lane: NetLane, heads: list[Signal]) -> str | None:
    end, before = lane.points[-1], lane.points[-2]
    yaw = math.degrees(math.atan2(end[1] - before[1], end[0] - before[0]))
    best: tuple[float, str] | None = None
    for head in heads:
        for stop in head.stop_points:
            if abs((stop.yaw - yaw + 180.0) % 360.0 - 180.0) > _MAX_TURN_DEG:
                continue
            along, lateral, _ = stop.to_local(np.array([[end[0], end[1], stop.z]]))[0]
            if abs(lateral) > _MAX_LATERAL_M or abs(along) > _MAX_ALONG_M:
                continue
            off = abs(lateral) + 0.1 * abs(along)
            if best is None or off < best[0]:
                best = (float(off), head.signal_id)
    return None if best is None else best[1]
