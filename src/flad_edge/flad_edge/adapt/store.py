# SPDX-License-Identifier: Apache-2.0
"""Releases in a folder: every triple's files, its scores, and which were live.

    STORE/history.json                    what was live, oldest first, and what was withdrawn
    STORE/log.jsonl                       who was added, scored, published, held back, rolled back
    STORE/NAME/release.json               hashes, sizes and scores
    STORE/NAME/{encoder,adllm,adm}.safetensors

What is scored stands in :mod:`.scoring`, the gate in :mod:`flad_edge.service.releases`.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flad_common.config import from_mapping, to_mapping
from flad_common.folder_lock import folder_lock
from flad_edge.adllm.weights import load_adllm
from flad_edge.service.releases import Release, ReleaseHistory
from flad_perception.weights import load_encoder

ENCODER, ADLLM, ADM = "encoder.safetensors", "adllm.safetensors", "adm.safetensors"
_RELEASE, _HISTORY, _LOG = "release.json", "history.json", "log.jsonl"
_LOCK_S = 30.0  # nobody holds the store for longer than it takes to copy three files


@dataclass(frozen=True, kw_only=True)
class StoredRelease:
    """A release and where its files lie."""

    release: Release
    folder: Path

    @property
    def encoder(self) -> Path:
        """Weights of the vision encoder."""
        return self.folder / ENCODER

    @property
    def adllm(self) -> Path:
        """Weights of the AD-LLM."""
        return self.folder / ADLLM

    @property
    def adm(self) -> Path | None:
        """Weights of the ADM; None where the release has none."""
        return self.folder / ADM if self.release.adm_hash else None


class ReleaseStore:
    """One edge's releases. One process writes at a time, others wait; any may read meanwhile.

    Args:
        root: the folder; made where it is not there.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def names(self) -> tuple[str, ...]:
        """Of all releases that are stored."""
        return tuple(sorted(path.parent.name for path in self.root.glob(f"*/{_RELEASE}")))

    def get(self, name: str) -> StoredRelease:
        """One release.

        Raises:
            ValueError: if there is none of that name, or its file is damaged.
        """
        if name not in self.names():
            known = ", ".join(self.names()) or "none"
            raise ValueError(f"{self.root} has no release {name!r}; it has {known}")
        folder = self.root / name
        release = from_mapping(Release, _numbers(_read_json(folder / _RELEASE)))
        return StoredRelease(release=release, folder=folder)

    def history(self) -> ReleaseHistory:
        """Which releases were live.

        Raises:
            ValueError: if the file is damaged.
        """
        path = self.root / _HISTORY
        if not path.is_file():
            return ReleaseHistory()
        values = _read_json(path)
        lists = {key: [_numbers(r) for r in values.get(key, [])] for key in _LISTS}
        return from_mapping(ReleaseHistory, {**values, **lists})

    def live(self) -> StoredRelease | None:
        """The release that shall drive; None before the first.

        Raises:
            ValueError: if its files are gone or damaged.
        """
        live = self.history().live
        return self.get(live.name) if live else None

    def log(self) -> list[dict[str, Any]]:
        """What was done, oldest first."""
        path = self.root / _LOG
        if not path.is_file():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def add(
        self,
        name: str,
        *,
        encoder: Path,
        adllm: Path,
        adm: Path | None = None,
        made_by: str = "hand",
    ) -> StoredRelease:
        """Take a triple in; it is not live and not scored.

        Args:
            name: new, of letters, digits, '_', '.' and '-'.
            encoder: weights; copied, as the others.
            adllm: weights that were trained on this encoder's tokens.
            adm: weights of the small model; None: the release has none.
            made_by: for the log, such as the tuning that made it.

        Raises:
            OSError: if a file is not there.
            ValueError: if one is no model of this version, they do not go together, or the name is
                taken.
        """
        eyes = load_encoder(encoder)
        model, adllm_id = load_adllm(adllm)
        small = load_adllm(adm) if adm is not None else None
        shape = (model.config.num_tokens, model.config.token_dim)
        if small and (small.model.config.num_tokens, small.model.config.token_dim) != shape:
            raise ValueError(
                f"the ADM reads {small.model.config.num_tokens} tokens of "
                f"{small.model.config.token_dim}, the AD-LLM {shape[0]} of {shape[1]}"
            )
        if (eyes.config.num_tokens, eyes.config.embed_dim) != shape:
            raise ValueError(
                f"the encoder gives {eyes.config.num_tokens} tokens of {eyes.config.embed_dim}, "
                f"the AD-LLM reads {shape[0]} of {shape[1]}"
            )
        release = Release(
            name=name,
            contract_version=adllm_id.contract_version,
            num_tokens=shape[0],
            token_dim=shape[1],
            encoder_hash=eyes.identity.hash,
            adllm_hash=adllm_id.hash,
            adm_hash=small.identity.hash if small else "",
            waypoint_step_s=model.config.waypoint_step_s,
        )
        files = {ENCODER: encoder, ADLLM: adllm, **({ADM: adm} if adm is not None else {})}
        with folder_lock(self.root, wait_s=_LOCK_S):
            if (self.root / name).exists():
                raise ValueError(f"{self.root} has {name!r} already; give it another name")
            partial = self.root / f".{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            for file, source in files.items():
                shutil.copyfile(source, partial / file)
            _write_json(partial / _RELEASE, to_mapping(release))
            os.replace(partial, self.root / name)
            self._note("added", name, made_by=made_by)
        return self.get(name)

    def scored(
        self,
        name: str,
        *,
        error_m: float,
        adm_error_m: float = math.nan,
        error_by_town_m: Mapping[str, float] | None = None,
        clips_hash: str,
    ) -> StoredRelease:
        """Write down what a release reached on held-out clips; of the live one, too.

        Raises:
            ValueError: if there is no such release.
        """
        values: dict[str, Any] = {
            "error_m": error_m,
            "adm_error_m": adm_error_m,
            "error_by_town_m": dict(error_by_town_m or {}),
            "clips_hash": clips_hash,
        }
        with folder_lock(self.root, wait_s=_LOCK_S):
            release = replace(self.get(name).release, **values)
            _write_json(self.root / name / _RELEASE, to_mapping(release))
            history = self.history()
            live = tuple(release if r.name == name else r for r in history.releases)
            if live != history.releases:
                self._keep(replace(history, releases=live))
            self._note("scored", name, **values)
        return self.get(name)

    def publish(self, name: str, *, margin_m: float) -> ReleaseHistory:
        """A release goes live, if the gate lets it.

        Raises:
            ValueError: saying why it stays out; that is logged, and nothing has changed.
        """
        with folder_lock(self.root, wait_s=_LOCK_S):
            try:
                history = self.history().published(self.get(name).release, margin_m=margin_m)
            except ValueError as error:
                self._note("held back", name, why=str(error))
                raise
            self._keep(history)
            self._note("published", name, margin_m=margin_m)
        return history

    def roll_back(self) -> ReleaseHistory:
        """The release before goes live again, all of its models.

        Raises:
            ValueError: if there is none, or its files are gone.
        """
        with folder_lock(self.root, wait_s=_LOCK_S):
            before = self.history()
            history = before.rolled_back()
            assert before.live and history.live
            self.get(history.live.name)
            self._keep(history)
            self._note("rolled back", before.live.name, to=history.live.name)
        return history

    def _keep(self, history: ReleaseHistory) -> None:
        _write_json(self.root / _HISTORY, to_mapping(history))

    def _note(self, what: str, name: str, **more: Any) -> None:
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        more = {key: _plain(value) for key, value in more.items()}
        with (self.root / _LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": now, "event": what, "release": name, **more}) + "\n")


_LISTS = ("releases", "withdrawn")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is damaged: it holds no mapping")
    return values


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    """A reader never sees half a file; a number that is none is written as null."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(_plain(values), indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Null back to NaN."""
    return {key: math.nan if value is None else value for key, value in values.items()}
