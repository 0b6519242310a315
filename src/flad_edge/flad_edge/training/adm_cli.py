# SPDX-License-Identifier: Apache-2.0
"""The command line ``./flad train adm``: the same as for the AD-LLM, with a teacher."""

from __future__ import annotations

from collections.abc import Sequence

from flad_edge.training.cli import run


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(argv, needs_teacher=True)
