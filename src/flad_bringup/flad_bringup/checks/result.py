# SPDX-License-Identifier: Apache-2.0
"""What one check says."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_DEADLINE_S = 900.0


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """The verdict of one check and the words for whoever has to mend it."""

    verdict: Literal["passed", "failed", "skipped"]
    text: str = ""

    @classmethod
    def from_complaints(cls, complaints: Sequence[str]) -> CheckResult:
        """Passed when nobody complains."""
        return cls(verdict="failed" if complaints else "passed", text="\n".join(complaints))


def run_program(
    command: Sequence[str], *, folder: Path, environment: Mapping[str, str] | None = None
) -> CheckResult:
    """Passed when the program ends with 0; its words are the text otherwise."""
    ended = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
    )
    if ended.returncode == 0:
        return CheckResult(verdict="passed")
    return CheckResult(verdict="failed", text=(ended.stdout + ended.stderr).strip())
