# SPDX-License-Identifier: Apache-2.0
"""The edge's memory of a federation, on disk: a killed edge goes on where it was.

``journal.json`` is always whole (written beside and renamed); models and updates are files of their
own. Every order is written before it is said.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

from flad_common.error_codes import JOURNAL_UNUSABLE, FladError
from flad_pipeline.aggregation.layout import ModelLayout, State, state_hash
from flad_pipeline.partition import partition_from_json
from flad_pipeline.round.order import Order, OrderKind

SCHEMA, SCHEMA_VERSION = "flad.federation", 1


class Journal:
    """The folder of one federation.

    Args:
        folder: is made.
        digest: of the unit graph; a folder of another model is refused.
    """

    def __init__(self, folder: Path, digest: str) -> None:
        self.folder, self._digest = folder, digest
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def _file(self) -> Path:
        return self.folder / "journal.json"

    def read(self) -> dict[str, Any] | None:
        """What was written last; None in a new folder.

        Raises:
            FladError: (JOURNAL_UNUSABLE) if it is damaged or of another model.
        """
        if not self._file.is_file():
            return None
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
            kind, digest = (found["schema"], found["schema_version"]), found["digest"]
        except (ValueError, KeyError, TypeError) as error:
            raise FladError(JOURNAL_UNUSABLE, f"{self._file} is no journal: {error!r}") from error
        if kind != (SCHEMA, SCHEMA_VERSION) or digest != self._digest:
            raise FladError(
                JOURNAL_UNUSABLE,
                f"{self._file} is {kind[0]} {kind[1]} of unit graph {digest}; here is "
                f"{SCHEMA} {SCHEMA_VERSION} of {self._digest}",
            )
        return dict(found)

    def write(self, values: Mapping[str, Any]) -> None:
        """Replace what was written before."""
        head = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "digest": self._digest}
        text = json.dumps({**head, **values}, indent=1)
        beside = self._file.with_suffix(".new")
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._file)

    def model_file(self, name: str) -> Path:
        """Where tensors are kept."""
        return self.folder / f"{name}.safetensors"

    def save_model(self, name: str, state: State) -> Path:
        """Keep tensors, a model or what a rule remembers."""
        path = self.model_file(name)
        beside = path.with_suffix(".new")
        plain = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
        safetensors.torch.save_file(plain, beside)
        beside.replace(path)
        return path

    def load_tensors(self, name: str) -> State:
        """What :meth:`save_model` kept.

        Raises:
            FladError: (JOURNAL_UNUSABLE) if it cannot be read.
        """
        path = self.model_file(name)
        try:
            state: State = safetensors.torch.load_file(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise FladError(JOURNAL_UNUSABLE, f"{path} cannot be read: {error}") from error
        return state

    def load_model(self, name: str, layout: ModelLayout, expected_hash: str) -> State:
        """Tensors that were kept.

        Raises:
            FladError: (JOURNAL_UNUSABLE) if they are not there, or not those.
        """
        path, state = self.model_file(name), self.load_tensors(name)
        if wrong := layout.complaints(state):
            raise FladError(JOURNAL_UNUSABLE, f"{path}: {'; '.join(wrong[:5])}")
        if (found := state_hash(state)) != expected_hash:
            raise FladError(
                JOURNAL_UNUSABLE, f"{path} has hash {found}, the journal says {expected_hash}"
            )
        return state


def order_as_json(order: Order) -> dict[str, Any]:
    """Plain values for :func:`order_from_json`."""
    values = asdict(order) | {"kind": int(order.kind)}
    return values | {"pipelines": [p.as_json() for p in order.pipelines]}


def order_from_json(values: Mapping[str, Any]) -> Order:
    """What :func:`order_as_json` made.

    Raises:
        ValueError: if it is no order.
    """
    given = dict(values)
    given["kind"] = OrderKind(given["kind"])
    given["vehicles"] = tuple(given["vehicles"])
    given["pipelines"] = tuple(partition_from_json(json.dumps(p)) for p in given["pipelines"])
    return Order(**given)
