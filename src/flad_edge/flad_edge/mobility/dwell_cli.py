# SPDX-License-Identifier: Apache-2.0
"""The command line of training the dwell-time regressor: ``./flad train dwell``."""

from __future__ import annotations

import argparse
import dataclasses
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
from flad_edge.mobility.dwell import (
    DwellTrainConfig,
    mape,
    predict_s,
    save_dwell,
    split_by_way,
    train_dwell,
)
from flad_edge.mobility.dwell_data import DwellData, dwell_data
from flad_edge.mobility.dwell_network import DwellNetworkConfig
from flad_edge.mobility.traces import Coverage, Traces, read_traces


def main(argv: Sequence[str] | None = None) -> int:
    """Train, measure on unseen ways, write weights, card and figures."""
    parser = argparse.ArgumentParser(prog="./flad train dwell", description=__doc__)
    add = parser.add_argument
    add("--traces", type=Path, required=True, metavar="FILE", help="of ./flad traces")
    add("--out", type=Path, required=True, metavar="DIR", help="gets dwell.safetensors and a card")
    add("--radius-m", type=float, default=180.0, help="of the coverage (default: %(default)s)")
    add("--epochs", type=int, metavar="N", help="passes over the visits")
    add("--seed", type=int, metavar="N", help="of everything random")
    args = parser.parse_args(argv)
    told = [str(a) for a in (sys.argv[1:] if argv is None else argv)]
    # the file shall not name a folder of the machine that made it
    told = [Path(a).name if Path(a) in (args.out, args.traces) else a for a in told]
    given = {k: v for k in ("epochs", "seed") if (v := getattr(args, k)) is not None}
    try:
        config = dataclasses.replace(DwellTrainConfig(), **given)
        traces = read_traces(args.traces)
        coverage = traces.centre(args.radius_m)
        data = _visits(traces, coverage, config)
    except ValueError as error:
        print(f"flad: {error}", file=sys.stderr)
        return 1
    learned, tested = split_by_way(data, config.test_share, config.seed)
    torch.set_num_threads(1)
    began = time.process_time()
    network = train_dwell(
        data.rows(learned),
        DwellNetworkConfig(
            town=str(traces.about["town"]),
            links=len(traces.link_names),
            x_m=coverage.x_m,
            y_m=coverage.y_m,
            radius_m=coverage.radius_m,
        ),
        config,
        lambda epoch, reached: print(f"epoch {epoch + 1}: {100 * reached:.1f} %", flush=True),
    )
    seconds = time.process_time() - began
    figures = _figures(data.rows(learned), data.rows(tested), predict_s(network, data.rows(tested)))
    figures["cpu_s"] = seconds
    command = "./flad train dwell " + shlex.join(told)
    save_dwell(args.out / "dwell.safetensors", network, {"trained_by": command})
    (args.out / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    (args.out / "metrics.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    card = _card(command, traces, coverage, config, figures)
    (args.out / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    print(f"{args.out / 'dwell.safetensors'}: {seconds:.0f} s of CPU")
    for name, value in figures.items():
        print(f"  {name:18} {value:.4g}")
    return 0


def _visits(traces: Traces, coverage: Coverage, config: DwellTrainConfig) -> DwellData:
    visits = [
        visit
        for visit in traces.visits(coverage)
        if visit.dwell_s >= config.least_s and visit.arrival_s >= config.warm_up_s
    ]
    if len(visits) < 100:
        raise ValueError(
            f"the traces hold {len(visits)} whole visits of at least {config.least_s:g} s after "
            f"{config.warm_up_s:g} s; 100 are needed: record more minutes"
        )
    return dwell_data(traces, coverage, visits)


def _figures(learned: DwellData, tested: DwellData, said_s: np.ndarray) -> dict[str, float]:
    """MAPE on ways that training did not see, and of what it is compared with."""
    actual = tested.dwell_s
    ends: dict[tuple[int, int], list[float]] = {}
    for row, way in enumerate(learned.ways()):
        ends.setdefault((way[0], way[-1]), []).append(learned.dwell_s[row])
    mean_s = float(learned.dwell_s.mean())
    by_ends = np.array([np.mean(ends.get((w[0], w[-1]), [mean_s])) for w in tested.ways()])
    # the constant of least MAPE is a median, weighted by 1 / a
    order = np.argsort(learned.dwell_s)
    weight = np.cumsum(1.0 / learned.dwell_s[order])
    constant = float(learned.dwell_s[order][np.searchsorted(weight, weight[-1] / 2.0)])
    return {
        "mape": mape(said_s, actual),
        "mape_mean": mape(np.full(len(actual), mean_s), actual),
        "mape_constant": mape(np.full(len(actual), constant), actual),
        "mape_mean_by_ends": mape(by_ends, actual),
        "mape_guess": mape(tested.guess_s, actual),
        "learned": float(len(learned)),
        "tested": float(len(tested)),
        "ways_tested": float(len(set(tested.ways()))),
    }


def _card(
    command: str,
    traces: Traces,
    coverage: Coverage,
    config: DwellTrainConfig,
    figures: dict[str, float],
) -> str:
    about = traces.about
    asked = f"--town {about['town']} --minutes {about['minutes']:g} --seed {about['seed']}"
    return f"""# Dwell time

How long a vehicle will stay in an edge's coverage, when it arrives (Sec. 4.1.1): wide crosses
(first and last link), deep embeddings, an LSTM over the links of its way, trained on MAPE with
regularisation.

    ./flad traces {asked} --out FILE
    {command}

Town {about["town"]}, {coverage.radius_m:g} m around ({coverage.x_m:.0f}, {coverage.y_m:.0f}), SUMO
traffic of {about["per_hour"]:g} trips an hour; {figures["learned"]:.0f} visits of at least
{config.least_s:g} s, {figures["cpu_s"]:.0f} s of CPU on one thread (PyTorch {torch.__version__},
{platform.machine()}). It knows this town's links by number: another town needs its own training.

It reads what is known at the arrival: the way that the vehicle says, lights as they changed until
then, speeds and queues of the last two minutes. It corrects a guess: driving freely, waiting at
lights as they will be.

On {figures["tested"]:.0f} visits along {figures["ways_tested"]:.0f} ways that training never saw:

| predictor | MAPE |
|---|---|
| this network | {100 * figures["mape"]:.1f} % |
| the guess alone | {100 * figures["mape_guess"]:.1f} % |
| historical mean of the same first and last link | {100 * figures["mape_mean_by_ends"]:.1f} % |
| best constant for MAPE | {100 * figures["mape_constant"]:.1f} % |
| historical mean | {100 * figures["mape_mean"]:.1f} % |
"""
