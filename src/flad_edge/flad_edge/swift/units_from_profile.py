# SPDX-License-Identifier: Apache-2.0
"""Operations of a profile, grouped into units of nearly equal work at cuts that few bytes cross."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flad_edge.swift.units import CutCosts, ModelUnits, UnitCosts

_VERSION = 1


def units_from_profile(profile: Mapping[str, Any], num_units: int) -> ModelUnits:
    """Group a profile's operations (docs/profile.md, "A unit from it").

    Operations that share a parameter stay together, and so does everything between them.

    Args:
        profile: the JSON of ``./flad profile --json``.
        num_units: at most so many.

    Raises:
        ValueError: if it is another version, or ``num_units`` is not positive.
    """
    if profile.get("schema_version") != _VERSION:
        raise ValueError(
            f"the profile's schema_version is {profile.get('schema_version')!r}, known: {_VERSION}"
        )
    if num_units < 1:
        raise ValueError(f"num_units must be at least 1, got {num_units}")
    ends = _ends(profile, num_units)
    begins = [0, *(end + 1 for end in ends[:-1])]
    return ModelUnits(
        name=str(profile.get("model", "model")),
        batch_size=int(profile["batch_size"]),
        units=tuple(_unit(profile, a, b) for a, b in zip(begins, ends, strict=True)),
        cuts=tuple(
            CutCosts(
                forward_bytes=float(cut["forward_bytes"] + cut["input_bytes"]),
                backward_bytes=float(cut["backward_bytes"]),
            )
            for cut in (profile["cuts"][end] for end in ends[:-1])
        ),
    )


def _ends(profile: Mapping[str, Any], num_units: int) -> list[int]:
    """Indices of the last operations of the units, in order."""
    operations: Sequence[Mapping[str, Any]] = profile["operations"]
    last = len(operations) - 1
    allowed = _allowed_cuts(operations)
    crossing = np.array(
        [c["forward_bytes"] + c["input_bytes"] + c["backward_bytes"] for c in profile["cuts"]],
        dtype=np.float64,
    )
    work = np.cumsum([o["flops_forward"] + o["flops_backward"] for o in operations])
    chosen: list[int] = []
    for number in range(1, num_units):
        low, high = (work[-1] * (number + shift) / num_units for shift in (-0.5, 0.5))
        near = [i for i in allowed if low <= work[i] < high and i not in chosen and i != last]
        if near:
            chosen.append(min(near, key=lambda i: (crossing[i], i)))
    return [*sorted(chosen), last]


def _allowed_cuts(operations: Sequence[Mapping[str, Any]]) -> list[int]:
    """Cuts that part no shared parameter."""
    parted = np.zeros(len(operations), dtype=np.bool_)
    first_use: dict[str, int] = {}
    for index, operation in enumerate(operations):
        for name in operation["parameters"]:
            parted[first_use.setdefault(name, index) : index] = True
    allowed: NDArray[np.int64] = np.nonzero(~parted)[0]
    return [int(i) for i in allowed]


def _unit(profile: Mapping[str, Any], begin: int, end: int) -> UnitCosts:
    operations = profile["operations"][begin : end + 1]
    parameters = {name for operation in operations for name in operation["parameters"]}
    storages = {index for operation in operations for index in operation["saves"]}
    held = {
        kind: float(sum(profile["parameters"][name][kind] for name in parameters))
        for kind in ("weights", "gradients", "optimizer")
    }
    saved = float(sum(profile["storages"][index] for index in storages))
    cuts = profile["cuts"]
    live = [float(c["forward_bytes"] + c["input_bytes"]) for c in cuts[max(0, begin - 1) : end + 1]]
    moving = max((a + b for a, b in itertools.pairwise(live)), default=sum(live))
    modules = [operation["module"] or operation["name"] for operation in operations]
    return UnitCosts(
        name=modules[0] if modules[0] == modules[-1] else f"{modules[0]} .. {modules[-1]}",
        flops_forward=float(sum(o["flops_forward"] for o in operations)),
        flops_backward=float(sum(o["flops_backward"] for o in operations)),
        parameter_bytes=held["weights"],
        gradient_bytes=held["gradients"],
        optimizer_bytes=held["optimizer"],
        saved_bytes=saved,
        peak_bytes=sum(held.values()) + saved + moving,
    )
