# SPDX-License-Identifier: Apache-2.0
"""Everything a vehicle is told at one moment: instruction, misleading or not, and notice.

The live vehicle and the miner of clips both ask the same :class:`Narrator`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from flad_common.config import section
from flad_planner.language.bank import Bank, Split
from flad_planner.language.kinds import Instruction
from flad_planner.language.misleading import Misleader, MisleadingConfig
from flad_planner.language.navigator import Ending, Navigator, NavigatorConfig
from flad_planner.language.notices import Notice, NoticeBoard, NoticeConfig, Surroundings
from flad_planner.language.route_view import RouteView


@dataclass(frozen=True, kw_only=True)
class NarratorConfig:
    """How one vehicle is spoken to."""

    navigator: NavigatorConfig = section(NavigatorConfig, doc="Instructions along the route.")
    notices: NoticeConfig = section(NoticeConfig, doc="Warnings.")
    misleading: MisleadingConfig = section(MisleadingConfig, doc="Wrong instructions.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """What stands at one moment."""

    number: int  # counts what was told in place of an instruction; the same is the same telling
    instruction: Instruction
    is_misleading: bool = False
    ended: Ending | None = None  # in the step of a new number: how the one before ended
    notice: Notice | None = None


class Narrator:
    """Navigator, misleader and notices of one vehicle; not for several threads."""

    def __init__(self, config: NarratorConfig, seed: int) -> None:
        self._navigator = Navigator(config.navigator, seed)
        self._misleader = Misleader(config.misleading, seed)
        self._notices = NoticeBoard(config.notices)
        self._number = -1
        self._standing: tuple[int, bool] | None = None  # order, whether misleading

    def step(self, view: RouteView, surroundings: Surroundings, time_s: float) -> Utterance:
        """What is told at this moment; ``time_s`` never goes back."""
        order = self._navigator.step(view)
        wrong = self._misleader.step(order, view, time_s)
        ended = None
        now = (order.number, wrong is not None)
        if now != self._standing:
            if self._standing is not None:
                was_misleading = self._standing[1]
                ended = Ending.REPLACED if was_misleading else order.ended
            self._standing = now
            self._number += 1
        return Utterance(
            number=self._number,
            instruction=order.instruction if wrong is None else wrong,
            is_misleading=wrong is not None,
            ended=ended,
            notice=self._notices.step(time_s, surroundings),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """An utterance as sentences."""

    instruction: str
    notice: str | None = None


class Voice:
    """Puts utterances into words: the same telling keeps its words, by seed."""

    def __init__(self, bank: Bank, seed: int, split: Split = Split.TRAINING) -> None:
        self._bank = bank
        self._seed = seed
        self._split = split

    def say(self, utterance: Utterance) -> Words:
        """The sentences of an utterance."""
        notice = None
        if utterance.notice is not None:
            told = Instruction(utterance.notice.kind)
            notice = self._bank.render(
                told, self._rng("notice", utterance.notice.number), self._split
            )
        rng = self._rng("instruction", utterance.number)
        return Words(
            instruction=self._bank.render(utterance.instruction, rng, self._split), notice=notice
        )

    def _rng(self, what: str, number: int) -> random.Random:
        return random.Random(f"{self._seed}/{what}/{number}")
