# SPDX-License-Identifier: Apache-2.0
"""Runs a long external program with its output in a log and its last line on the terminal."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from flad_common.error_codes import TOOL_MISSING, ErrorCode, FladError


def run_tool(
    command: Sequence[str],
    *,
    log_file: Path,
    failure: ErrorCode,
    environment: Mapping[str, str],
    folder: Path,
) -> None:
    """Run ``command`` to its end; everything it says goes to ``log_file``.

    Raises:
        FladError: ``failure`` with the program's last lines if it ends with an error, or
            TOOL_MISSING if it cannot be started.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    tail: deque[str] = deque(maxlen=25)
    started = time.monotonic()
    with log_file.open("w", encoding="utf-8") as log:
        log.write("$ " + " ".join(command) + "\n")
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise FladError(TOOL_MISSING, f"{command[0]} cannot be started ({error})") from error
        with process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    log.write(line)
                    tail.append(line.rstrip())
                    _show(line.strip(), time.monotonic() - started)
            except BaseException:  # Ctrl-C included: the child must not outlive us
                process.terminate()
                raise
    _show("", None)
    if process.returncode != 0:
        lines = "\n".join(f"    {line}" for line in tail)
        raise FladError(
            failure,
            f"{Path(command[0]).name} ended with {process.returncode}; it said last\n{lines}\n"
            f"    (all of it: {log_file})\n",
        )


def _show(line: str, elapsed_s: float | None) -> None:
    """One line that overwrites itself, only where someone is looking."""
    if not sys.stderr.isatty():
        return
    text = "" if elapsed_s is None else f"    {elapsed_s:4.0f} s  {line}"[:98]
    print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
