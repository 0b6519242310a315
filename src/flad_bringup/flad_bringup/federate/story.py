# SPDX-License-Identifier: Apache-2.0
"""What happened in a federation, from the files of its folder; :mod:`.picture` draws it.

Times are seconds since the federation began. Steps and losses are read from the vehicles' own logs,
which here lie on the same machine; no vehicle sends them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flad_pipeline.partition import partition_from_json

STEP_LOG = "steps.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """An order: who trains together, and which pipeline's turn it is when."""

    heard_s: float
    client: str
    round: int
    epoch: int
    vehicles: tuple[str, ...]
    pipelines: tuple[tuple[str, ...], ...]
    """Of each the vehicles, by stage."""
    units: tuple[tuple[int, ...], ...]
    """Of each the number of units by stage, heads not counted."""
    rotation_period: int
    end_step: int
    places_m: Mapping[str, tuple[float, float]]
    """Where vehicles had said that they were, of this client or not."""

    def pipeline(self, step: int) -> int:
        """Whose turn a step is, as :class:`flad_pipeline.round.order.Order` says."""
        turn = min(step, max(0, self.end_step - 1)) // self.rotation_period
        return turn % len(self.pipelines)


@dataclass(frozen=True, kw_only=True, slots=True)
class Worked:
    """A step of a vehicle."""

    vehicle: str
    round: int
    step: int
    epoch: int
    began_s: float
    ended_s: float
    stage: int
    """0: it feeds its own data, and has the heads; -1: not known."""
    loss: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Upset:
    """What was done to a process, and when all that were left had trained again."""

    kind: str
    who: str
    at_s: float
    again_s: float | None
    lost_steps: int


@dataclass(frozen=True, kw_only=True)
class Story:
    """A federation that is over."""

    seconds: float
    encoder_hash: str
    vehicles: Mapping[str, Mapping[str, Any]]
    """Device, memory that training may take, the most that its process had."""
    rounds: Sequence[Mapping[str, Any]]
    turns: Sequence[Turn]
    steps: Sequence[Worked]
    upsets: Sequence[Upset]
    samples_per_step: int

    @property
    def first_s(self) -> float:
        """When the first step began: before that, processes start."""
        return min((step.began_s for step in self.steps), default=0.0)

    @property
    def samples_per_s(self) -> float:
        """Over all rounds, recoveries included; a step that was taken again counts once."""
        seconds = sum(one["report"]["seconds"] for one in self.rounds)
        fed = {(s.round, s.step, self._client(s)) for s in self.steps if s.loss is not None}
        return len(fed) * self.samples_per_step / seconds if seconds else 0.0

    @property
    def rotations(self) -> int:
        """How often another pipeline's turn began."""
        found = 0
        for client, number in {(turn.client, turn.round) for turn in self.turns}:
            told = [t for t in self.turns if (t.client, t.round) == (client, number)]
            ours = {
                s.step: s for s in self.steps if s.round == number and self._client(s) == client
            }
            last = -1
            for step in sorted(ours):
                order = next((t for t in told if t.epoch == ours[step].epoch), told[-1])
                now = step // order.rotation_period
                found += last >= 0 and now != last and len(order.pipelines) > 1
                last = now
        return found

    def losses(self, share: float = 0.25) -> tuple[float, float] | None:
        """Mean loss of the first and the last steps; None where there are too few."""
        known = [s.loss for s in self.steps if s.loss is not None]
        count = int(share * len(known))
        if count < 1:
            return None
        return sum(known[:count]) / count, sum(known[-count:]) / count

    def _client(self, step: Worked) -> str:
        for turn in self.turns:
            if turn.epoch == step.epoch and step.vehicle in turn.vehicles:
                return turn.client
        return step.vehicle


def tell(folder: Path) -> Story:
    """Read a federation's folder.

    Raises:
        OSError: if it holds none that has ended.
        ValueError: if its files are damaged.
    """
    figures = json.loads((folder / "federate.json").read_text(encoding="utf-8"))
    began_s = float(figures["began_s"])
    turns = [_turn(order, began_s) for order in figures["orders"]]
    steps: list[Worked] = []
    for name in figures["vehicles"]:
        steps += _steps(folder / name / STEP_LOG, name, turns, began_s)
    steps.sort(key=lambda step: step.ended_s)
    return Story(
        seconds=figures["seconds"],
        encoder_hash=figures["encoder_hash"],
        vehicles=figures["vehicles"],
        rounds=figures["rounds"],
        turns=turns,
        steps=steps,
        upsets=[_upset(one, figures, turns, steps, began_s) for one in figures["happened"]],
        samples_per_step=figures["samples_per_step"],
    )


def _turn(order: Mapping[str, Any], began_s: float) -> Turn:
    partitions = [partition_from_json(json.dumps(one)) for one in order["pipelines"]]
    return Turn(
        heard_s=order["at_s"] - began_s,
        client=order["client"],
        round=order["round"],
        epoch=order["epoch"],
        vehicles=tuple(order["vehicles"]),
        pipelines=tuple(tuple(span.vehicle for span in p.stages) for p in partitions),
        units=tuple(tuple(span.last - span.first + 1 for span in p.stages) for p in partitions),
        rotation_period=order["rotation_period"],
        end_step=order["end_step"],
        places_m={name: (x, y) for name, (x, y) in order.get("places_m", {}).items()},
    )


def _steps(path: Path, name: str, turns: Sequence[Turn], began_s: float) -> list[Worked]:
    if not path.is_file():
        return []  # it died before its first step
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        ended_s = one["ended_s"] - began_s
        of = [t for t in turns if t.epoch == one["epoch"] and name in t.vehicles]
        place = of[-1].pipelines[of[-1].pipeline(one["step"])].index(name) if of else -1
        found.append(
            Worked(
                vehicle=name,
                round=one["round"],
                step=one["step"],
                epoch=one["epoch"],
                began_s=ended_s - one["seconds"],
                ended_s=ended_s,
                stage=place,
                loss=one["loss"],
            )
        )
    return found


def _upset(
    one: Mapping[str, Any],
    figures: Mapping[str, Any],
    turns: Sequence[Turn],
    steps: Sequence[Worked],
    began_s: float,
) -> Upset:
    at_s, who = one["at_s"] - began_s, one["who"]
    before = [turn for turn in turns if who in turn.vehicles and turn.heard_s <= at_s]
    after = [
        turn
        for turn in turns
        if before and turn.client == before[-1].client and turn.epoch > before[-1].epoch
    ]
    firsts = [
        min((s.ended_s for s in steps if s.vehicle == name and s.epoch >= turn.epoch), default=None)
        for turn in after[:1]
        for name in turn.vehicles
    ]
    again = [ended_s for ended_s in firsts if ended_s is not None]
    reports = [r["report"] for r in figures["rounds"] if r["round"] == one["round"]]
    lost = [
        recovery["lost_steps"]
        for report in reports
        for client in report["clients"].values()
        for recovery in client["recoveries"]
        if who in recovery["gone"]
    ]
    whole = bool(again) and len(again) == len(firsts)
    return Upset(
        kind=one["kind"],
        who=who,
        at_s=at_s,
        again_s=max(again) if whole else None,
        lost_steps=lost[-1] if lost else 0,
    )
