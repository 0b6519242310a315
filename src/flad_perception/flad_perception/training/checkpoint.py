# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: written whole or not at all, and refused by another configuration.

A checkpoint holds everything that the next step depends on; what is in it is up to its owners
(``state_dict`` of each). It is read with ``weights_only``: a checkpoint is data, never code.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from flad_common.error_codes import CHECKPOINT_UNUSABLE, FladError

_VERSION = 1
_SAMPLE = 8


def save_checkpoint(path: Path, belongs_to: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write ``state``; a reader (or a resumed run) never sees half of it.

    Args:
        path: replaced at the end, when the new file is on the disk.
        belongs_to: plain values that a run must agree with to go on from here.
        state: tensors and plain values.
    """
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:
        torch.save(
            {"version": _VERSION, "belongs_to": dict(belongs_to), "state": dict(state)}, file
        )
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def load_checkpoint(path: Path, belongs_to: Mapping[str, Any]) -> dict[str, Any]:
    """The ``state`` of a checkpoint of the same run.

    Raises:
        FladError: (CHECKPOINT_UNUSABLE) if it is damaged, or belongs to another configuration or
            data set; the message names every value that differs.
    """
    try:
        whole = torch.load(path, map_location="cpu", weights_only=True)
        version, theirs, state = whole["version"], whole["belongs_to"], whole["state"]
    except Exception as error:  # torch raises almost anything on a damaged file
        raise FladError(CHECKPOINT_UNUSABLE, f"{path} cannot be read: {error}") from error
    if version != _VERSION:
        raise FladError(
            CHECKPOINT_UNUSABLE, f"{path} has format {version!r}, this program reads {_VERSION}"
        )
    if different := differences(theirs, belongs_to):
        more = len(different) - _SAMPLE
        raise FladError(
            CHECKPOINT_UNUSABLE,
            f"{path} belongs to another run: "
            + "; ".join(different[:_SAMPLE])
            + (f"; and {more} more" if more > 0 else ""),
        )
    assert isinstance(state, dict)
    return state


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Every dotted name whose value differs, with both values.

    Example:
        >>> differences({"train": {"lr": 0.1, "seed": 1}}, {"train": {"lr": 0.2, "seed": 1}})
        ['train.lr is 0.1 there and 0.2 here']
    """
    a, b = _flat(theirs), _flat(ours)
    return [
        f"{name} is {a.get(name, 'absent')} there and {b.get(name, 'absent')} here"
        for name in sorted(a.keys() | b.keys())
        if name not in a or name not in b or a[name] != b[name]
    ]


def _flat(values: Any, name: str = "") -> dict[str, Any]:
    if isinstance(values, Mapping):
        items: list[tuple[Any, Any]] = list(values.items())
    elif isinstance(values, (list, tuple)):
        items = list(enumerate(values))
    else:
        return {name: values}
    flat: dict[str, Any] = {} if items or not name else {name: "empty"}
    for key, value in items:
        flat |= _flat(value, f"{name}.{key}" if name else str(key))
    return flat
