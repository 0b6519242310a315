# SPDX-License-Identifier: Apache-2.0
"""Where the states of an exact table lie: sets of vehicles by size, first vehicle and speed.

A state is a set and its first vehicle. States of one block have the same size and first vehicle,
and sets about equally fast: what they can hold and do, and so the units at which they can begin,
are alike. All tables of one problem share a layout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flad_edge.swift.problem import Ints, Problem

_ROWS = 300
"""States of a block: its arrays stay within a core's cache."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Block:
    """States of one size and first vehicle; ``r`` rows, ``k`` vehicles behind the first."""

    rows: slice
    size: int
    """Vehicles of each set."""
    vehicle: int
    """The first one."""
    members: Ints
    """``[r]``: bit sets."""
    rests: Ints
    """``[r]``: without the first vehicle."""
    after: NDArray[np.intp]
    """``[k, r]``: vehicles that may be next."""
    behind: NDArray[np.intp]
    """``[k, r]``: the row of the state in which they are."""


class Layout:
    """All states of a cluster, the smaller sets first.

    Args:
        problem: whose vehicles they are.
    """

    def __init__(self, problem: Problem) -> None:
        n = problem.num_vehicles
        masks = np.arange(1 << n)
        bits = (masks[:, None] >> np.arange(n) & 1).astype(np.bool_)
        sizes = bits.sum(axis=1)
        order = np.argsort(~bits, axis=1, kind="stable")
        """Members of each set, then the others."""
        self.flops_per_s = bits @ (1.0 / problem.seconds_per_flop)
        """``[2^n]``: of each set."""
        self.memory = bits @ np.maximum(problem.memory, 0.0)
        """``[2^n]``: of each set."""
        self.sizes = sizes
        """``[2^n]``."""
        self.row_of = np.full((1 << n, n), -1, dtype=np.intp)
        """``[2^n, n]``: of a set and its first vehicle; -1 where that is not in it."""
        self.blocks: list[Block] = []
        at = 0
        for size in range(1, n + 1):
            all_of_size = np.nonzero(sizes == size)[0]
            for vehicle in range(n):
                members = all_of_size[bits[all_of_size, vehicle]]
                members = members[np.argsort(self.flops_per_s[members], kind="stable")]
                self.row_of[members, vehicle] = np.arange(at, at + len(members))
                for part in np.array_split(members, math.ceil(len(members) / _ROWS)):
                    rests = part ^ (1 << vehicle)
                    after = np.ascontiguousarray(order[rests, : size - 1].T)
                    self.blocks.append(
                        Block(
                            rows=slice(at, at + len(part)),
                            size=size,
                            vehicle=vehicle,
                            members=part,
                            rests=rests,
                            after=after,
                            behind=self.row_of[rests[None, :], after],
                        )
                    )
                    at += len(part)
        self.num_rows = at
        """States in all."""
