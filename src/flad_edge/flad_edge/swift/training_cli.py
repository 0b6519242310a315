# SPDX-License-Identifier: Apache-2.0
"""The command line of training the planner's DQN: ``./flad train swift``."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from flad_common.config import to_yaml
from flad_edge.swift.compare import Comparison, compare
from flad_edge.swift.devices import load_devices
from flad_edge.swift.dqn_network import QNetwork
from flad_edge.swift.dqn_planner import DqnPlanner, save_network
from flad_edge.swift.dqn_training import DqnTrainConfig, Losses, train_dqn
from flad_edge.swift.random_problems import random_problems

UNSEEN_SEED = 1_000_003
"""Of the problems that a network is measured on; training uses small seeds."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train, measure on unseen problems, write weights, card and figures."""
    parser = argparse.ArgumentParser(prog="./flad train swift", description=__doc__)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="gets dqn.safetensors and its card")
    add("--problems", type=int, metavar="N", help="random problems, one a step")
    add("--minutes", type=float, default=float("inf"), metavar="M", help="of CPU time, at most")
    add("--seed", type=int, metavar="N", help="of everything random")
    add("--measure", type=int, default=100, metavar="N", help="unseen problems (default 100)")
    args = parser.parse_args(argv)
    told = [str(a) for a in (sys.argv[1:] if argv is None else argv)]
    # the file shall not name a folder of the machine that made it
    told = ["OUT" if a == str(args.out) else a for a in told]
    command = "./flad train swift " + shlex.join(told)
    given = {k: v for k in ("problems", "seed") if (v := getattr(args, k)) is not None}
    config = dataclasses.replace(DqnTrainConfig(), **given)
    devices = load_devices()
    torch.set_num_threads(1)
    began, log = time.process_time(), _Log(config.problems)
    network = train_dqn(config, devices, minutes=args.minutes, on_step=log)
    trained_s = time.process_time() - began
    unseen = itertools.islice(random_problems(UNSEEN_SEED, devices, config.random), args.measure)
    planner = DqnPlanner(network)
    measured = compare(unseen, {"dqn": planner, "network": planner.alone()})
    args.out.mkdir(parents=True, exist_ok=True)
    save_network(args.out / "dqn.safetensors", network, {"trained_by": command})
    (args.out / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    figures = {name: value.as_json() for name, value in measured.items()}
    (args.out / "metrics.json").write_text(
        json.dumps({"losses": log.curves, "unseen": figures}, indent=1) + "\n", encoding="utf-8"
    )
    card = _card(command, config, log.steps, trained_s, measured)
    (args.out / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    print(f"{args.out / 'dqn.safetensors'}: {log.steps} problems in {trained_s:.0f} s of CPU")
    for name, value in measured.items():
        print(f"  {name:8} {value}")
    return 0


class _Log:
    """A line of progress now and then, and the curves."""

    def __init__(self, problems: int) -> None:
        self._problems = problems
        self.steps = 0
        self.curves: dict[str, list[float]] = {}

    def __call__(self, step: int, losses: Losses, network: QNetwork) -> None:
        self.steps += 1
        for name, value in losses.items():
            self.curves.setdefault(name, []).append(round(value, 5))
        if self.steps % 25 == 0:
            recent = {name: np.mean(values[-25:]) for name, values in self.curves.items()}
            text = ", ".join(f"{name} {value:.3f}" for name, value in recent.items())
            print(f"{step + 1}/{self._problems}: {text}", flush=True)


def _card(
    command: str,
    config: DqnTrainConfig,
    steps: int,
    trained_s: float,
    measured: dict[str, Comparison],
) -> str:
    low, high = config.random.vehicles
    rows = "\n".join(f"| {name} | {value.as_row()} |" for name, value in measured.items())
    return f"""# The planner's DQN

Phase 2 of SWIFT (Sec. 4.1.4): orders vehicles and cuts the model, stage by stage. One network for
all sizes of cluster and model; it scores every legal next stage (vehicle, number of units).

    {command}

{steps} random problems of {low} to {high} vehicles, seed {config.seed}, {trained_s:.0f} s of CPU
time on one thread (PyTorch {torch.__version__}, {platform.machine()}); config.yaml has every knob,
metrics.json the curves.

**How it was trained.** Double DQN on the reward of Eq. 12, with demonstrations: while training, the
exact table gives the true cost of every candidate, and the network learns from it as well as from
its own temporal differences ("DQfD", Hester et al. 2018). So it imitates an exact planner; it was
not found by reward alone.

**How it plans.** Stage by stage it takes the best-scored legal candidate; every choice is final. No
exact planner, no dynamic programme, no search and no repair. What it sees of a candidate includes
what filling up the rest in eleven fixed orders would cost, one pass each. A candidate behind which
one of these, or of four orders chosen by memory alone, is known to reach the last unit goes before
one without (a mask). So two pipelines are built,
by the network ("network" below) and by the estimates that it corrects ("fill"), and the cheaper one
is the plan ("dqn").

On {next(iter(measured.values())).problems} unseen problems with a pipeline, for each first vehicle:

| planner | pipelines | found | gap to the optimum: median | 95th percentile | worst |
|---|---|---|---|---|---|
{rows}
"""
