# SPDX-License-Identifier: Apache-2.0
"""The bank has words for every kind, fills every blank and refuses what does not fit."""

import copy
import pickle
import random
import re
from importlib import resources

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flad_bringup.workspace import find_workspace
from flad_planner.language.bank import (
    MIN_PHRASINGS,
    BankError,
    Split,
    bank_from,
    draw_arguments,
    load_bank,
    words_of,
)
from flad_planner.language.kinds import KINDS, Family, Instruction, InstructionError, Kind

DATA = yaml.safe_load(
    resources.files("flad_planner.language").joinpath("bank.yaml").read_text(encoding="utf-8")
)


def _changed(change):
    data = copy.deepcopy(DATA)
    change(data)
    return data


def test_kinds_are_langautos_65():
    assert [int(kind) for kind in KINDS] == list(range(65))
    assert sum(info.family is Family.NOTICE for info in KINDS.values()) == 10
    assert Kind.STRAIGHT_THEN_RIGHT == 25 + 3 * 2 + 1  # pairs: left, right, straight by the same


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_training_and_held_out_phrasings(kind):
    bank = load_bank()
    training = bank.templates(kind, Split.TRAINING)
    held_out = bank.templates(kind, Split.HELD_OUT)

    assert len(set(training)) >= MIN_PHRASINGS
    assert len(set(held_out)) == 2
    assert not set(training) & set(held_out)


@given(st.sampled_from(Kind), st.integers(), st.sampled_from(Split))
def test_nothing_stays_unfilled_and_every_argument_is_said(kind, seed, split):
    rng = random.Random(seed)
    instruction = draw_arguments(kind, rng)

    sentence = load_bank().render(instruction, rng, split)

    assert not re.search(r"[{}]|\b1 metres\b", sentence)
    assert sentence == sentence.strip() and sentence[-1] in ".?"
    for value in instruction.arguments.values():
        assert re.search(rf"\b{value}\b", sentence), (value, sentence)


@given(st.sampled_from(Kind), st.integers(0, 2**32))
def test_the_same_seed_says_the_same(kind, seed):
    first, second = (
        load_bank().render(draw_arguments(kind, random.Random(5)), random.Random(seed))
        for _ in range(2)
    )
    assert first == second


def test_mirrored_kinds_say_the_same_but_for_the_side():
    bank = load_bank()
    swapped = [t.replace("left", "right").replace("Left", "Right") for t in bank.templates(0)]
    assert swapped == list(bank.templates(1))
    for kind in Kind:
        if kind.name.startswith(("TURN", "CROSSING", "LIGHT", "T_JUNCTION", "CHANGE")):
            words = {w for t in bank.templates(kind) for w in words_of(t)}
            assert ("left" in words) == ("LEFT" in kind.name)
            assert ("right" in words) == ("RIGHT" in kind.name)


def test_the_corpus_never_shows_held_out_phrasings():
    bank = load_bank()
    corpus = set(bank.corpus(random.Random(0)))
    for kind in Kind:
        if not KINDS[kind].arguments:
            assert corpus.issuperset(bank.templates(kind, Split.TRAINING))
            assert not corpus.intersection(bank.templates(kind, Split.HELD_OUT))


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        (65, {}, r"kind 65 does not exist; allowed are 0\.\.64"),
        (-1, {}, "does not exist"),
        (Kind.TURN_LEFT_IN, {}, "TURN_LEFT_IN needs distance_m, got no arguments"),
        (Kind.TURN_LEFT, {"distance_m": 20}, "takes no arguments, but was also given distance_m"),
        (Kind.TURN_LEFT_IN, {"distance_m": 0}, r"whole metres in 1\.\.500"),
        (Kind.TURN_LEFT_IN, {"distance_m": 501}, "501"),
        (Kind.TURN_LEFT_IN, {"distance_m": 7.5}, "whole metres"),
        (Kind.TURN_LEFT_IN, {"distance_m": True}, "whole metres"),
        (Kind.GO_TO_POINT, {"ahead_m": 9, "side_m": 1, "side": "up"}, "allowed are left, right"),
    ],
)
def test_an_instruction_must_fit_its_kind(kind, arguments, words):
    with pytest.raises(InstructionError, match=words):
        Instruction(kind, arguments)


def test_an_instruction_is_a_value():
    one = Instruction(Kind.TURN_LEFT_IN, {"distance_m": 20})
    assert (
        one == Instruction(2, {"distance_m": 20}) and len({one, Instruction(2, one.arguments)}) == 1
    )
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(TypeError):
        one.arguments["distance_m"] = 3  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(version=2), "version is 2"),
        (lambda d: d.update(extra=1), "must have the keys"),
        (lambda d: d.update(held_out=0), "held_out is 0"),
        (lambda d: d["groups"].pop(), "no phrasings for GO_TO_POINT"),
        (lambda d: d["groups"].append(d["groups"][0]), "TURN_LEFT is there twice"),
        (lambda d: d["groups"][0]["kinds"].update(TURN_BACK={}), "'TURN_BACK' does not exist"),
        (lambda d: d["groups"][0]["phrasings"].pop(), "needs at least 10 phrasings, got 9"),
        (lambda d: d["groups"][0]["phrasings"].append("Go {speed}."), "nothing fills"),
        (lambda d: d["groups"][0]["phrasings"].append("Go {side"), "brace that does not pair"),
        (lambda d: d["groups"][0]["phrasings"].append("Go {side!r}."), "a name in braces"),
        (lambda d: d["groups"][0]["phrasings"].append("Go."), "in TURN_LEFT and in TURN_RIGHT"),
        (lambda d: d["groups"][1]["phrasings"].append("Go {side}."), "does not say"),
        (lambda d: d["groups"][0]["phrasings"].append("Stop."), "in STOP and in TURN_LEFT"),
        (lambda d: d["groups"][0]["phrasings"].append("caf\u00e9 {side}"), "no plain text"),
        (lambda d: d["groups"][0]["phrasings"].append("{side}" * 40), "1 to 160 characters"),
    ],
)
def test_a_broken_bank_is_refused(change, words):
    with pytest.raises(BankError, match=words):
        bank_from(_changed(change))


def test_the_page_lists_every_kind_as_it_is():
    page = (find_workspace().root / "docs" / "language.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row[0].strip("| ")) for row in rows] == list(KINDS)
    for row, (kind, info) in zip(rows, KINDS.items(), strict=True):
        assert row[1:3] == [f"`{kind.name}`", info.meaning]
        assert tuple(re.findall(r"`(\w+)`", row[3])) == info.arguments
        assert row[4] == ("yes" if info.has_end else "no")
        assert row[5].rstrip(" |") == load_bank().templates(kind)[0]
