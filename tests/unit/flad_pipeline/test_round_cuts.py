# SPDX-License-Identifier: Apache-2.0
"""Where those who are left go on from: the newest whole cut, with the least to fetch."""

from __future__ import annotations

import random

import pytest

from flad_pipeline.partition import Partition, Span
from flad_pipeline.round.cuts import way_back

NUM_UNITS = 8
SIZES = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 100.0]


def pipeline(*stages: tuple[str, int]) -> Partition:
    """Vehicles in their order, each with the end of its units."""
    begins = [0, *(end for _, end in stages[:-1])]
    return Partition(
        digest="d",
        num_units=NUM_UNITS,
        stages=tuple(
            Span(vehicle=v, first=a, last=b - 1) for (v, b), a in zip(stages, begins, strict=True)
        ),
    )


AB, BA = pipeline(("a", 3), ("b", 8)), pipeline(("b", 5), ("a", 8))


def test_bytes_decide_which_pipeline_begins_where_they_are_known():
    local = {"a": {10: {5, 6, 7}}, "b": {10: {3, 4, 5}}}
    at_edge = {10: set(range(NUM_UNITS))}
    # AB lacks 0..2 at a and 6, 7 at b; BA lacks 0..2 at b.
    few = {"a": {10: {0, 1, 2, 7}}, "b": {10: {3, 4, 5, 6}}}  # AB lacks unit 7, BA five small ones

    assert way_back([AB, BA], local, at_edge, 10, SIZES).fetched == {"a": (), "b": (0, 1, 2)}
    by_number = way_back([AB, BA], few, at_edge, 10)
    by_bytes = way_back([AB, BA], few, at_edge, 10, SIZES)
    assert by_number.fetched == {"a": (), "b": (7,)}
    assert sum(len(units) for units in by_bytes.fetched.values()) > 1
    assert by_bytes.weight(SIZES) < by_number.weight(SIZES)


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_newest_whole_cut_and_the_least_to_fetch(seed: int):
    numbers = random.Random(seed)

    def some() -> set[int]:
        return {u for u in range(NUM_UNITS) if numbers.random() < 0.6}

    local = {v: {step: some() for step in (0, 5, 10, 15)} for v in "ab"}
    at_edge = {0: set(range(NUM_UNITS)), 5: some() | some(), 10: some() | some()}
    sizes = [numbers.uniform(1.0, 9.0) for _ in range(NUM_UNITS)]
    ways: dict[int, list[float]] = {}
    for step in (0, 5, 10, 15):
        for turn in (AB, BA):
            lacks = [u for v in "ab" for u in turn.units_of(v) if u not in local[v][step]]
            if set(lacks) <= at_edge.get(step, set()):
                ways.setdefault(step, []).append(sum(sizes[u] for u in lacks))
    found = way_back([AB, BA], local, at_edge, 5, sizes)

    assert found.step == max(ways)
    assert found.weight(sizes) == pytest.approx(min(ways[found.step]))
    begins = found.pipelines[found.step // 5 % 2]
    assert {v: len(units) for v, units in found.fetched.items()} == {
        v: len([u for u in begins.units_of(v) if u not in local[v][found.step]]) for v in "ab"
    }


def test_without_a_whole_cut_there_is_no_way():
    assert way_back([AB, BA], {"a": {}, "b": {}}, {5: set(range(7))}, 5) is None
