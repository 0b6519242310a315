# SPDX-License-Identifier: Apache-2.0
"""Telling what blocks the lane (to be passed) from a queue (to be joined)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flad_carla.expert.config import ExpertConfig
from flad_carla.expert.hazards import InPath
from flad_carla.expert.path import RoutePath
from flad_carla.expert.rules import RuleView
from flad_carla.expert.scene import Agents, Kind

_STANDING_MPS = 0.15
_LOOK_M = 40.0
_AT_LINE_M = 10.0  # a line or a standing vehicle this near ahead explains why somebody stands
_WAITING_FACTOR = 10.0  # who stands for a reason is given this much more time
_TOGETHER_M = 12.0  # what stands nearer to each other is passed in one go
_FORGET_S = 2.0


@dataclass(frozen=True, slots=True)
class Blocking:
    """What is to be passed now, and who stands for no visible reason."""

    group: tuple[InPath, ...]
    suspects: frozenset[int]


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
    ) -> Blocking:
        """The blockers ahead that are passed together, nearest first; empty for none."""
        queues = self._queues(in_path, agents, front_s, rules, path)
        group: list[InPath] = []
        suspects: set[int] = set()
        for hit, waits in zip(in_path, queues, strict=True):
            end_s = max((h.end_s for h in group), default=front_s + _LOOK_M)
            if hit.s > end_s + (_TOGETHER_M if group else 0.0):
                break
            stands = self._stands(hit, agents)
            if stands and not waits:
                suspects.add(int(agents.ids[hit.row]))
            if not (stands and self._is_blocker(hit, agents, waits)):
                if group:
                    continue
                break
            group.append(hit)
        return Blocking(tuple(group), frozenset(suspects))

    def _queues(
        self,
        in_path: Sequence[InPath],
        agents: Agents,
        front_s: float,
        rules: RuleView,
        path: RoutePath,
    ) -> list[bool]:
        """Who stands for a reason: at a line or junction, or behind somebody who does or moves."""
        line_s = rules.next_line_m + front_s
        waits: list[bool] = []
        ahead: InPath | None = None
        for hit in reversed(in_path):
            kind = int(agents.kind[hit.row])
            at_line = -3.0 < line_s - hit.end_s < _AT_LINE_M
            at_junction = any(path.is_junction(hit.end_s + ds) for ds in (0.0, 6.0, _AT_LINE_M))
            behind = ahead is not None and ahead.s - hit.end_s < _AT_LINE_M
            follows = behind and (waits[-1] or not self._stands(ahead, agents))
            waits.append(kind != Kind.OBSTACLE and (at_line or at_junction or bool(follows)))
            ahead = hit
        return waits[::-1]

    def _stands(self, hit: InPath | None, agents: Agents) -> bool:
        return hit is not None and int(agents.ids[hit.row]) in self._since

    def _is_blocker(self, hit: InPath, agents: Agents, waits: bool) -> bool:
        kind = int(agents.kind[hit.row])
        if kind == Kind.WALKER:
            return False
        if kind == Kind.OBSTACLE:
            return True
        stood_s = self._now - self._since[int(agents.ids[hit.row])]
        return stood_s > self._config.blocked_after_s * (_WAITING_FACTOR if waits else 1.0)
