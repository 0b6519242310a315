# SPDX-License-Identifier: Apache-2.0
"""Every package describes itself once: versions, names and executables agree."""

from __future__ import annotations

import importlib
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from flad_bringup.workspace import find_workspace

ROOT = find_workspace().root
PACKAGES = sorted(path.parent for path in ROOT.glob("src/*/package.xml"))
PYTHON_PACKAGES = [folder for folder in PACKAGES if (folder / "setup.py").is_file()]


def described(folder: Path, tag: str) -> str:
    return ElementTree.parse(folder / "package.xml").findtext(tag) or ""


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda f: f.name)
def test_the_manifest_is_whole(folder):
    assert described(folder, "name") == folder.name
    assert described(folder, "license") == "Apache-2.0"
    assert described(folder, "version") == described(ROOT / "src/flad_msgs", "version")


@pytest.mark.parametrize("folder", PYTHON_PACKAGES, ids=lambda f: f.name)
def test_setup_and_manifest_agree(folder):
    setup = (folder / "setup.py").read_text()

    assert re.search(r'version="([^"]+)"', setup)[1] == described(folder, "version")
    assert re.search(r'PACKAGE = "([^"]+)"', setup)[1] == folder.name
    assert (folder / "resource" / folder.name).is_file()
    assert f"script_dir=$base/lib/{folder.name}" in (folder / "setup.cfg").read_text()


@pytest.mark.parametrize("folder", PYTHON_PACKAGES, ids=lambda f: f.name)
def test_every_executable_exists(folder):
    for module, function in re.findall(r'= ([\w.]+):(\w+)"', (folder / "setup.py").read_text()):
        assert callable(getattr(importlib.import_module(module), function))


def test_the_license_is_there_and_every_source_names_it():
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    without = [
        str(path.relative_to(ROOT))
        for folder in ("src", "tests", "launch", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if path.read_text() and "SPDX-License-Identifier: Apache-2.0" not in path.read_text()[:120]
    ]
    assert without == []
