# SPDX-License-Identifier: Apache-2.0
"""Where the car has to stop by rule: traffic lights and stop signs on its route."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flad_carla.expert.config import ExpertConfig
from flad_carla.expert.idm import Lead
from flad_carla.expert.path import RoutePath
from flad_carla.expert.scene import Agents, FloatArray, Light, StopBox, StopLine

_ON_ROUTE_M = 1.6
_OVER_LINE_M = 0.8  # front bumper beyond the line by more: it is behind us
_FAR_M = 60.0
_LINE_HEADWAY_S = 0.1


@dataclass(frozen=True, slots=True)
class RuleView:
    """What the rules say now."""

    leads: tuple[Lead, ...]
    red_lights: tuple[int, ...]  # that hold the car
    stop_signs: tuple[int, ...]
    next_light: int  # within 50 m, -1 none
    next_line_m: float  # from the front bumper, inf for none


class Rules:
    """Remembers what was decided: a yellow light is judged once, a stop is made once."""

    def __init__(
        self,
        path: RoutePath,
        lines: Sequence[StopLine],
        boxes: Sequence[StopBox],
        config: ExpertConfig,
    ) -> None:
        self._config = config
        self._lines = _on_route(path, lines)
        self._boxes = sorted(
            (s - box.half_length, box.sign_id)
            for box in boxes
            for s in path.crossings(box.x, box.y, box.yaw, 2.0 + max(box.half_width, 1.0))
        )
        self._go_on_yellow: set[int] = set()
        self._done: set[float] = set()  # start of the boxes that were stopped at

    def look(
        self,
        front_s: float,
        speed: float,
        lights: Mapping[int, Light],
        room_m: float,
        length: float,
    ) -> RuleView:
        """The leads of lights and signs ahead.

        Args:
            room_m: free road beyond the front bumper before the next slow vehicle.
            length: of the ego; with less room behind the line it waits before it.
        """
        leads: list[Lead] = []
        red: list[int] = []
        near = [(s, i) for s, i in self._lines if -_OVER_LINE_M < s - front_s < _FAR_M]
        for s, light_id in near:
            state = lights.get(light_id, Light.UNKNOWN)
            gap = s - front_s
            reason = self._reason(light_id, state, gap, speed, room_m, length)
            if reason:
                if state in (Light.RED, Light.YELLOW):
                    red.append(light_id)
                leads.append(self._line_lead(gap, reason, light_id))
        signs = self._signs(front_s, speed)
        leads += signs
        first = near[0] if near else None
        return RuleView(
            tuple(leads),
            tuple(red),
            tuple(lead.actor_id for lead in signs),
            first[1] if first and first[0] - front_s < 50.0 else -1,
            first[0] - front_s if first else float("inf"),
        )

    def _reason(
        self, light_id: int, state: Light, gap: float, speed: float, room_m: float, length: float
    ) -> str:
        c = self._config
        if state == Light.RED:
            self._go_on_yellow.discard(light_id)
            # past the line already, with no way to stop behind it: clear the junction
            return "" if gap < -0.3 and speed > 3.0 else "red light"
        if state == Light.YELLOW:
            if light_id in self._go_on_yellow:
                return ""
            needed = speed**2 / (2.0 * max(gap - 0.2, 0.05))
            over_s = (gap + length + 1.0) / max(speed, 0.1)
            if needed > c.yellow_brake_mps2 and (over_s < c.yellow_clear_s or needed > 6.0):
                self._go_on_yellow.add(light_id)
                return ""
            return "yellow light"
        self._go_on_yellow.discard(light_id)
        if gap > 0.0 and room_m < gap + length + 2.0:
            return "no room behind the stop line"
        return ""

    def _signs(self, front_s: float, speed: float) -> list[Lead]:
        leads = []
        for s, sign_id in self._boxes:
            gap = s + 0.5 - front_s
            if s in self._done or not -3.0 < gap < _FAR_M:
                continue
            if gap < 1.5 and speed < self._config.stopped_mps:
                self._done.add(s)
                continue
            leads.append(Lead(max(gap, 0.0), 0.0, 0.3, _LINE_HEADWAY_S, "stop sign", sign_id))
        return leads

    def _line_lead(self, gap: float, reason: str, light_id: int) -> Lead:
        standstill = self._config.gap_line_m
        return Lead(max(gap, 0.0), 0.0, standstill, _LINE_HEADWAY_S, reason, light_id)


def held_by_lights(
    agents: Agents, lines: Sequence[StopLine], lights: Mapping[int, Light]
) -> FloatArray:
    """How far each agent [N] will go before a red light stops it; inf where none does."""
    limit = np.full(len(agents), np.inf)
    red = [line for line in lines if lights.get(line.light_id) == Light.RED]
    if not red or len(agents) == 0:
        return limit
    lx = np.array([line.x for line in red])[None]
    ly = np.array([line.y for line in red])[None]
    lyaw = np.array([line.yaw for line in red])[None]
    c, s = np.cos(agents.yaw)[:, None], np.sin(agents.yaw)[:, None]
    dx, dy = lx - agents.x[:, None], ly - agents.y[:, None]
    ahead = dx * c + dy * s - agents.half_length[:, None]
    side = np.abs(-dx * s + dy * c)
    can_stop = ahead > agents.speed[:, None] ** 2 / 12.0 - 1.0
    faces = np.cos(lyaw - agents.yaw[:, None]) > 0.8
    held = (ahead > -1.0) & (ahead < 40.0) & (side < 2.0) & faces & can_stop
    distance = np.where(held, np.maximum(ahead, 0.0), np.inf).min(axis=1)
    return np.asarray(np.minimum(limit, distance))


def _on_route(path: RoutePath, lines: Sequence[StopLine]) -> list[tuple[float, int]]:
    found = {
        (round(s, 1), line.light_id)
        for line in lines
        for s in path.crossings(line.x, line.y, line.yaw, _ON_ROUTE_M)
        if s <= path.length
    }
    return sorted(found)
