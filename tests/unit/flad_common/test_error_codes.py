# SPDX-License-Identifier: Apache-2.0
"""Numbers are unique, every one has help, and the help page is the table's."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from flad_common.error_codes import ERROR_CODES, WORLD_UNREACHABLE, FladError, errors_page


def test_no_number_and_no_name_is_used_twice():
    for values in ([c.number for c in ERROR_CODES], [c.name for c in ERROR_CODES]):
        assert [value for value, count in Counter(values).items() if count > 1] == []


@pytest.mark.parametrize("code", ERROR_CODES, ids=lambda code: code.name)
def test_every_code_says_what_it_means_and_what_to_do(code):
    assert re.fullmatch(r"[A-Z][A-Z_]+", code.name)
    assert 100 <= code.number <= 9999
    for sentence in (code.meaning, code.help):
        assert sentence.endswith(".")
        assert len(sentence) > 20


def test_the_help_page_on_disk_is_the_table(workspace):
    on_disk = (workspace.root / "docs/errors.md").read_text()

    assert on_disk == errors_page(), "run ./flad check --fix"
    assert re.findall(r"^## FLAD-(\d+) (\w+)$", on_disk, re.M) == [
        (str(code.number), code.name) for code in ERROR_CODES
    ]


def test_an_error_carries_number_name_detail_and_help():
    text = str(FladError(WORLD_UNREACHABLE, "127.0.0.1:2000 refused the connection"))

    assert text.startswith("FLAD-202 WORLD_UNREACHABLE: 127.0.0.1:2000 refused")
    assert WORLD_UNREACHABLE.help in text
