# SPDX-License-Identifier: Apache-2.0
"""What federated training does for the vehicles' own towns (the paper's Fig. 8a).

A converged central encoder is trained on by virtual vehicles, each with its own part of the frames
of towns that the encoder does not know. Beside it, from the same encoder: as many more central
steps on the old towns as all vehicles took together, and every vehicle for itself. All figures are
on runs that nobody trained on. Compute and dwell times of the vehicles are drawn, not measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from flad_bringup.bench.learning_encoder import EncoderTrainer
from flad_bringup.bench.learning_frames import (
    OwnFrames,
    frame_table,
    near_lights,
    own_frames,
    spread,
)
from flad_bringup.bench.line_plot import LinePlot
from flad_bringup.bench.rows import Row
from flad_common.config import to_yaml
from flad_perception.data.dataset import PackedDataset, select
from flad_perception.training.config import load_train_config
from flad_perception.weights import load_encoder, shipped_weights
from flad_pipeline.aggregation.layout import ModelLayout, State
from flad_pipeline.aggregation.strategy import StrategyConfig
from flad_pipeline.federated.report import Figures, RoundReport
from flad_pipeline.federated.trainer import FederatedConfig, FederatedTrainer
from flad_pipeline.federated.workload import VirtualVehicle, WorkloadConfig

SUMMARY = "federated training on the vehicles' own towns, against central and local training"
MINUTES = 60.0

LEAST_GAIN_POINTS = 5.0
PAPER_GAIN_POINTS = 92.66 - 79.9

LIGHT = "light_balanced_accuracy"
_CENTRAL = "more central training"
# Table 1's devices, nano, nx and agx: how fast one is beside a nano, by their TFLOPS.
_DEVICES = {"nano": 1.0, "nx": 0.85, "agx": 8.2}
_NANO_SAMPLES_PER_S = 8.0
_MEDIAN_DWELL_S = 60.0
_CALIBRATION_FRAMES = 400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument(
        "--data", type=Path, metavar="DIR", required=True, help="packed frames of all towns"
    )
    parser.add_argument("--own-towns", nargs="+", required=True, help="where the vehicles drive")
    parser.add_argument("--old-towns", nargs="*", default=[], help="what the encoder was made on")
    parser.add_argument(
        "--own-weathers", nargs="+", type=int, metavar="ID", help="in which they drive (all)"
    )
    parser.add_argument(
        "--old-weathers", nargs="+", type=int, metavar="ID", help="in which it was made (all)"
    )
    parser.add_argument("--config", default="small", help="encoder (default: %(default)s)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="other than those that ship")
    parser.add_argument("--vehicles", type=int, default=12, help="(default: %(default)s)")
    parser.add_argument("--active", type=int, default=5, help="a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=20, help="(default: %(default)s)")
    parser.add_argument("--level", type=float, default=2.0, help="non-IID (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="most of a vehicle and round")
    parser.add_argument("--deadline", type=float, default=60.0, help="of a round, emulated seconds")
    parser.add_argument(
        "--lr", type=float, default=5e-4, help="highest local rate (default: %(default)s)"
    )
    parser.add_argument("--town-rounds", type=int, default=2, help="for the models kept per town")
    parser.add_argument("--frames", type=int, default=800, help="looked at after each round")
    parser.add_argument("--threads", type=int, default=0, help="of PyTorch; 0: its own choice")
    parser.add_argument(
        "--strategy",
        default="fedavg",
        choices=("fedavg", "fedprox", "fedadam", "median", "trimmed_mean", "krum"),
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for rounds, settings and curves"
    )


def measure(args: argparse.Namespace) -> list[Row]:
    """Train and evaluate."""
    if args.threads:
        torch.set_num_threads(args.threads)
    model, encoder, _ = load_encoder(args.weights or shipped_weights(args.config))
    dataset = PackedDataset(args.data, encoder)
    own = own_frames(
        dataset,
        set(args.own_towns),
        weathers=args.own_weathers,
        num_vehicles=args.vehicles,
        level=args.level,
        held_out=0.3,
        at_most=args.frames,
        seed=args.seed,
    )
    train = dataclasses.replace(
        load_train_config(args.config), lr=args.lr, backbone_lr=args.lr, seed=args.seed
    )
    held = train.holdout_weathers
    made_in = sorted(args.old_weathers or {run.weather_id for run in dataset.runs})
    old = _of(dataset, args.old_towns, weathers=[w for w in made_in if w not in held])
    old_held = near_lights(
        dataset, _of(dataset, args.old_towns, weathers=[w for w in made_in if w in held])
    )
    old_looked_at = spread(old_held, _CALIBRATION_FRAMES)
    tables = dict(own.tables) | {_CENTRAL: frame_table(dataset, old)}
    near = {name: near_lights(dataset, table.index) for name, table in own.tables.items()}
    calibration = spread(np.sort(np.concatenate(list(near.values()))), _CALIBRATION_FRAMES)
    local = EncoderTrainer(
        dataset, encoder, train, tables, own.evaluation, calibration, args.rounds
    )
    start: State = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = FederatedConfig(
        active=args.active,
        seed=args.seed,
        strategy=StrategyConfig(name=args.strategy),
        workload=WorkloadConfig(
            batch_size=train.batch_size, max_steps=args.steps, deadline_s=args.deadline
        ),
    )
    layout = ModelLayout.of(model)
    vehicles = virtual_vehicles(own, seed=args.seed)
    federated = FederatedTrainer(config, layout, vehicles, local, start)

    before = local.evaluate_on(start, own.evaluation, calibration=None)
    threshold = local.evaluate(start)
    bar = tqdm(federated.run(args.rounds), total=args.rounds, unit="round", disable=None)
    reports = [_told(report, before) for report in bar]
    after = reports[-1].figures
    steps = steps_of(reports)
    central = alone = old_figures = None
    if len(old):
        more = local.train(
            _CENTRAL,
            start,
            round_number=1,
            num_steps=steps.total(),
            proximal_mu=0.0,
            seed=args.seed,
        )
        central = local.evaluate_on(more.state, own.evaluation, calibration=old_looked_at)
        old_figures = [
            local.evaluate_on(start, old_looked_at, calibration=None),
            local.evaluate_on(federated.state, old_looked_at, calibration=calibration),
        ]
    alone = [
        local.evaluate_on(
            local.train(
                name, start, round_number=1, num_steps=num, proximal_mu=0.0, seed=args.seed
            ).state,
            own.evaluation,
            calibration=spread(near[name], _CALIBRATION_FRAMES),
        )
        for name, num in sorted(steps.items())
    ]
    kept = {
        town: _town_model(town, args.town_rounds, config, layout, vehicles, local, federated.state)
        for town in sorted(after)
    }
    if args.out:
        _write(args.out, config, own, before, reports)
        curves(before, reports, central, alone).save(args.out / "learning.svg")
    return rows(before, threshold, after, central, alone, kept, old_figures, reports)


def rows(
    before: Figures,
    threshold: Figures,
    after: Figures,
    central: Figures | None,
    alone: Sequence[Figures],
    kept: Mapping[str, Figures],
    old: Sequence[Figures] | None,
    reports: Sequence[RoundReport],
) -> list[Row]:
    """The figures; accuracies are means over the own towns, gains in points.

    ``threshold`` is the starting model with no more than its light's threshold set anew.
    """
    gain = 100.0 * (light(after) - light(before))
    found = [
        Row(name="learning_light_before", value=light(before), unit=""),
        Row(
            name="learning_light_federated",
            value=light(after),
            unit="",
            baseline="before",
            baseline_value=light(before),
        ),
        Row(
            name="learning_gain_points",
            value=gain,
            unit="points",
            baseline="the paper",
            baseline_value=PAPER_GAIN_POINTS,
            bar=LEAST_GAIN_POINTS,
        ),
        _over("threshold", gain, 100.0 * (light(threshold) - light(before))),
    ]
    if central is not None:
        found.append(_over("central", gain, 100.0 * (light(central) - light(before))))
    if alone:
        mean = float(np.mean([light(figures) for figures in alone]))
        found.append(_over("local", gain, 100.0 * (mean - light(before))))
    for town in sorted(after):
        found.append(
            Row(
                name=f"learning_{town.lower()}_light_kept",
                value=kept[town][town][LIGHT],
                unit="",
                baseline="the global model",
                baseline_value=after[town][LIGHT],
            )
        )
    if old:
        found.append(
            Row(
                name="learning_old_towns_light",
                value=light(old[1]),
                unit="",
                baseline="before",
                baseline_value=light(old[0]),
            )
        )
    missing = sum(c.missing is not None for r in reports for c in r.clients)
    found += [
        Row(name="learning_frames_looked_at", value=_frames(after), unit="frames"),
        Row(name="learning_steps", value=float(steps_of(reports).total()), unit="steps"),
        Row(name="learning_updates", value=float(sum(r.num_updates for r in reports)), unit=""),
        Row(name="learning_updates_missing", value=float(missing), unit=""),
        Row(name="learning_emulated_s", value=sum(r.seconds for r in reports), unit="s"),
    ]
    return [row for row in found if not math.isnan(row.value)]  # a figure without frames is none


def curves(
    before: Figures,
    reports: Sequence[RoundReport],
    central: Figures | None,
    alone: Sequence[Figures],
) -> LinePlot:
    """Accuracy over the rounds, of each own town and of all; beside it what else was tried."""
    looked = [(0.0, before), *((float(r.round), r.figures) for r in reports if r.figures)]
    end = looked[-1][0]
    lines = {"federated, mean": [(at, light(figures)) for at, figures in looked]}
    for town in sorted(before):
        lines[town] = [(at, figures[town][LIGHT]) for at, figures in looked]
    if central is not None:
        lines[_CENTRAL] = [(0.0, light(before)), (end, light(central))]
    if alone:
        mean = float(np.mean([light(figures) for figures in alone]))
        lines["each alone, mean"] = [(0.0, light(before)), (end, mean)]
    return LinePlot(
        title="Traffic lights in the vehicles' own towns",
        x="round",
        y="balanced accuracy",
        lines=lines,
        y_from_zero=False,
    )


def light(figures: Figures) -> float:
    """Balanced traffic-light accuracy, the mean over towns."""
    return float(np.mean([town[LIGHT] for town in figures.values()]))


def steps_of(reports: Sequence[RoundReport]) -> Counter[str]:
    """Steps that count, by vehicle."""
    steps = Counter[str]()
    for report in reports:
        for client in report.clients:
            if client.missing is None:
                steps[client.client] += client.num_steps
    return steps


def virtual_vehicles(own: OwnFrames, *, seed: int) -> list[VirtualVehicle]:
    """Vehicles with drawn devices and dwell times."""
    rng = np.random.default_rng([seed, 2])
    return [
        VirtualVehicle(
            name=name,
            group=own.groups[name],
            num_samples=len(table),
            samples_per_s=_NANO_SAMPLES_PER_S * float(rng.choice(list(_DEVICES.values()))),
            dwell_s=_MEDIAN_DWELL_S * float(np.exp(0.5 * rng.standard_normal())),
        )
        for name, table in own.tables.items()
    ]


def _over(what: str, gain: float, other: float) -> Row:
    return Row(
        name=f"learning_over_{what}_points",
        value=gain - other,
        unit="points",
        baseline=f"gain of {what}",
        baseline_value=other,
        bar=0.0,
    )


def _town_model(
    town: str,
    num_rounds: int,
    config: FederatedConfig,
    layout: ModelLayout,
    vehicles: Sequence[VirtualVehicle],
    local: EncoderTrainer,
    start: State,
) -> Figures:
    """The global model after some more rounds among the town's vehicles alone."""
    residents = [vehicle for vehicle in vehicles if vehicle.group == town]
    if not residents or num_rounds == 0:
        return local.evaluate(start)
    last = dataclasses.replace(config, evaluate_every=num_rounds)
    trainer = FederatedTrainer(last, layout, residents, local, start)
    return list(trainer.run(num_rounds))[-1].figures


def _of(dataset: PackedDataset, towns: Sequence[str], **which: object) -> np.ndarray:
    if not towns:
        return np.zeros(0, dtype=np.int64)
    return select(dataset, towns=towns, **which)  # type: ignore[arg-type]


def _frames(figures: Figures) -> float:
    return sum(town["light_frames"] for town in figures.values())


def _told(report: RoundReport, before: Figures) -> RoundReport:
    tqdm.write(f"{report.summary}; light {light(report.figures):.3f} (was {light(before):.3f})")
    return report


def _write(
    out: Path,
    config: FederatedConfig,
    own: OwnFrames,
    before: Figures,
    reports: Sequence[RoundReport],
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    document = {
        "vehicles": {name: len(table) for name, table in own.tables.items()},
        "towns": dict(own.groups),
        "unevenness": own.unevenness,
        "before": before,
        "rounds": [report.as_json() for report in reports],
    }
    (out / "rounds.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
