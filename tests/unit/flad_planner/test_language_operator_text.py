# SPDX-License-Identifier: Apache-2.0
"""What operators type is passed on tidily or refused with a reason they can act on."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flad_planner.language.bank import draw_arguments, load_bank
from flad_planner.language.kinds import Kind
from flad_planner.language.operator_text import (
    Refusal,
    RefusedTextError,
    TextLimits,
    accepted_text,
)

LIMITS = TextLimits()


@given(st.sampled_from(Kind), st.integers())
def test_every_sentence_of_the_bank_is_accepted_as_it_is(kind, seed):
    for sentence in load_bank().sentences(draw_arguments(kind, random.Random(seed))):
        assert accepted_text(sentence, LIMITS) == sentence


@pytest.mark.parametrize(
    ("text", "refusal", "words"),
    [
        ("turn left " * 10_000, Refusal.TOO_LONG, "100000 characters, at most 400"),
        (b"turn left " * 10_000, Refusal.TOO_LONG, "100000 bytes, at most 400 characters"),
        ("a" * 401, Refusal.TOO_LONG, "401 characters"),
        (b"a" * 401, Refusal.TOO_LONG, "401 characters"),
        (b"\xff\xfe\x00", Refusal.NOT_TEXT, "not UTF-8"),
        ("", Refusal.EMPTY, "say what to do"),
        (" \n\t ", Refusal.EMPTY, "say what to do"),
        ("stop\x00here", Refusal.NOT_PRINTABLE, r"U\+0000"),
        ("stop \u202e here", Refusal.NOT_PRINTABLE, r"U\+202E"),
        ("stop \ud800 here", Refusal.NOT_PRINTABLE, r"U\+D800"),
        ("1234 !?", Refusal.NO_WORDS, "no words"),
        ("K\u00e4\u00e4nny vasemmalle risteyksess\u00e4", Refusal.UNKNOWN_LANGUAGE, "Only English"),
        ("Biegen Sie an der Ampel links ab", Refusal.UNKNOWN_LANGUAGE, "biegen"),
        ("Tournez \u00e0 gauche au feu", Refusal.UNKNOWN_LANGUAGE, "0%"),
        ("Gira a la izquierda en el sem\u00e1foro", Refusal.UNKNOWN_LANGUAGE, "at least 60%"),
        ("\u5de6\u8f6c", Refusal.UNKNOWN_LANGUAGE, "Only English"),
        ("a" * 400, Refusal.UNKNOWN_LANGUAGE, r"a{40}\."),
    ],
)
def test_refusals_say_why(text, refusal, words):
    with pytest.raises(RefusedTextError, match=words) as caught:
        accepted_text(text, LIMITS)
    assert caught.value.refusal is refusal
    assert len(str(caught.value)) < 600  # a refusal never carries the whole text back


@pytest.mark.parametrize(
    "text",
    [
        "turn left at Elm Street please",
        "Drive to the hospital",
        "don\u2019t stop \u2013 keep going",
        b"take the 2nd right",
    ],
)
def test_plain_english_is_accepted_with_names_in_it(text):
    assert accepted_text(text, LIMITS).isprintable()


@given(st.text(max_size=30) | st.binary(max_size=60) | st.text("go left.\t\u2019", max_size=30))
def test_whatever_comes_is_tidy_or_refused(text):
    limits = TextLimits(max_characters=20)
    try:
        tidy = accepted_text(text, limits)
    except RefusedTextError as e:
        assert str(e)
    else:
        assert tidy.isprintable() and 0 < len(tidy) <= limits.max_characters
        assert accepted_text(tidy, limits) == tidy
