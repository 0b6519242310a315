# SPDX-License-Identifier: Apache-2.0
"""Telling what blocks the lane (to be passed) from a queue (to be joined)."""

from __future__ import annotations

from collections.abc import Sequence

from flad_carla.expert.config import ExpertConfig
from flad_carla.expert.hazards import InPath
from flad_carla.expert.path import RoutePath
from flad_carla.expert.rules import RuleView
from flad_carla.expert.scene import Agents, Kind

_STANDING_MPS = 0.15
_LOOK_M = 40.0
_QUEUE_M = 45.0  # a stop line this far ahead explains standing vehicles
_TOGETHER_M = 12.0  # what stands nearer to each other is passed in one go
_FORGET_S = 2.0


class Blockers:
    """Remembers since when each agent stands."""

    def __init__(self, config: ExpertConfig) -> None:
        self._config = config
        self._since: dict[int, float] = {}
        self._seen: dict[int, float] = {}
        self._now = 0.0

    def watch(self, agents: Agents, time_s: float) -> None:
        """Take note of who stands."""
        self._now = time_s
        for agent_id, speed in zip(agents.ids.tolist(), agents.speed.tolist(), strict=True):
            self._seen[agent_id] = time_s
            if speed > _STANDING_MPS:
                self._since.pop(agent_id, None)
            else:
                self._since.setdefault(agent_id, time_s)
        for agent_id in [i for i, t in self._seen.items() if time_s - t > _FORGET_S]:
            self._seen.pop(agent_id)
            self._since.pop(agent_id, None)

    def group(
        self,
        in_path: Sequence[InPath],
        agents: Agents,
        front_s: float,
        rules: RuleView,
        path: RoutePath,
    ) -> list[InPath]:
        """The blockers ahead that are passed together, nearest first; empty for none."""
        group: list[InPath] = []
        for hit in in_path:
            if hit.s - front_s > _LOOK_M and not group:
                break
            if group and hit.s - max(h.end_s for h in group) > _TOGETHER_M:
                break
            if not self._blocks(hit, agents, front_s, rules, path):
                if group:
                    continue
                break
            group.append(hit)
        return group

    def _blocks(
        self, hit: InPath, agents: Agents, front_s: float, rules: RuleView, path: RoutePath
    ) -> bool:
        kind = int(agents.kind[hit.row])
        if kind == Kind.WALKER:
            return False
        if kind == Kind.OBSTACLE:
            return True
        stood_s = self._now - self._since.get(int(agents.ids[hit.row]), self._now)
        needed_s = self._config.blocked_after_s
        line_beyond = rules.next_line_m + front_s
        if hit.s - 2.0 < line_beyond < hit.s + _QUEUE_M or path.is_junction(hit.s + 15.0):
            needed_s *= 8.0  # most likely it waits like us
        return stood_s > needed_s
