# SPDX-License-Identifier: Apache-2.0
"""Runs set-up steps whose inputs changed, once at a time, and remembers what is done."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flad_common.error_codes import BUILD_FAILED, FladError


@dataclass(frozen=True, kw_only=True)
class Step:
    """One part of set-up."""

    name: str
    """One word, stable: the stamp file remembers it."""
    title: str
    key: str
    """Changes exactly when the step has to run again: a digest of its inputs."""
    is_present: Callable[[], bool]
    """Whether what it made is still there (someone may have deleted it)."""
    run: Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """How one step went."""

    name: str
    skipped: bool
    seconds: float


def run_steps(
    steps: Sequence[Step], stamp_file: Path, *, tell: Callable[[str], None]
) -> list[StepDone]:
    """Run what is out of date, in order. A step that fails leaves the earlier ones done.

    Raises:
        FladError: from the step, or BUILD_FAILED if it left nothing behind.
    """
    stamps = _read_stamps(stamp_file)
    done = []
    for number, step in enumerate(steps, start=1):
        if stamps.get(step.name) == step.key and step.is_present():
            done.append(StepDone(name=step.name, skipped=True, seconds=0.0))
            continue
        tell(f"[{number}/{len(steps)}] {step.title}")
        started = time.monotonic()
        step.run()
        if not step.is_present():
            raise FladError(
                BUILD_FAILED, f"the step {step.name!r} ended well, but what it makes is not there"
            )
        stamps[step.name] = step.key
        _write_stamps(stamp_file, stamps)
        seconds = time.monotonic() - started
        done.append(StepDone(name=step.name, skipped=False, seconds=seconds))
    return done


def digest(paths: Iterable[Path], *also: str) -> str:
    """Digest of files' names and bytes, and of further words."""
    total = hashlib.sha256()
    for word in also:
        total.update(word.encode() + b"\0")
    for path in sorted(paths):
        total.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


@contextlib.contextmanager
def only_one(lock_file: Path, *, deadline_s: float, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock against another set-up of the same checkout.

    Raises:
        FladError: if the other one is not done after ``deadline_s``.
    """
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("a+") as lock:
        give_up_at = time.monotonic() + deadline_s
        told = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up_at:
                    raise FladError(
                        BUILD_FAILED,
                        f"another set-up has held {lock_file} for {deadline_s:.0f} s",
                    ) from None
                if not told:
                    tell("another set-up of this checkout is running; waiting for it")
                    told = True
                time.sleep(0.2)
        yield


def _read_stamps(path: Path) -> dict[str, str]:
    try:
        stamps = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):  # first time, or cut off while written
        return {}
    return stamps if isinstance(stamps, dict) else {}


def _write_stamps(path: Path, stamps: dict[str, str]) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(stamps, indent=2, sort_keys=True))
    beside.replace(path)
