# SPDX-License-Identifier: Apache-2.0
"""The instruction bank: phrasings of every kind, read from ``bank.yaml`` and checked.

What an instruction *is* stands in :mod:`flad_planner.language.kinds`; here it becomes words.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

from flad_planner.language.kinds import KINDS, Instruction, Kind, checked_kind

MIN_PHRASINGS = 8  # in training; the held-out ones come on top
_MAX_LENGTH = 160
_KEYS = {"version", "held_out", "groups"}
_GROUP_KEYS = {"kinds", "phrasings"}
_ONE_METRE = re.compile(r"\b1 metres\b")


class Split(Enum):
    """Which phrasings may be drawn: what training sees, what it never sees, or both."""

    TRAINING = "training"
    HELD_OUT = "held_out"
    ALL = "all"


class BankError(ValueError):
    """A bank that cannot be used; the text names the group and what is wrong."""


@dataclass(frozen=True, slots=True)
class Bank:
    """Templates per kind; the group's own words are filled in, the arguments are not yet.

    >>> load_bank().sentences(Instruction(Kind.TURN_LEFT_IN, {"distance_m": 20}))[0]
    'In 20 metres, turn left.'
    """

    training: Mapping[Kind, tuple[str, ...]]
    held_out: Mapping[Kind, tuple[str, ...]]

    def templates(self, kind: int, split: Split = Split.ALL) -> tuple[str, ...]:
        """The phrasings of a kind, with its arguments in braces.

        Raises:
            InstructionError: if the kind does not exist.
        """
        kind = checked_kind(kind)
        if split is Split.TRAINING:
            return self.training[kind]
        if split is Split.HELD_OUT:
            return self.held_out[kind]
        return self.training[kind] + self.held_out[kind]

    def render(
        self, instruction: Instruction, rng: random.Random, split: Split = Split.TRAINING
    ) -> str:
        """One sentence for an instruction; the same ``rng`` state gives the same sentence."""
        return fill(rng.choice(self.templates(instruction.kind, split)), instruction)

    def sentences(self, instruction: Instruction, split: Split = Split.ALL) -> tuple[str, ...]:
        """Every sentence for an instruction."""
        return tuple(fill(t, instruction) for t in self.templates(instruction.kind, split))

    def corpus(self, rng: random.Random, per_template: int = 4) -> Iterator[str]:
        """Text to train a tokenizer on: training phrasings only, arguments drawn."""
        for kind in Kind:
            for template in self.training[kind]:
                for _ in range(per_template if KINDS[kind].arguments else 1):
                    yield fill(template, draw_arguments(kind, rng))

    def words(self) -> frozenset[str]:
        """Every word of every phrasing, in lower case, without arguments."""
        texts = (t for kind in Kind for t in self.templates(kind))
        plain = ("".join(part for part, *_ in string.Formatter().parse(t)) for t in texts)
        return frozenset(word for text in plain for word in words_of(text))


def words_of(text: str) -> list[str]:
    """The words of a text in lower case: letters, with apostrophes and hyphens inside them."""
    kept = "".join(c if c.isalpha() or c in "'-" else " " for c in text.lower())
    return [word for raw in kept.split() if (word := raw.strip("'-"))]


def draw_arguments(kind: Kind, rng: random.Random) -> Instruction:
    """An instruction of this kind with arguments as the navigator might give them."""
    arguments: dict[str, int | str] = {}
    for name in KINDS[kind].arguments:
        arguments[name] = rng.choice(("left", "right")) if name == "side" else rng.randint(1, 80)
    return Instruction(kind, arguments)


def fill(template: str, instruction: Instruction) -> str:
    """The template with the instruction's arguments in it.

    Raises:
        BankError: if the template asks for something else than the instruction has.
    """
    needed, given = _placeholders(template), set(instruction.arguments)
    if needed != given:
        raise BankError(
            f"phrasing {template!r} needs {sorted(needed)}, {instruction.kind.name} has "
            f"{sorted(given)}"
        )
    return _ONE_METRE.sub("1 metre", template.format(**instruction.arguments))


@lru_cache(maxsize=1)
def load_bank() -> Bank:
    """The bank that comes with this package."""
    source = resources.files(__package__).joinpath("bank.yaml")
    return bank_from(yaml.safe_load(source.read_text(encoding="utf-8")))


def bank_from(data: Any) -> Bank:
    """The bank in what YAML gave.

    Raises:
        BankError: on anything but: every kind exactly once, at least 8 training phrasings, the
            held-out ones besides, each with exactly its kind's arguments, no sentence twice.
    """
    data = _mapping(data, _KEYS, "the bank")
    if data["version"] != 1:
        raise BankError(f"bank version is {data['version']!r}, this code reads version 1")
    num_held_out = data["held_out"]
    if not isinstance(num_held_out, int) or num_held_out < 1:
        raise BankError(f"held_out is {num_held_out!r}, expected how many phrasings, at least 1")
    training: dict[Kind, tuple[str, ...]] = {}
    held_out: dict[Kind, tuple[str, ...]] = {}
    for number, raw in enumerate(data["groups"]):
        group = _mapping(raw, _GROUP_KEYS, f"group {number}")
        for kind, words in _kinds(group["kinds"], number):
            if kind in training:
                raise BankError(f"group {number}: {kind.name} is there twice")
            templates = _templates(kind, words, group["phrasings"], num_held_out)
            training[kind] = templates[:-num_held_out]
            held_out[kind] = templates[-num_held_out:]
    if missing := [kind.name for kind in Kind if kind not in training]:
        raise BankError(f"no phrasings for {', '.join(missing)}")
    _check_distinct(training, held_out)
    return Bank(training, held_out)


def _mapping(value: Any, keys: set[str], where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != keys:
        found = sorted(value) if isinstance(value, dict) else type(value).__name__
        raise BankError(f"{where} must have the keys {sorted(keys)}, got {found}")
    return value


def _kinds(value: Any, number: int) -> Iterator[tuple[Kind, dict[str, str]]]:
    if not isinstance(value, dict) or not value:
        raise BankError(f"group {number}: kinds must name at least one kind, got {value!r}")
    for name, words in value.items():
        if name not in Kind.__members__:
            raise BankError(f"group {number}: kind {name!r} does not exist, see kinds.py")
        if not isinstance(words, dict) or not all(isinstance(w, str) for w in words.values()):
            raise BankError(f"group {number}: words of {name} must be text by name, got {words!r}")
        yield Kind[name], words


def _templates(
    kind: Kind, words: Mapping[str, str], phrasings: Any, num_held_out: int
) -> tuple[str, ...]:
    least = MIN_PHRASINGS + num_held_out
    if not isinstance(phrasings, list) or len(phrasings) < least:
        found = len(phrasings) if isinstance(phrasings, list) else phrasings
        raise BankError(f"{kind.name} needs at least {least} phrasings, got {found!r}")
    capitals = {name.capitalize(): word.capitalize() for name, word in words.items()}
    return tuple(_template(kind, {**words, **capitals}, phrasing) for phrasing in phrasings)


def _template(kind: Kind, words: Mapping[str, str], phrasing: Any) -> str:
    if not isinstance(phrasing, str) or not 0 < len(phrasing) <= _MAX_LENGTH:
        raise BankError(f"{kind.name}: a phrasing is 1 to {_MAX_LENGTH} characters: {phrasing!r}")
    if not (phrasing.isascii() and phrasing.isprintable() and phrasing == phrasing.strip()):
        raise BankError(f"{kind.name}: {phrasing!r} has characters that are no plain text")
    arguments = KINDS[kind].arguments
    if unknown := _placeholders(phrasing) - set(words) - set(arguments):
        raise BankError(f"{kind.name}: nothing fills {sorted(unknown)} in {phrasing!r}")
    template = phrasing.format(**words, **{name: "{" + name + "}" for name in arguments})
    if missing := set(arguments) - _placeholders(template):
        raise BankError(f"{kind.name}: {phrasing!r} does not say {sorted(missing)}")
    return template


def _placeholders(template: str) -> set[str]:
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as e:
        raise BankError(f"phrasing {template!r} has a brace that does not pair: {e}") from None
    for _, name, form, conversion in parts:
        if name is not None and (not name.isidentifier() or form or conversion):
            raise BankError(f"phrasing {template!r}: a placeholder is a name in braces")
    return {name for _, name, *_ in parts if name is not None}


def _check_distinct(*splits: Mapping[Kind, Sequence[str]]) -> None:
    """One sentence must not mean two things, nor be both in training and held out."""
    seen: dict[str, Kind] = {}
    for split in splits:
        for kind, templates in split.items():
            for template in templates:
                key = " ".join(template.lower().split())
                if key in seen:
                    raise BankError(f"{template!r} is in {seen[key].name} and in {kind.name}")
                seen[key] = kind
