# SPDX-License-Identifier: Apache-2.0
"""What a vehicle has been told: the instruction that stands, a notice, and what was refused."""

from __future__ import annotations

from flad_planner.language.operator_text import RefusedTextError, TextLimits, accepted_text


class Spoken:
    """Single-threaded. A text that is refused leaves what was said before in force."""

    def __init__(self, limits: TextLimits) -> None:
        self._limits = limits
        self.instruction = ""
        self.notice = ""
        self.complaint = ""
        """Why the newest text was refused; empty once an instruction has been taken."""
        self._unsent_notice = ""
        self._lost_notice = ""

    def take_instruction(self, text: str) -> None:
        """Somebody gives an instruction; another one than before forgets the notice."""
        accepted = self._accepted("instruction", text)
        if not accepted:
            return
        if accepted != self.instruction:
            self.notice = self._unsent_notice = self._lost_notice = ""
        self.instruction, self.complaint = accepted, ""

    def take_notice(self, text: str) -> None:
        """Somebody warns; an empty text takes the warning back."""
        if not text:
            self.notice = self._unsent_notice = self._lost_notice = ""
        elif accepted := self._accepted("notice", text):
            self.notice = self._unsent_notice = accepted
            self._lost_notice = ""

    def notice_to_send(self) -> str:
        """The notice that a frame takes along: each goes once, and again if it was lost."""
        notice, self._unsent_notice = self._unsent_notice, ""
        return notice

    def lose(self, notice: str | None) -> None:
        """The edge did not answer the frame that took a notice along; None: it took none."""
        if notice and notice == self.notice:
            self._lost_notice = notice

    def say_lost_again(self) -> None:
        """The edge answers: a notice that it may not have heard goes with the next frame."""
        lost, self._lost_notice = self._lost_notice, ""
        self._unsent_notice = self._unsent_notice or lost

    def forget_lost(self) -> None:
        """Another drive begins: what the edge did not hear in the one before is over."""
        self._lost_notice = ""

    def _accepted(self, what: str, text: str) -> str:
        try:
            return accepted_text(text, self._limits)
        except RefusedTextError as error:
            self.complaint = f"{what} refused: {error}"
            return ""
