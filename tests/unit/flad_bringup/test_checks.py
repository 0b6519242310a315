# SPDX-License-Identifier: Apache-2.0
"""Each gate of `./flad check` notices what it is there for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flad_bringup.checks import generated, requirement_sets
from flad_bringup.checks.humble_api import check_humble_api, wrapper_files
from flad_bringup.checks.result import CheckResult, run_program
from flad_bringup.workspace import Workspace

JAZZY_ONLY = '''"""Calls that Humble does not have."""

from rclpy.node import Node


def wait(node: Node) -> None:
    node.wait_for_node("planner", 1.0)
'''


def test_a_call_that_only_jazzy_has_is_refused(workspace, tmp_path: Path):
    bad, good = tmp_path / "bad_node.py", tmp_path / "good_node.py"
    bad.write_text(JAZZY_ONLY)
    good.write_text(JAZZY_ONLY.replace('wait_for_node("planner", 1.0)', "get_node_names()"))

    refused = check_humble_api(workspace, [bad])

    assert refused.verdict == "failed"
    assert '"Node" has no attribute "wait_for_node"' in refused.text
    assert check_humble_api(workspace, [good]) == CheckResult(verdict="passed")


def test_every_wrapper_is_checked(workspace):
    names = {path.name for path in wrapper_files(workspace.root)}

    assert {"qos.py", "lifecycle.py", "parameters.py", "planner_node.py"} <= names


def test_a_stale_page_is_noticed_and_mended(tmp_path: Path, monkeypatch):
    here = Workspace(root=tmp_path)
    monkeypatch.setattr(generated, "PAGES", {"docs/a.md": lambda _: "fresh\n"})

    assert generated.check_generated(here, fix=False).verdict == "failed"
    assert generated.check_generated(here, fix=True).verdict == "passed"
    assert (tmp_path / "docs/a.md").read_text() == "fresh\n"
    assert generated.check_generated(here, fix=False).verdict == "passed"
    (tmp_path / "docs/a.md").write_text("stale\n")
    assert "docs/a.md is not what the code says" in generated.check_generated(here, fix=False).text


@pytest.mark.parametrize(
    "said, verdict",
    [
        ("error: No solution found when resolving dependencies", "failed"),
        ("error: Request failed: dns error: failed to lookup address", "skipped"),
    ],
)
def test_a_set_that_does_not_resolve_fails_and_a_missing_network_is_said(
    workspace, monkeypatch, said, verdict
):
    result = CheckResult(verdict="failed", text=said)
    monkeypatch.setattr(requirement_sets, "run_program", lambda *_, **__: result)

    assert requirement_sets.check_requirement_sets(workspace).verdict == verdict


def test_every_requirement_file_is_resolved_for_humbles_python(workspace):
    files = {path.stem for path in (workspace.root / "requirements").glob("*.txt")}
    targets = [t for t in requirement_sets.TARGETS if t.python == "3.10"]
    for_humble = {name for target in targets for name in target.names}

    assert files - {"cloud"} == for_humble  # Flower needs 3.11, in an environment of its own
    assert any("cloud" in target.names for target in requirement_sets.TARGETS)


def test_every_requirement_says_why_it_is_there(workspace):
    for file in (workspace.root / "requirements").rglob("*.txt"):
        for line in file.read_text().splitlines():
            requirement, _, reason = line.partition("#")
            if not requirement.strip() or requirement.startswith("-r"):
                continue
            assert re.search("==|<", requirement), f"{file.name}: no bound: {line}"
            assert len(reason.strip()) > 8 or file.stem == "ros", f"{file.name}: why? {line}"


def test_a_program_that_fails_is_quoted(tmp_path: Path):
    failed = run_program(["sh", "-c", "echo E501 line too long; exit 1"], folder=tmp_path)

    assert failed == CheckResult(verdict="failed", text="E501 line too long")
