# SPDX-License-Identifier: Apache-2.0
"""Every example in a docstring does what it says."""

from __future__ import annotations

import doctest
import importlib
import re

import pytest

from flad_bringup.workspace import find_workspace

ROOT = find_workspace().root
WITH_EXAMPLES = [
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts[1:])
    for path in sorted(ROOT.glob("src/*/*/**/*.py"))
    if re.search(r"^\s*>>> ", path.read_text(encoding="utf-8"), re.M)
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name):
    results = doctest.testmod(importlib.import_module(name))

    assert results.attempted > 0
    assert results.failed == 0
