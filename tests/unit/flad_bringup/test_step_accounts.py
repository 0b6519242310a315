# SPDX-License-Identifier: Apache-2.0
"""A soak's books: what was really taken balances, whatever is wrong with it is found."""

from __future__ import annotations

import copy
import random

import pytest

from flad_bringup.bench.step_accounts import step_accounts
from flad_pipeline.partition import Partition, Span
from flad_pipeline.round.order import Order, OrderKind


def order(number: int, vehicles: list[str], from_step: int) -> Order:
    ends = [round((i + 1) * 6 / len(vehicles)) for i in range(len(vehicles))]
    spans = tuple(
        Span(vehicle=v, first=a, last=b - 1)
        for v, a, b in zip(vehicles, [0, *ends[:-1]], ends, strict=True)
    )
    pipeline = Partition(digest="d", num_units=6, heads_from=None, stages=spans)
    return Order(
        kind=OrderKind.TRAIN,
        order=number,
        epoch=number,
        vehicles=tuple(vehicles),
        client="c",
        round=1,
        pipelines=(pipeline,),
        from_step=from_step,
        end_step=1000,
    )


def a_history(seed: int):
    """Orders and logs as a sound edge and sound vehicles write them; kept and lost steps."""
    numbers = random.Random(seed)
    names = ["a", "b", "c"]
    orders, logs, begin, again = [], {n: [] for n in names}, 0, 0
    for number in range(1, 6):
        members = names if number % 2 else numbers.sample(names, 2)
        orders.append(order(number, sorted(members), begin))
        taken = numbers.randrange(2, 12)
        for name in members:
            for step in range(begin, begin + taken):
                line = {"epoch": number, "step": step, "gradient_norm": float(number * 100 + step)}
                logs[name].append(line)
        lost = numbers.randrange(0, taken) if number < 5 else 0
        begin, again = begin + taken - lost, again + lost
    return orders, logs, begin, again


@pytest.mark.parametrize("seed", range(8))
def test_what_really_happened_balances(seed: int):
    orders, logs, kept, again = a_history(seed)
    found = step_accounts(orders, logs)

    assert found.complaints == ()
    assert (found.kept, found.again) == (kept, again)


def gap(logs):
    del logs["a"][1]


def twice(logs):
    logs["a"].insert(1, logs["a"][1])


def other_norm(logs):
    logs["a"][0] = {**logs["a"][0], "gradient_norm": -1.0}


def nobody(logs):
    for lines in logs.values():
        lines[:] = [line for line in lines if not (line["epoch"] == 1 and line["step"] == 0)]


@pytest.mark.parametrize("wrong", [gap, twice, other_norm, nobody])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_wrong_is_found(seed: int, wrong):
    orders, logs, _, _ = a_history(seed)
    broken = copy.deepcopy(logs)
    wrong(broken)

    assert step_accounts(orders, broken).complaints


def test_a_step_that_an_order_jumps_over_is_found():
    orders, logs, _, _ = a_history(1)
    jumped = [
        *orders[:2],
        order(orders[2].order, list(orders[2].vehicles), orders[2].from_step + 9),
    ]

    assert step_accounts(jumped, logs).complaints
