# SPDX-License-Identifier: Apache-2.0
"""What an operator may type as an instruction, and why something else is refused.

The language check is a word count and no more: a text passes when enough of its words are in the
bank or in a list of everyday English words. It tells Finnish from English; it does not tell sense
from nonsense, and it does not make the text safe to follow.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from importlib import resources

from flad_common.config import knob
from flad_planner.language.bank import load_bank, words_of

_SHOWN = 40  # characters of a refused text that its refusal quotes
_LOOKALIKES = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-"}
)


@dataclass(frozen=True, kw_only=True)
class TextLimits:
    """What is accepted."""

    max_characters: int = knob(400, unit="characters", doc="Longest text.")
    min_known_words: float = knob(
        0.6, unit="1", doc="Least share of a text's words that must be known English ones."
    )

    def __post_init__(self) -> None:
        if self.max_characters < 1:
            raise ValueError(f"max_characters must be at least 1, got {self.max_characters}")
        if not 0.0 <= self.min_known_words <= 1.0:
            raise ValueError(f"min_known_words must be in 0..1, got {self.min_known_words}")


class Refusal(Enum):
    """Why a text is refused: counted by these names."""

    NOT_TEXT = "not_text"
    TOO_LONG = "too_long"
    EMPTY = "empty"
    NOT_PRINTABLE = "not_printable"
    NO_WORDS = "no_words"
    UNKNOWN_LANGUAGE = "unknown_language"


class RefusedTextError(ValueError):
    """An operator's text that is not passed on; the message is for the operator."""

    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(message)
        self.refusal = refusal


def accepted_text(text: str | bytes, limits: TextLimits) -> str:
    """The text with its spaces tidied, fit for the language model.

    >>> accepted_text("  Turn left at the   lights. ", TextLimits())
    'Turn left at the lights.'

    Raises:
        RefusedTextError: if it is refused. A text that is too long is looked at no further, so
            that a huge one costs nothing.
    """
    if len(text) > 4 * limits.max_characters or (
        isinstance(text, str) and len(text) > limits.max_characters
    ):
        unit = "bytes" if isinstance(text, bytes) else "characters"
        raise RefusedTextError(
            Refusal.TOO_LONG,
            f"the instruction has {len(text)} {unit}, at most {limits.max_characters} characters "
            "are accepted; say it shorter",
        )
    if isinstance(text, bytes):
        text = _decoded(text)
    tidy = " ".join(unicodedata.normalize("NFC", text).translate(_LOOKALIKES).split())
    _check_characters(tidy, limits)
    _check_words(tidy, limits)
    return tidy


def known_words() -> frozenset[str]:
    """The words that count as English: the bank's and the everyday ones."""
    return _known_words()


@lru_cache(maxsize=1)
def _known_words() -> frozenset[str]:
    source = resources.files(__package__).joinpath("everyday_words.txt")
    return frozenset(source.read_text(encoding="utf-8").split()) | load_bank().words()


def _decoded(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as e:
        raise RefusedTextError(
            Refusal.NOT_TEXT, f"the instruction is not UTF-8 text: {e.reason} at byte {e.start}"
        ) from None


def _check_characters(text: str, limits: TextLimits) -> None:
    if not text:
        raise RefusedTextError(Refusal.EMPTY, "the instruction is empty; say what to do")
    if len(text) > limits.max_characters:
        raise RefusedTextError(
            Refusal.TOO_LONG,
            f"the instruction has {len(text)} characters, at most {limits.max_characters} are "
            "accepted; say it shorter",
        )
    bad = next((c for c in text if not c.isprintable()), None)
    if bad is not None:
        raise RefusedTextError(
            Refusal.NOT_PRINTABLE,
            f"the instruction has the character U+{ord(bad):04X}, only printable ones are accepted",
        )


def _check_words(text: str, limits: TextLimits) -> None:
    words = words_of(text)
    if not words:
        raise RefusedTextError(
            Refusal.NO_WORDS, f"the instruction {_quoted(text)} has no words; say what to do"
        )
    unknown = [word for word in words if word not in _known_words()]
    share = 1.0 - len(unknown) / len(words)
    if share < limits.min_known_words:
        named = ", ".join(dict.fromkeys(word[:_SHOWN] for word in unknown[:5]))
        raise RefusedTextError(
            Refusal.UNKNOWN_LANGUAGE,
            f"only {share:.0%} of the words of {_quoted(text)} are English words known here, at "
            f"least {limits.min_known_words:.0%} must be; not known: {named}. Only English is "
            "understood: use plain words such as 'turn left at the lights'",
        )


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")
