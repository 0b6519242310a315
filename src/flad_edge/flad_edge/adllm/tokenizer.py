# SPDX-License-Identifier: Apache-2.0
"""Text to token ids and back out of one JSON text, which travels with the weights."""

from __future__ import annotations

import functools
import string
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from flad_edge.adllm.config import TextConfig

PAD, UNKNOWN, BEGIN = "[PAD]", "[UNK]", "[BOS]"
"""Of tokenizers trained here; their ids are 0, 1, 2."""

_MAX_CHARACTERS_PER_TOKEN = 16
_MAX_UNKNOWN = 0.5
_KEPT_INSTRUCTIONS = 1024  # a vehicle repeats its own with every request


class TextTokenizer:
    """Encodes instructions (which begin a sequence) and notices (which stand inside one).

    Args:
        text: of a ``tokenizer.json``, as :attr:`text` gives it.
        config: bounds.

    Raises:
        ValueError: if ``text`` is no tokenizer, or has more ids than ``config.vocab_size``.
    """

    def __init__(self, text: str, config: TextConfig) -> None:
        try:
            self._tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"this is no tokenizer: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._config = config
        self._unknown = self._tokenizer.token_to_id(UNKNOWN)
        self._instruction = functools.lru_cache(_KEPT_INSTRUCTIONS)(self._read_instruction)
        if len(self) > config.vocab_size:
            raise ValueError(
                f"the tokenizer has {len(self)} ids, the model's embeddings have "
                f"{config.vocab_size} rows (text.vocab_size)"
            )

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def text(self) -> str:
        """The whole tokenizer as JSON."""
        return str(self._tokenizer.to_str())

    def instruction(self, text: str) -> tuple[int, ...]:
        """Ids of an instruction, with what the tokenizer puts at the beginning of a text.

        Raises:
            ValueError: if it is empty, too long, or in no language that the tokenizer knows.
        """
        return self._instruction(text)

    def notice(self, text: str) -> tuple[int, ...]:
        """Ids of a notice.

        Raises:
            ValueError: if it is empty or too long.
        """
        return self._encode(text, "notice", self._config.max_notice_tokens, begins=False)

    def decode(self, ids: Iterable[int]) -> str:
        """Words of ids, for people; case and spaces may differ from what was encoded."""
        return str(self._tokenizer.decode(list(ids)))

    def _read_instruction(self, text: str) -> tuple[int, ...]:
        ids = self._encode(text, "instruction", self._config.max_instruction_tokens, begins=True)
        self._check_language(text)
        return ids

    def _encode(self, text: str, what: str, max_tokens: int, *, begins: bool) -> tuple[int, ...]:
        if not text.strip():
            raise ValueError(f"the {what} is empty")
        too_long = f"the {what} is too long: {len(text)} characters; at most {max_tokens} tokens"
        if len(text) > max_tokens * _MAX_CHARACTERS_PER_TOKEN:
            raise ValueError(too_long)
        ids = tuple(self._tokenizer.encode(text, add_special_tokens=begins).ids)
        if len(ids) > max_tokens:
            raise ValueError(f"{too_long}, these are {len(ids)}")
        return ids

    def _check_language(self, text: str) -> None:
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        pieces_per_word = len(ids) / len(text.split())
        unknown = sum(i == self._unknown for i in ids) / len(ids)
        if pieces_per_word > self._config.max_pieces_per_word or unknown > _MAX_UNKNOWN:
            raise ValueError(
                "the instruction is in no language that this model was trained on: "
                f"{pieces_per_word:.1f} pieces per word (at most "
                f"{self._config.max_pieces_per_word}), {unknown:.0%} of them unknown "
                f"(at most {_MAX_UNKNOWN:.0%})"
            )


def train_tokenizer(texts: Iterable[str], config: TextConfig) -> TextTokenizer:
    """Learn byte pairs from ``texts``; the same texts in any order give the same tokenizer.

    Case does not matter to it, and numbers are read digit by digit, so that a distance which was
    never seen has tokens that were.

    Raises:
        ValueError: if there are no texts.
    """
    ordered = sorted(set(texts))
    if not ordered:
        raise ValueError("a tokenizer cannot be trained on no texts")
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.train_from_iterator(
        ordered,
        trainers.BpeTrainer(
            vocab_size=config.vocab_size,
            min_frequency=2,
            show_progress=False,
            special_tokens=[PAD, UNKNOWN, BEGIN],
            initial_alphabet=list(string.ascii_lowercase + string.digits + ".,;:!?'-()%/&"),
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))]
    )
    return TextTokenizer(tokenizer.to_str(), config)


def tokenizer_of_checkpoint(folder: Path, config: TextConfig) -> TextTokenizer:
    """The tokenizer that lies in a checkpoint's folder.

    Raises:
        ValueError: if there is none, or it does not fit ``config``.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no tokenizer.json; the checkpoint's own is needed")
    return TextTokenizer(path.read_text(encoding="utf-8"), config)
