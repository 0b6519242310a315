# SPDX-License-Identifier: Apache-2.0
"""Whole frames on disk: a frame is there with all its files and their checksums, or not at all.

Files of a frame are written under temporary names, renamed, and then entered in ``checksums.txt``
(``sha256sum -c`` reads it). What is on disk and not in that file is the rest of a crash: discarded
by :func:`discard_leftovers`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flad_carla.recorder.layout import BY_FOLDER, CHECKSUMS, MEASUREMENTS_ALL, REQUIRED

_TEMPORARY = ".tmp"


class FrameStore:
    """The folder of one run. Single-threaded.

    Args:
        folder: is made; must not exist.
        reserve_bytes: room kept free so that a recording on a full disk can be finished.

    Raises:
        OSError: if there is no room, or the folder exists.
    """

    def __init__(self, folder: Path, reserve_bytes: int = 2**20) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._reserve = folder / ".reserve"
        self._checksums = folder / CHECKSUMS
        self._checksums.touch()
        with self._reserve.open("wb") as file:
            if reserve_bytes > 0:
                os.posix_fallocate(file.fileno(), 0, reserve_bytes)

    def put(self, frame: int, files: Mapping[str, bytes]) -> None:
        """Write a frame's files, given by folder (see :mod:`layout`); all of them or none.

        Raises:
            OSError: if they cannot be written; nothing of this call stays.
        """
        paths = {folder: self.folder / BY_FOLDER[folder].path(frame) for folder in sorted(files)}
        written: list[Path] = []
        try:
            for folder, path in paths.items():
                path.parent.mkdir(exist_ok=True)
                temporary = path.with_name(path.name + _TEMPORARY)
                written.append(temporary)
                temporary.write_bytes(files[folder])
            for path in paths.values():
                temporary = path.with_name(path.name + _TEMPORARY)
                written.append(path)
                temporary.replace(path)
            self._enter(paths, files)
        except OSError:
            for path in written:
                path.unlink(missing_ok=True)
            raise

    def finish(self, documents: Mapping[str, Any]) -> None:
        """Give the reserve back and write JSON documents of the whole run beside the frames.

        Raises:
            OSError: if there is no room even so.
        """
        self._reserve.unlink(missing_ok=True)
        for name, document in documents.items():
            write_json(self.folder / name, document)

    def _enter(self, paths: Mapping[str, Path], files: Mapping[str, bytes]) -> None:
        lines = "".join(
            f"{hashlib.sha256(files[folder]).hexdigest()}  {path.relative_to(self.folder)}\n"
            for folder, path in paths.items()
        ).encode()
        size = self._checksums.stat().st_size
        try:
            with self._checksums.open("ab", buffering=0) as file:
                if file.write(lines) != len(lines):
                    raise OSError(28, os.strerror(28), str(self._checksums))
        except OSError:
            os.truncate(self._checksums, size)
            raise


def read_checksums(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256; a last line that a crash cut off is left out."""
    text = (folder / CHECKSUMS).read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    entries = (line.split("  ", 1) for line in whole.splitlines())
    return {path: digest for digest, path in entries}


def complete_frames(checksums: Mapping[str, str]) -> int:
    """How many frames, counted from 0, have all files that every data set has."""
    frame = 0
    while all(BY_FOLDER[folder].path(frame) in checksums for folder in REQUIRED):
        frame += 1
    return frame


def discard_leftovers(folder: Path) -> int:
    """Make a folder that a crash left behind whole again; returns how many frames it has.

    Files of unfinished frames are deleted, checksums trimmed, ``measurements_all.json`` written.
    """
    known = read_checksums(folder)
    num_frames = complete_frames(known)
    keep = {
        path: digest
        for path, digest in known.items()
        if int(Path(path).stem) < num_frames and (folder / path).is_file()
    }
    for path in folder.glob("*/*"):
        if str(path.relative_to(folder)) not in keep:
            path.unlink()
    (folder / ".reserve").unlink(missing_ok=True)
    replace_text(
        folder / CHECKSUMS, "".join(f"{digest}  {path}\n" for path, digest in keep.items())
    )
    measurements = [
        json.loads((folder / BY_FOLDER["measurements"].path(i)).read_text())
        for i in range(num_frames)
    ]
    write_json(folder / MEASUREMENTS_ALL, measurements)
    return num_frames


def write_json(path: Path, document: Any) -> None:
    """Write JSON, whole or not at all."""
    replace_text(path, json.dumps(document))


def replace_text(path: Path, text: str) -> None:
    """Write text, whole or not at all."""
    temporary = path.with_name(path.name + _TEMPORARY)
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
