# SPDX-License-Identifier: Apache-2.0
"""Train a model: the first argument says which."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping

SUMMARY = "train a model: encoder, adllm, adm, swift, dwell"
NEEDS = ("vehicle", "train", "edge")
HANDS_OVER = True

MODELS: Mapping[str, str] = {
    "encoder": "flad_perception.training.cli",
    "adllm": "flad_edge.training.cli",
    "adm": "flad_edge.training.adm_cli",
    "swift": "flad_edge.swift.training_cli",
    "dwell": "flad_edge.mobility.dwell_cli",
}
"""What can be trained, and the module whose ``main`` parses the rest of the line."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing: each model's module parses its own."""


def run(args: argparse.Namespace) -> int:
    """Hand over, in this process."""
    parser = argparse.ArgumentParser(prog="./flad train", description=__doc__)
    parser.add_argument("model", choices=sorted(MODELS), help="what to train")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="its own arguments; see its --help")
    asked = parser.parse_args(args.rest)
    cli = importlib.import_module(MODELS[asked.model])  # only now is it installed
    return int(cli.main(asked.rest))
