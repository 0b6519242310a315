# SPDX-License-Identifier: Apache-2.0
"""A partition is a value: it goes through JSON unchanged, and a wrong one is refused with words."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
from nasty_model import NastyModel, nasty_batch

from flad_pipeline.graph.costs import UnitCosts, unit_costs
from flad_pipeline.graph.units import UnitGraph, unit_graph
from flad_pipeline.partition import (
    Partition,
    Span,
    check_memory,
    message_bytes,
    partition_from_json,
    stage_bytes,
)


@functools.cache
def graph() -> UnitGraph:
    return unit_graph(NastyModel().train(), nasty_batch(4))


@functools.cache
def costs() -> UnitCosts:
    return unit_costs(graph(), graph().traced.flatten(nasty_batch(4)))


def spans(*ends: int) -> tuple[Span, ...]:
    starts = (0, *ends[:-1])
    return tuple(
        Span(vehicle=f"v{i}", first=a, last=b - 1)
        for i, (a, b) in enumerate(zip(starts, ends, strict=True))
    )


def partition(*ends: int, heads_from: int | None = None) -> Partition:
    return Partition(digest=graph().digest, num_units=7, stages=spans(*ends), heads_from=heads_from)


@pytest.mark.parametrize("value", [partition(3, 7), partition(3, 5, heads_from=5)])
def test_it_goes_through_json_unchanged(value: Partition) -> None:
    assert partition_from_json(json.dumps(value.as_json())) == value
    value.check(graph())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"schema_version": 2}, "version 1, got 'flad.partition' version 2"),
        ({"stages": []}, "at least one stage"),
        ({"stages": [{"vehicle": "a", "first": 0, "last": 3}]}, "must end before 7"),
        ({"stages": [{"vehicle": "a", "first": 1, "last": 6}]}, "must begin at 0"),
        ({"stages": [{"vehicle": "a", "first": 0, "last": 6.0}]}, "last must be an integer"),
        ({"stages": [{"vehicle": "", "first": 0, "last": 6}]}, "must be a name"),
        ({"stages": [{"vehicle": "a", "first": 3, "last": 2}]}, "must hold a unit"),
        ({"stages": [{"vehicle": "a", "last": 6}]}, r"\['first', 'last', 'vehicle'\]"),
        ({"stages": "all"}, "stages must be a list"),
        ({"heads_from": 0}, r"1\.\.7, got 0"),
        ({"heads_from": "5"}, "must be integers"),
        ({"speed": 1}, "must be an object with"),
    ],
)
def test_bad_json_is_named(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        partition_from_json(json.dumps({**partition(3, 7).as_json(), **change}))


def test_a_vehicle_has_one_stage() -> None:
    twice = (Span(vehicle="a", first=0, last=3), Span(vehicle="a", first=4, last=6))
    with pytest.raises(ValueError, match=r"more than one has \['a'\]"):
        Partition(digest="", num_units=7, stages=twice)
    with pytest.raises(ValueError, match="must be JSON"):
        partition_from_json("{")


def test_a_first_stage_that_would_give_raw_inputs_away_is_refused() -> None:
    # The third unit adds the raw speed to what it has.
    with pytest.raises(ValueError, match=r"has 2 units and needs 3: unit 2 .*speed"):
        partition(2, 7).check(graph())
    partition(2, heads_from=2).check(graph())  # then the owner has that unit, too


def test_a_partition_of_another_model_is_refused() -> None:
    other = unit_graph(NastyModel(width=6).train(), nasty_batch(4))
    with pytest.raises(ValueError, match="plan again"):
        partition(3, 7).check(other)


def test_owners_and_moves() -> None:
    u_shaped, plain = partition(3, 5, heads_from=5), partition(4, 7)
    assert u_shaped.units_of("v0") == (0, 1, 2, 5, 6)
    assert u_shaped.moves_to(plain) == {3: ("v1", "v0"), 5: ("v0", "v1"), 6: ("v0", "v1")}
    assert plain.moves_to(plain) == {}


def test_even_covers_everything_and_passes_its_own_check() -> None:
    for heads_from in (None, 5):
        value = Partition.even(graph(), ["a", "b"], heads_from=heads_from)
        value.check(graph())
        assert sorted(value.units_of("a") + value.units_of("b")) == list(range(7))


def test_memory_is_added_up_by_place_in_the_pipeline() -> None:
    needs = stage_bytes(partition(3, 7), costs(), num_micro_batches=8)
    unit, cut = costs().units, costs().cuts[2]
    held = [u.parameter_bytes + u.gradient_bytes + u.optimizer_bytes + u.buffer_bytes for u in unit]

    def saved(*indices: int) -> int:
        made, all_of_them = costs().storage_makers, {i for k in indices for i in unit[k].saves}
        return sum(costs().storages[i] for i in all_of_them if made[i] in (-1, *indices))

    # The first of two stages has two micro-batches in flight, the last has one.
    # What was sent last is there once more, packed.
    first = sum(held[:3]) + 2 * saved(0, 1, 2) + 3 * cut.forward_bytes + 8 * cut.backward_bytes
    second = sum(held[3:]) + saved(3, 4, 5, 6) + 8 * cut.forward_bytes + cut.backward_bytes
    assert first <= needs["v0"] <= first + max(u.peak_bytes for u in unit[:3])
    assert second <= needs["v1"] <= second + max(u.peak_bytes for u in unit[3:])
    # Both heads read one tensor that neither made.
    assert saved(5, 6) < saved(4, 5, 6) < saved(4) + unit[5].saved_bytes + unit[6].saved_bytes
    all_at_once = stage_bytes(partition(3, 7), costs(), num_micro_batches=8, schedule="gpipe")
    assert all_at_once["v0"] - needs["v0"] == 6 * (saved(0, 1, 2) + cut.forward_bytes)


def test_messages_are_those_of_the_cuts_that_a_vehicle_has() -> None:
    def both_ways(after: int) -> int:
        return costs().cuts[after].forward_bytes + costs().cuts[after].backward_bytes

    assert message_bytes(partition(3, 7), costs()) == {"v0": both_ways(2), "v1": both_ways(2)}
    u_shaped = both_ways(2) + both_ways(4)
    assert message_bytes(partition(3, 5, heads_from=5), costs()) == {"v0": u_shaped, "v1": u_shaped}


def test_what_does_not_fit_says_who_and_by_how_much() -> None:
    needs = {"v0": 5 * 2**20, "v1": 3 * 2**20}
    check_memory(needs, needs)
    with pytest.raises(ValueError, match=r"v1 needs 3\.0 MiB and has 2\.0 MiB, 1\.0 MiB too"):
        check_memory(needs, {"v0": 5 * 2**20, "v1": 2 * 2**20})
