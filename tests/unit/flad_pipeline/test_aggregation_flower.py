# SPDX-License-Identifier: Apache-2.0
"""Every rule gives what Flower's strategy of that name gives, on random unequal clients.

Flower's answers are committed, with the program that asked for them (tests/reference).
"""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from flower_net import flower_net
from torch import nn

from flad_pipeline.aggregation.layout import ClientState, ModelLayout
from flad_pipeline.aggregation.strategy import Aggregator, StrategyConfig

COUNTER = "1.num_batches_tracked"
STATISTICS = ("1.running_mean", "1.running_var")
RULES = ("fedavg", "fedprox", "fedadam", "median", "trimmed_mean", "krum")


@pytest.fixture(scope="module")
def table(workspace):
    return json.loads((workspace.root / "tests/data/flower_strategies.json").read_text())


@pytest.fixture(scope="module")
def layout():
    return ModelLayout.of(flower_net())


def tensors(values):
    return {
        name: torch.tensor(value, dtype=torch.int64 if name == COUNTER else torch.float32)
        for name, value in values.items()
    }


def clients(entries):
    return [
        ClientState(
            client=f"vehicle_{i}", num_samples=e["num_samples"], tensors=tensors(e["state"])
        )
        for i, e in enumerate(entries)
    ]


def close(ours, said):
    torch.testing.assert_close(
        ours.double(), torch.tensor(said, dtype=torch.float64), rtol=2e-6, atol=2e-6
    )


def test_the_table_was_made_by_the_program_that_is_committed(workspace, table):
    source = (workspace.root / "tests/reference/flower_strategies.py").read_bytes()

    assert table["source_sha256"] == hashlib.sha256(source).hexdigest(), table["made_by"]
    assert table["flwr"].startswith("1.4")
    assert len(table["cases"]) == 3


@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("rule", RULES)
def test_three_rounds_give_what_flower_gives(table, layout, rule, case):
    case = table["cases"][case]
    aggregator = Aggregator(StrategyConfig(name=rule), layout)
    current = tensors(case["start"])
    for number, entries in enumerate(case["rounds"]):
        current = aggregator.aggregate(current, clients(entries))
        said = case["answers"][rule][number]
        # Flower's FedAdam also optimizes buffers; ours averages them by samples.
        buffers = case["answers"]["fedavg" if rule == "fedadam" else rule][number]
        for name in layout.names("trained"):
            close(current[name], said[name])
        for name in STATISTICS:
            close(current[name], buffers[name])
        assert current[COUNTER].dtype == torch.int64
        if rule != "krum":  # Flower was not asked about counters there
            assert int(current[COUNTER]) == round(buffers[COUNTER])


def test_flowers_answers_differ_between_rules_so_that_a_mix_up_shows(table):
    for case in table["cases"]:
        first = {rule: case["answers"][rule][0]["0.weight"] for rule in RULES}
        assert first["fedavg"] == first["fedprox"]
        others = [first[rule] for rule in RULES if rule != "fedprox"]
        assert all(a != b for i, a in enumerate(others) for b in others[:i])


def test_krum_takes_the_counter_of_the_client_it_chose(table, layout):
    entries = table["cases"][0]["rounds"][0]
    chosen = Aggregator(StrategyConfig(name="krum"), layout).aggregate({}, clients(entries))

    weights = [e["state"]["0.weight"] for e in entries]
    client = weights.index(table["cases"][0]["answers"]["krum"][0]["0.weight"])
    assert int(chosen[COUNTER]) == entries[client]["state"][COUNTER]


def test_the_table_has_the_nets_tensors(table):
    assert set(table["cases"][0]["start"]) == set(nn.Module.state_dict(flower_net()))
