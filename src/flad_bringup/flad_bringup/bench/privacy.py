# SPDX-License-Identifier: Apache-2.0
"""What features and gradients tell whoever receives them, by the depth of the owner's first stage.

The attacker has frames of its own with their pictures and lights, and the model; it learns by ridge
regression from what crosses a cut (count-sketched) to a small grey picture of the front view and to
the light, and is judged on frames of runs that it does not have. That is a lower bound: a stronger
attacker finds more. What leaves is features forward, and u-shaped the heads' gradient back.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx
from torch.nn import functional

from flad_bringup.bench.learning_frames import near_lights, spread
from flad_bringup.bench.rows import Row
from flad_perception.batch import LIGHT_RED
from flad_perception.data.dataset import Ints, PackedDataset
from flad_perception.data.loader import Loader, LoaderConfig
from flad_perception.losses import encoder_losses
from flad_perception.model.encoder import VisionEncoder, encode
from flad_perception.weights import load_encoder, shipped_weights
from flad_pipeline.graph.units import UnitGraph, unit_graph

SUMMARY = "what features and gradients reveal of pictures and lights, by depth of the first stage"
MINUTES = 4.0

Floats = NDArray[np.float64]

_SKETCH = 2048
_PICTURE_PX = (16, 24)
_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
_FRONT = "rgb_front"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument(
        "--data", type=Path, metavar="DIR", required=True, help="packed frames with lights"
    )
    parser.add_argument("--config", default="small", help="encoder (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=900, help="of attacker and victims")
    parser.add_argument("--depths", type=int, default=6, help="of the first stage, from the least")


def measure(args: argparse.Namespace) -> list[Row]:
    """Gather what crosses, attack it."""
    torch.set_num_threads(1)
    model, config, _ = load_encoder(shipped_weights(args.config))
    model.eval()
    dataset = PackedDataset(args.data, config)
    numbers = spread(near_lights(dataset, np.arange(len(dataset))), args.frames)
    victims = _of_victims(dataset, numbers)
    crossings = _gather(model, dataset, numbers, args.depths, args.seed)
    heads = crossings.graph.first_head
    rows = []
    for unit, sketches in crossings.features.items():
        name = f"privacy_first_stage_{unit + 1}_units"
        rows += [
            Row(
                name=f"{name}_picture_r2",
                value=_picture_r2(sketches, crossings.pictures, victims),
                unit="1",
                baseline="the mean picture",
                baseline_value=0.0,
            ),
            _light_row(f"{name}_light", sketches, crossings.red, victims),
        ]
    rows += [
        _light_row(
            f"privacy_gradient_at_unit_{heads}_light", crossings.gradients, crossings.red, victims
        ),
        Row(
            name=f"privacy_gradient_at_unit_{heads}_picture_r2",
            value=_picture_r2(crossings.gradients, crossings.pictures, victims),
            unit="1",
        ),
        Row(name="privacy_frames", value=len(numbers), unit="frames"),
        Row(name="privacy_victims", value=float(victims.sum()), unit="frames"),
    ]
    return rows


@dataclass(frozen=True, kw_only=True)
class _Crossings:
    """Of ``n`` frames."""

    graph: UnitGraph
    features: dict[int, Floats]
    """By the first stage's last unit, ``[n, sketch]``."""
    gradients: Floats
    """Of the features that the owner's heads take, ``[n, sketch]``."""
    pictures: Floats
    """``[n, pixels]`` in 0..1."""
    red: Floats
    """``[n]``: 1 where the light is red, else -1."""


def _gather(
    model: VisionEncoder, dataset: PackedDataset, numbers: Ints, num_depths: int, seed: int
) -> _Crossings:
    graph: UnitGraph | None = None
    features: dict[int, list[Floats]] = {}
    gradients, pictures, red = [], [], []
    for frame in _frames(dataset, numbers):
        arguments = _arguments(model, frame.input)
        if graph is None:
            graph = unit_graph(model, arguments, verify=False)
            heads = graph.first_head
            depths = np.linspace(graph.min_first_units(heads), heads, num_depths).round() - 1.0
            features = {int(depth): [] for depth in depths}
            wanted = {name for unit in (*features, heads - 1) for name in graph.live(unit)}
        values = _Values(graph.traced.module, wanted)
        result = values.run(*graph.traced.flatten(arguments))
        output = graph.traced.outputs.nest(list(result))
        encoder_losses(output, frame.targets).total.backward()
        model.zero_grad(set_to_none=True)
        for unit, sketches in features.items():
            sketches.append(_sketch([values.found[n] for n in graph.live(unit)], seed))
        crossing = [values.found[n] for n in graph.live(heads - 1)]
        gradients.append(_sketch([t.grad for t in crossing if t.grad is not None], seed))
        grey = frame.input.images[_view(frame)].float().mean(dim=1, keepdim=True) / 255.0
        small = functional.interpolate(grey, size=_PICTURE_PX, mode="area")
        pictures.append(small.flatten().double().numpy())
        red.append(1.0 if int(frame.targets.light[0]) == LIGHT_RED else -1.0)
    assert graph is not None
    return _Crossings(
        graph=graph,
        features={unit: np.stack(sketches) for unit, sketches in features.items()},
        gradients=np.stack(gradients),
        pictures=np.stack(pictures),
        red=np.array(red),
    )


class _Values(fx.Interpreter):
    """Runs a graph and keeps some of its values, with their gradients."""

    def __init__(self, module: fx.GraphModule, wanted: set[str]) -> None:
        super().__init__(module)
        self._wanted = wanted
        self.found: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self._wanted and isinstance(value, Tensor):
            if value.requires_grad:
                value.retain_grad()
            self.found[n.name] = value
        return value


def _frames(dataset: PackedDataset, numbers: Ints) -> Iterator[Any]:
    loader = Loader(dataset, numbers, LoaderConfig(batch_size=1))
    with closing(loader.epoch(0)) as batches:
        yield from batches


def _arguments(model: VisionEncoder, frame: Any) -> tuple[Any, ...]:
    taken: list[tuple[Any, ...]] = []
    encode(model, frame, run=lambda *args: taken.append(args))
    return taken[0]


def _view(frame: Any) -> str:
    images: dict[str, Tensor] = frame.input.images
    return _FRONT if _FRONT in images else next(iter(images))


def _sketch(tensors: Sequence[Tensor], seed: int) -> Floats:
    """All numbers of some tensors in a few: each goes into one place at random, with a sign."""
    flat = torch.cat([t.detach().flatten().double() for t in tensors if t.is_floating_point()])
    numbers = torch.Generator().manual_seed(seed)
    place = torch.randint(_SKETCH, flat.shape, generator=numbers)
    sign = 2.0 * torch.randint(2, flat.shape, generator=numbers).double() - 1.0
    return torch.zeros(_SKETCH, dtype=torch.float64).index_add_(0, place, sign * flat).numpy()


def _of_victims(dataset: PackedDataset, numbers: Ints) -> NDArray[np.bool_]:
    """Frames of every third run: the attacker has the others."""
    runs = dataset.table[numbers]["run"].astype(np.int64)
    ranks = {int(run): i for i, run in enumerate(np.unique(runs))}
    return np.array([ranks[int(run)] % 3 == 0 for run in runs])


def _attack(known: Floats, answers: Floats, asked: Floats, penalty: float) -> Floats:
    """Ridge regression in its dual form: as many unknowns as frames."""
    mean, spread_ = known.mean(axis=0), known.std(axis=0) + 1e-9
    x, y = (known - mean) / spread_, (asked - mean) / spread_
    centre = answers.mean(axis=0)
    kernel = x @ x.T
    weight = penalty * np.trace(kernel) / len(kernel)
    solved = np.linalg.solve(kernel + weight * np.eye(len(kernel)), answers - centre)
    guessed: Floats = y @ (x.T @ solved) + centre
    return guessed


def _picture_r2(sketches: Floats, pictures: Floats, victims: NDArray[np.bool_]) -> float:
    """Of the best penalty: what share of the victims' pictures' variance is known."""
    known, truth = pictures[~victims], pictures[victims]
    total = ((truth - known.mean(axis=0)) ** 2).sum()
    return max(
        1.0
        - float(
            ((_attack(sketches[~victims], known, sketches[victims], p) - truth) ** 2).sum() / total
        )
        for p in _PENALTIES
    )


def _light_row(name: str, sketches: Floats, red: Floats, victims: NDArray[np.bool_]) -> Row:
    """Balanced accuracy of the best penalty."""
    best, truth = 0.5, red[victims]
    for penalty in _PENALTIES:
        known = sketches[~victims]
        guessed = _attack(known, red[~victims][:, None], sketches[victims], penalty)[:, 0]
        shares = [float((np.sign(guessed[truth == s]) == s).mean()) for s in (-1.0, 1.0)]
        best = max(best, sum(shares) / 2.0)
    return Row(
        name=name, value=best, unit="balanced accuracy", baseline="a guess", baseline_value=0.5
    )
