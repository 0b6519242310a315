# SPDX-License-Identifier: Apache-2.0
"""A test is skipped only for what CI cannot have, by a marker, and stands in one list."""

from __future__ import annotations

import re
import subprocess
import sys

MARKERS = (
    "needs_carla_server",
    "needs_carla_towns",
    "needs_network_namespaces",
    "needs_ros_install",
)
_OTHER_WAYS = re.compile(r"pytest\.(skip|importorskip|xfail)\(|mark\.(skip|skipif|xfail)\b")

# Prints "MARKED test marker" for every marked test, without running any.
_COLLECT = """
import sys, pytest
class Plugin:
    def pytest_collection_finish(self, session):
        for item in session.items:
            for marker in sys.argv[1:]:
                if item.get_closest_marker(marker):
                    print("MARKED", item.nodeid.split("[")[0], marker)
sys.exit(pytest.main(["--collect-only", "-q", "tests"], plugins=[Plugin()]))
"""


def test_the_list_is_exactly_what_is_marked(workspace):
    listed = [
        line.split()
        for line in (workspace.root / "tests/allowed_skips.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    said = subprocess.run(
        [sys.executable, "-c", _COLLECT, *MARKERS],
        cwd=workspace.root,
        capture_output=True,
        text=True,
        timeout=300,
    ).stdout
    marked = {tuple(line.split()[1:]) for line in said.splitlines() if line.startswith("MARKED ")}

    assert [tuple(line) for line in listed] == sorted(marked), "the list should be:\n" + "\n".join(
        " ".join(line) for line in sorted(marked)
    )


def test_nothing_else_skips(workspace):
    found = [
        f"{path.relative_to(workspace.root)}: {line.strip()}"
        for path in sorted((workspace.root / "tests").rglob("*.py"))
        if path.name not in ("conftest.py", "test_allowed_skips.py")
        for line in path.read_text().splitlines()
        if _OTHER_WAYS.search(line)
    ]

    assert found == []
