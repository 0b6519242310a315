# SPDX-License-Identifier: Apache-2.0
"""Asks Flower's strategies about random unequal clients and writes what they say as JSON.

Runs in the cloud's environment, because flwr does not go into a vehicle's; knows nothing of ours.
The answers are committed, so that every test run compares with them:

    ./flad setup --sets cloud
    build/cloud/bin/python tests/reference/flower_strategies.py > tests/data/flower_strategies.json
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}

import numpy as np
from flwr.app import Array, ArrayRecord, Message, Metadata, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    FedAdam,
    FedAvg,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    Krum,
)

# A linear layer, a BatchNorm with its buffers, and a second layer.
SHAPES = {
    "0.weight": (3, 2),
    "0.bias": (3,),
    "1.weight": (3,),
    "1.bias": (3,),
    "1.running_mean": (3,),
    "1.running_var": (3,),
    "1.num_batches_tracked": (),
    "2.weight": (1, 3),
}
COUNTER = "1.num_batches_tracked"
VARIANCE = "1.running_var"
CASES = ({"seed": 1, "clients": 5}, {"seed": 2, "clients": 6}, {"seed": 3, "clients": 9})
NUM_ROUNDS = 3
STRATEGIES = {
    "fedavg": lambda: FedAvg(),
    "fedprox": lambda: FedProx(proximal_mu=0.1),
    "fedadam": lambda: FedAdam(eta=0.1, beta_1=0.9, beta_2=0.99, tau=1e-3),
    "median": lambda: FedMedian(),
    "trimmed_mean": lambda: FedTrimmedAvg(beta=0.2),
    "krum": lambda: Krum(num_malicious_nodes=1),
}


def model(rng: np.random.Generator, scale: float) -> dict[str, np.ndarray]:
    state = {name: scale * rng.standard_normal(s) for name, s in SHAPES.items()}
    state[VARIANCE] = np.abs(state[VARIANCE]) + 0.5
    values = {name: np.asarray(v, dtype=np.float32) for name, v in state.items()}
    values[COUNTER] = np.asarray(rng.integers(1, 1000), dtype=np.int64)
    return values


def reply(name: int, num_samples: int, state: dict[str, np.ndarray]) -> Message:
    content = RecordDict(
        {
            "arrays": ArrayRecord({k: Array(v) for k, v in state.items()}),
            "metrics": MetricRecord({"num-examples": num_samples}),
        }
    )
    metadata = Metadata(
        run_id=0,
        message_id=str(name),
        src_node_id=name,
        dst_node_id=0,
        reply_to_message_id="",
        group_id="",
        created_at=time.time(),
        ttl=3600,
        message_type="train",
    )
    return Message(content=content, metadata=metadata)


def answers(strategy: str, start: dict[str, np.ndarray], rounds: list[dict]) -> list[dict]:
    rule, current, said = STRATEGIES[strategy](), start, []
    for number, clients in enumerate(rounds, start=1):
        if strategy == "fedadam":
            rule.current_arrays = dict(current)
        # Flower's Krum measures distances over counters too; ours does not, and says why.
        skipped = {COUNTER} if strategy == "krum" else set()
        replies = [
            reply(i, c["num_samples"], {k: v for k, v in c["state"].items() if k not in skipped})
            for i, c in enumerate(clients, start=1)
        ]
        arrays, _ = rule.aggregate_train(number, replies)
        current = {name: array.numpy() for name, array in arrays.items()}
        said.append(current)
    return said


def plain(state: dict[str, np.ndarray]) -> dict[str, object]:
    # Nine digits hold a single-precision number exactly.
    return {
        name: np.vectorize(lambda x: float(f"{x:.9g}"))(value).tolist()
        if value.dtype.kind == "f"
        else value.tolist()
        for name, value in state.items()
    }


def main() -> None:
    cases = []
    for case in CASES:
        rng = np.random.default_rng(case["seed"])
        start = model(rng, 1.0)
        rounds = [
            [
                {
                    "num_samples": int(rng.integers(1, 2000)),
                    "state": {
                        k: v if k == COUNTER else np.float32(start[k] * (k != VARIANCE) + v)
                        for k, v in model(rng, 0.3).items()
                    },
                }
                for _ in range(case["clients"])
            ]
            for _ in range(NUM_ROUNDS)
        ]
        cases.append(
            {
                "start": plain(start),
                "rounds": [
                    [c | {"state": plain(c["state"])} for c in clients] for clients in rounds
                ],
                "answers": {
                    name: [plain(state) for state in answers(name, start, rounds)]
                    for name in STRATEGIES
                },
            }
        )
    source = Path(__file__).read_bytes()
    document = {
        "made_by": "build/cloud/bin/python tests/reference/flower_strategies.py",
        "source_sha256": hashlib.sha256(source).hexdigest(),
        "flwr": version("flwr"),
        "numpy": version("numpy"),
        "cases": cases,
    }
    json.dump(document, sys.stdout, indent=None)
    print()


if __name__ == "__main__":
    main()
