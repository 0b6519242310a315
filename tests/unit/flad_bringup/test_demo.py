# SPDX-License-Identifier: Apache-2.0
"""What the demo refuses before it empties the folder of the last one."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from flad_bringup.commands import demo
from flad_bringup.workspace import find_workspace


@pytest.mark.parametrize("encoder", ["smal", "absent.safetensors", "paper"])
def test_an_encoder_that_is_not_there_costs_no_earlier_run(tmp_path: Path, capsys, encoder):
    (tmp_path / "results.json").write_text("{}")
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    args = parser.parse_args(["--out", str(tmp_path), "--encoder", encoder])
    args.workspace = find_workspace()

    assert demo.run(args) == 2
    assert (tmp_path / "results.json").is_file()
    assert f"{encoder!r} is no .safetensors file and no shipped model" in capsys.readouterr().out


def test_a_language_driver_without_eyes_costs_no_earlier_run(tmp_path: Path, capsys):
    (tmp_path / "results.json").write_text("{}")
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    args = parser.parse_args(["--out", str(tmp_path), "--encoder", "off", "--driver", "adllm"])
    args.workspace = find_workspace()

    assert demo.run(args) == 2
    assert (tmp_path / "results.json").is_file()
    assert "--encoder off needs --driver expert" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, driver",
    [
        ([], "adllm"),
        (["--driver", "expert"], "expert"),
        (["--encoder", "off"], "expert"),
        (["--encoder", "small"], "adllm"),
        (["--encoder", __file__], "expert"),
    ],
)
def test_the_language_model_drives_unless_there_are_no_eyes(
    tmp_path: Path, monkeypatch, options, driver
):
    asked: list[str] = []

    class Evaluation:
        @staticmethod
        def main(arguments: list[str]) -> int:
            asked.extend(arguments)
            return 1

    monkeypatch.setattr(demo.importlib, "import_module", lambda name: Evaluation)
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    args = parser.parse_args(["--quick", "--out", str(tmp_path / "demo"), *options])
    args.workspace = find_workspace()

    assert demo.run(args) == 1
    assert asked[asked.index("--driver") + 1] == driver
