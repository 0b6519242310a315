# SPDX-License-Identifier: Apache-2.0
"""The vision encoder as a :class:`TrainingTask`: joins flad_perception to flad_pipeline.

Worker and conductor nodes find :func:`encoder_task` by their parameter ``task``; ``task_file`` is a
YAML file of :class:`EncoderTaskConfig`, the same for all.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim import AdamW, Optimizer

from flad_common.config import from_yaml, knob
from flad_perception.batch import Batch
from flad_perception.config import EncoderConfig, load_encoder_config
from flad_perception.data.assemble import assemble
from flad_perception.data.dataset import Ints, PackedDataset, select
from flad_perception.data.split import SplitConfig, split
from flad_perception.losses import encoder_losses
from flad_perception.model.encoder import EncoderOutput, VisionEncoder, build_encoder, normalise
from flad_perception.profiling.encoder import FORMULAS, noise_inputs
from flad_perception.scene_encoder import model_file
from flad_perception.training.config import TrainConfig, load_train_config
from flad_perception.training.optimizer import make_optimizer, set_rates
from flad_perception.training.sampling import FrameTable, draw_epoch
from flad_perception.training.schedule import rate_factor
from flad_perception.weights import load_encoder, save_encoder
from flad_pipeline.aggregation.layout import ModelLayout
from flad_pipeline.graph.costs import UnitCosts, unit_costs, unit_costs_from_json
from flad_pipeline.graph.units import UnitGraph, unit_graph
from flad_pipeline.partition import Partition, Span, stage_bytes
from flad_pipeline.round.task import TrainingTask
from flad_pipeline.stages.trainer import MicroBatch, StepConfig

COSTS_FILE = "costs.json"
_NUMBER = re.compile(r"\d+$")


@dataclass(frozen=True, kw_only=True)
class EncoderTaskConfig:
    """Which encoder is trained, how, and who has which recordings."""

    encoder: str = knob("small", unit="1", doc="Configuration, for a model that begins anew.")
    weights: str = knob(
        "", unit="1", doc="A shipped model or a .safetensors file to begin from; else it is anew."
    )
    train: str = knob("small", unit="1", doc="Configuration of training (config/training).")
    data: str = knob(unit="1", doc="Packed recordings (./flad data pack), divided over vehicles.")
    num_vehicles: int = knob(3, unit="1", doc="Among which the recordings are divided.")
    level: float = knob(2.0, unit="1", doc="Non-IID level of the division.")
    clip_frames: int = knob(100, unit="frames", doc="What is dealt out: clips of so many.")
    gap_frames: int = knob(25, unit="frames", doc="Left out between clips of different vehicles.")
    micro_batch: int = knob(2, unit="frames", doc="Samples of a micro-batch.")
    num_micro_batches: int = knob(8, unit="1", doc="Of a step of the optimizer.")
    lr_share: float = knob(0.2, unit="1", doc="Of the training configuration's highest rates.")
    warmup: float = knob(0.1, unit="1", doc="Share of a round in which the rate rises.")
    lr_floor: float = knob(0.1, unit="1", doc="A round's rate begins and ends at this share.")
    proximal_mu: float = knob(
        0.0, unit="1", doc="Of FedProx's term in the vehicles' loss; 0: none. The edge averages."
    )
    seed: int = knob(1, unit="1", doc="Of weights, division, order, augmentation and dropout.")

    def __post_init__(self) -> None:
        for name in ("num_vehicles", "micro_batch", "num_micro_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.lr_share > 0.0:
            raise ValueError(f"lr_share must be positive, got {self.lr_share}")
        if self.proximal_mu < 0.0:
            raise ValueError(f"proximal_mu must not be negative, got {self.proximal_mu}")


def encoder_task(description: str, vehicle: str) -> TrainingTask:
    """Build the task of a vehicle, or of the edge, which has no data.

    Args:
        description: file of an :class:`EncoderTaskConfig`.
        vehicle: its number ends its name; empty on the edge.

    Raises:
        ValueError: if configuration, weights or data do not fit each other.
    """
    config = from_yaml(EncoderTaskConfig, Path(description))
    train = load_train_config(config.train)
    model, encoder = _model(config)
    graph = encoder_graph(encoder, config.micro_batch, model.train())
    frames = _Frames(config, encoder, train, vehicle) if vehicle else None
    rates = functools.partial(_set_rates, config=config)
    return TrainingTask(
        graph=graph,
        layout=ModelLayout.of(model),
        start={name: tensor.clone() for name, tensor in model.state_dict().items()},
        step_config=StepConfig(
            num_micro_batches=config.num_micro_batches,
            clip_norm=train.clip_norm,
            seed=config.seed,
        ),
        make_optimizer=functools.partial(_optimizer, train=train),
        loss=functools.partial(_loss, train=train),
        batches=frames.batches if frames else _no_data,
        num_samples=len(frames.table) if frames else 0,
        set_rates=rates,
        proximal_mu=config.proximal_mu,
    )


def encoder_graph(config: EncoderConfig, micro_batch: int, model: nn.Module) -> UnitGraph:
    """Units of an encoder in training mode; the same on every machine."""
    inputs = noise_inputs(config, micro_batch, torch.Generator().manual_seed(1))
    return unit_graph(model, inputs, verify=False)


def encoder_costs(config: EncoderConfig, graph: UnitGraph) -> UnitCosts:
    """What its units cost, for the planner."""
    inputs = noise_inputs(config, graph.batch_size, torch.Generator().manual_seed(1))
    return unit_costs(graph, graph.traced.flatten(inputs), formulas=FORMULAS)


def edge_costs(description: str, graph: UnitGraph) -> UnitCosts:
    """The same, for the parameter ``costs`` of nodes; FedProx's anchors are in the memory.

    They are read where :func:`save_costs` left them beside the task's file: to count them takes
    longer than all else that a node does before it is there.
    """
    saved = Path(description).with_name(COSTS_FILE)
    if saved.is_file():
        costs = unit_costs_from_json(saved.read_text(encoding="utf-8"))
        if (costs.digest, costs.batch_size) == (graph.digest, graph.batch_size):
            return costs
    config = from_yaml(EncoderTaskConfig, Path(description))
    return _with_anchors(encoder_costs(_model(config)[1], graph), config)


def task_costs(config: EncoderTaskConfig) -> UnitCosts:
    """Of the encoder of a federation.

    Raises:
        ValueError: if configuration or weights are not there.
    """
    model, encoder = _model(config)
    graph = encoder_graph(encoder, config.micro_batch, model.train())
    return _with_anchors(encoder_costs(encoder, graph), config)


def save_costs(costs: UnitCosts, task_file: Path) -> None:
    """For the processes of a federation: beside the file of their task."""
    text = json.dumps(costs.as_json())
    task_file.with_name(COSTS_FILE).write_text(text + "\n", encoding="utf-8")


def training_bytes(config: EncoderTaskConfig, costs: UnitCosts) -> int:
    """Memory that a vehicle needs to train this encoder alone."""
    whole = Partition(
        digest=costs.digest,
        num_units=len(costs.units),
        heads_from=costs.first_head,
        stages=(Span(vehicle="it", first=0, last=costs.first_head - 1),),
    )
    return stage_bytes(whole, costs, num_micro_batches=config.num_micro_batches)["it"]


def _with_anchors(costs: UnitCosts, config: EncoderTaskConfig) -> UnitCosts:
    """A round's begin is kept beside what is trained from it."""
    if not config.proximal_mu:
        return costs
    units = tuple(
        replace(unit, optimizer_bytes=unit.optimizer_bytes + unit.gradient_bytes)
        for unit in costs.units
    )
    return replace(costs, units=units)


def save_trained(config: EncoderTaskConfig, state_file: Path, path: Path) -> str:
    """The edge's model as an encoder that drives; returns its hash.

    Args:
        config: of the federation.
        state_file: of the journal.
        path: where to.
    """
    model, encoder = _model(config)
    model.load_state_dict(load_file(state_file))
    return save_encoder(path, model, encoder, {"flad_training": "federate"}).hash


def micro_batch_of(batch: Batch, max_points: int) -> MicroBatch:
    """Frames as the encoder's arguments, with sweeps padded to one length."""
    i = batch.input
    points = torch.zeros(len(batch), max_points, i.points.shape[2])
    kept = min(max_points, i.points.shape[1])
    points[:, :kept] = i.points[:, :kept]
    images = {name: normalise(picture) for name, picture in i.images.items()}
    return MicroBatch(
        args=(
            images,
            i.view_valid,
            points,
            i.num_points.clamp(max=max_points),
            i.speed_mps,
            i.target_point_m,
        ),
        targets=batch.targets,
    )


class _Frames:
    """A vehicle's own frames, step by step; what a step shows depends on nothing else."""

    def __init__(
        self, config: EncoderTaskConfig, encoder: EncoderConfig, train: TrainConfig, vehicle: str
    ) -> None:
        self._config, self._train = config, train
        self._max_points = encoder.lidar.max_points
        self._dataset = PackedDataset(Path(config.data), encoder)
        self._number = _number_of(vehicle, config.num_vehicles)
        self.table = _table(self._dataset, self._own(train))
        self._order: tuple[int, int, Ints] | None = None

    def batches(self, round_number: int, step: int) -> Sequence[MicroBatch]:
        """The frames of this vehicle's ``step``-th own step in a round."""
        c = self._config
        size = c.micro_batch * c.num_micro_batches
        shown, epoch = step * size, 0
        order = self._drawn(round_number, epoch)
        while shown + size > len(order):
            shown = max(0, shown - len(order) // size * size)
            epoch += 1
            order = self._drawn(round_number, epoch)
        chosen = order[shown : shown + size]
        rng = np.random.default_rng([c.seed, self._number, round_number, step])
        batch = assemble(self._dataset, chosen, self._train.augment, rng)
        slices = (slice(i, i + c.micro_batch) for i in range(0, size, c.micro_batch))
        return [micro_batch_of(batch.slice(rows), self._max_points) for rows in slices]

    def _drawn(self, round_number: int, epoch: int) -> Ints:
        """An epoch's order; never shorter than a step."""
        if self._order is None or self._order[:2] != (round_number, epoch):
            c = self._config
            size = c.micro_batch * c.num_micro_batches
            seed = (c.seed * 1009 + self._number) * 1009 + round_number
            drawn = draw_epoch(self.table, self._train.sampling, seed, epoch)
            if len(drawn) < size:
                rng = np.random.default_rng([seed, epoch])
                drawn = rng.choice(self.table.index, max(size, len(self.table)))
            self._order = (round_number, epoch, drawn)
        return self._order[2]

    def _own(self, train: TrainConfig) -> Ints:
        allowed = select(
            self._dataset,
            exclude_towns=train.holdout_towns,
            exclude_weathers=train.holdout_weathers,
        )
        runs = {self._dataset.run_of(int(n)).name for n in allowed}
        dealt = split(
            [run for run in self._dataset.runs if run.name in runs],
            SplitConfig(
                num_vehicles=self._config.num_vehicles,
                level=self._config.level,
                seed=self._config.seed,
                clip_frames=self._config.clip_frames,
                gap_frames=self._config.gap_frames,
            ),
        )
        return np.sort(dealt.numbers(self._dataset, self._number))


def _table(dataset: PackedDataset, numbers: Ints) -> FrameTable:
    rows = dataset.table[numbers]
    return FrameTable(
        index=numbers,
        run=rows["run"].astype(np.int64),
        speed_mps=rows["speed_mps"].astype(np.float64),
        light=rows["light"].astype(np.int64),
        light_distance_m=rows["light_distance_m"].astype(np.float64),
    )


def _model(config: EncoderTaskConfig) -> tuple[VisionEncoder, EncoderConfig]:
    if config.weights:
        loaded = load_encoder(Path(model_file(config.weights)))
        return loaded.model, loaded.config
    encoder = load_encoder_config(config.encoder)
    return build_encoder(encoder, config.seed), encoder


def _optimizer(parameters: Mapping[str, nn.Parameter], train: TrainConfig) -> AdamW:
    return make_optimizer(_Named(parameters), train)


class _Named(nn.Module):
    """Some parameters under their names in the model, which decide about rate and decay."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        self._named = dict(parameters)

    def named_parameters(self, *_: object, **__: object):  # type: ignore[no-untyped-def]
        """As the model has them."""
        return iter(self._named.items())


def _set_rates(optimizers: Sequence[Optimizer], progress: float, config: EncoderTaskConfig) -> None:
    factor = config.lr_share * rate_factor(progress, warmup=config.warmup, floor=config.lr_floor)
    for optimizer in optimizers:
        assert isinstance(optimizer, AdamW)
        set_rates(optimizer, factor)


def _loss(output: EncoderOutput, targets: object, train: TrainConfig) -> torch.Tensor:
    return encoder_losses(output, targets, train.loss).total  # type: ignore[arg-type]


def _no_data(round_number: int, step: int) -> Sequence[MicroBatch]:
    raise ValueError(f"the edge has no data; asked for step {step} of round {round_number}")


def _number_of(vehicle: str, num_vehicles: int) -> int:
    match = _NUMBER.search(vehicle)
    number = int(match[0]) if match else -1
    if not 0 <= number < num_vehicles:
        raise ValueError(
            f"vehicle {vehicle!r} must end in a number up to {num_vehicles - 1}: recordings are "
            f"divided over {num_vehicles} (num_vehicles)"
        )
    return number
