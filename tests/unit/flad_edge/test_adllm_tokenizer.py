# SPDX-License-Identifier: Apache-2.0
"""Text becomes ids the same way everywhere, and what is no instruction is refused."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest
from tiny_adllm import CONFIG, TEXTS, tiny_tokenizer

from flad_edge.adllm.config import load_adllm_config
from flad_edge.adllm.tokenizer import (
    TextTokenizer,
    tokenizer_of_checkpoint,
    train_tokenizer,
)
from flad_planner.language.bank import load_bank

TEXT_CONFIG = load_adllm_config("tiny").text


@pytest.fixture(scope="module")
def of_the_bank() -> TextTokenizer:
    return train_tokenizer(load_bank().corpus(random.Random(0)), TEXT_CONFIG)


def test_training_again_elsewhere_and_in_another_order_gives_the_same():
    script = (
        "import sys, json\n"
        "from flad_edge.adllm.tokenizer import train_tokenizer\n"
        "from flad_edge.adllm.config import TextConfig\n"
        "print(train_tokenizer(json.loads(sys.argv[1]), TextConfig(vocab_size=128)).text)"
    )
    there = subprocess.run(
        [sys.executable, "-c", script, json.dumps(TEXTS[::-1])],
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.strip() == tiny_tokenizer().text


def test_every_sentence_of_the_bank_is_read_without_an_unknown_piece(of_the_bank):
    for sentence in load_bank().corpus(random.Random(1)):
        ids = of_the_bank.instruction(sentence)
        assert 1 not in ids
        assert of_the_bank.decode(ids[1:]).replace(" ", "") == sentence.lower().replace(" ", "")


def test_numbers_are_read_digit_by_digit_and_case_does_not_matter(of_the_bank):
    ids = of_the_bank.instruction("Turn left in 4711 METRES")

    assert ids == of_the_bank.instruction("turn left in 4711 metres")
    assert of_the_bank.decode(ids[1:]) == "turn left in 4 7 1 1 metres"


def test_only_an_instruction_begins_a_text(of_the_bank):
    assert of_the_bank.instruction("Turn left.") == (2, *of_the_bank.notice("Turn left."))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the instruction is empty"),
        (" \n\t", "the instruction is empty"),
        ("turn left " * 10_000, "too long: 100000 characters; at most 64 tokens"),
        ("turn left " * 40, "too long.*these are 81"),
        ("Bitte biegen Sie an der nächsten Kreuzung rechts ab", "no language"),
        ("Поверните налево на следующем перекрёстке", "no language"),
        ("次の交差点を左に曲がってください", "no language"),
        ("xqzv kjhw pqlm", "no language"),
    ],
)
def test_what_is_no_instruction_is_refused_with_the_reason(of_the_bank, text, complaint):
    with pytest.raises(ValueError, match=complaint):
        of_the_bank.instruction(text)


@pytest.mark.parametrize(
    "text",
    [
        "please go left here",
        "at the lights take a right",
        "could you slow down a bit",
        "take the second exit of the roundabout",
        "Go to the point 35.5 m ahead and 12 m to the left.",
    ],
)
def test_what_an_operator_might_say_is_read(of_the_bank, text):
    assert len(of_the_bank.instruction(text)) > 3


def test_a_tokenizer_with_more_ids_than_the_model_has_rows_is_refused(of_the_bank):
    with pytest.raises(ValueError, match=r"has \d+ ids, the model's embeddings have 128 rows"):
        TextTokenizer(of_the_bank.text, CONFIG.text)
    with pytest.raises(ValueError, match="this is no tokenizer"):
        TextTokenizer("{}", CONFIG.text)
    with pytest.raises(ValueError, match="no texts"):
        train_tokenizer([], CONFIG.text)


def test_a_checkpoint_brings_its_own(tmp_path):
    with pytest.raises(ValueError, match=r"has no tokenizer\.json"):
        tokenizer_of_checkpoint(tmp_path, CONFIG.text)
    (tmp_path / "tokenizer.json").write_text(tiny_tokenizer().text)

    found = tokenizer_of_checkpoint(tmp_path, CONFIG.text)
    assert found.instruction(TEXTS[0]) == tiny_tokenizer().instruction(TEXTS[0])
