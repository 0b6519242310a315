# SPDX-License-Identifier: Apache-2.0
"""Say what this machine has, what it lacks, and what to do about it. Changes nothing."""

from __future__ import annotations

import argparse
import dataclasses

from flad_bringup.commands.figures import add_json_argument, write_json
from flad_bringup.doctor import examine

SUMMARY = "say what this machine lacks, and what to do about it"
NEEDS: tuple[str, ...] = ()

_MARKS = {"good": "ok  ", "warning": "warn", "bad": "BAD "}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print every finding; the status is 1 if something is bad."""
    findings = examine(args.workspace)
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        print(f"{_MARKS[finding.state]} {finding.subject:{width}}  {finding.found}")
        if finding.advice:
            print(f"     {'':{width}}  -> {finding.advice}")
    write_json(args.json, {"findings": [dataclasses.asdict(f) for f in findings]})
    return int(any(finding.state == "bad" for finding in findings))
