# SPDX-License-Identifier: Apache-2.0
"""Random clusters and models: what the DQN is trained on, and what planners are compared on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from flad_common.config import knob
from flad_edge.swift.cluster import Cluster, Floats, Vehicle
from flad_edge.swift.devices import DeviceProfile
from flad_edge.swift.problem import Problem
from flad_edge.swift.units import CutCosts, ModelUnits, UnitCosts

_STATE_SHARES = (0.25, 0.25, 0.5)
"""Weights, gradients and AdamW's two moments, of what a unit holds."""


@dataclass(frozen=True, kw_only=True)
class RandomProblemConfig:
    """What varies between random problems; ranges are drawn from evenly, or by logarithm."""

    vehicles: tuple[int, int] = knob((3, 10), unit="1", doc="Fewest and most.")
    units: tuple[int, int] = knob((12, 60), unit="1", doc="Fewest and most, of the model.")
    free_memory: tuple[float, float] = knob(
        (0.5, 1.0), unit="1", doc="Share of a device's memory that is free."
    )
    load: tuple[float, float] = knob(
        (0.35, 0.95), unit="1", doc="The model's least memory over that of all vehicles."
    )
    bits_per_s: tuple[float, float] = knob(
        (20e6, 300e6), unit="bit/s", doc="Rates of links, by the logarithm."
    )
    delay_s: tuple[float, float] = knob((0.001, 0.01), unit="s", doc="One way.")
    talk: tuple[float, float] = knob(
        (0.05, 1.0),
        unit="1",
        doc="Seconds of a typical hop by those of a typical stage, by the logarithm.",
    )
    micro_batches: tuple[int, int] = knob((4, 16), unit="1", doc="Of a step.")

    def __post_init__(self) -> None:
        for name in ("vehicles", "units", "free_memory", "load", "bits_per_s", "talk"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(
                    f"{name} must be a rising pair of positive numbers, got {low, high}"
                )
        if self.units[0] < self.vehicles[1]:
            raise ValueError(
                f"units ({self.units[0]}) must be at least as many as vehicles ({self.vehicles[1]})"
            )


def random_problems(
    seed: int, devices: Mapping[str, DeviceProfile], config: RandomProblemConfig | None = None
) -> Iterator[Problem]:
    """Problems without end; the same seed gives the same ones.

    Whether a pipeline exists is not looked at; only that sums do not already forbid one.
    """
    config = config or RandomProblemConfig()
    for number in itertools.count():
        rng = np.random.default_rng([seed, number])
        problem = random_problem(rng, devices, config)
        if problem.shortage() is None:
            yield problem


def random_problem(
    rng: np.random.Generator, devices: Mapping[str, DeviceProfile], config: RandomProblemConfig
) -> Problem:
    """One problem: devices, links and a model whose memory and traffic fit the ranges."""
    n = int(rng.integers(config.vehicles[0], config.vehicles[1] + 1))
    vehicles = random_vehicles(rng, devices, n, config.free_memory)
    memory = sum(vehicle.available_bytes for vehicle in vehicles)
    model = random_model(
        rng,
        num_units=int(rng.integers(config.units[0], config.units[1] + 1)),
        least_bytes=memory * rng.uniform(*config.load),
        flops=10.0 ** rng.uniform(11.0, 12.5),
    )
    rate = _by_logarithm(rng, config.bits_per_s, (n, n))
    rate = np.sqrt(rate * rate.T)
    # traffic fits the talk that was drawn: seconds of a typical hop by those of a typical stage
    work = sum(unit.flops_forward + unit.flops_backward for unit in model.units)
    stage_s = work / sum(1.0 / vehicle.seconds_per_flop for vehicle in vehicles)
    crossing = np.array([cut.forward_bytes + cut.backward_bytes for cut in model.cuts])
    typical_s = float(np.median(crossing)) * 8.8 / float(np.median(rate))
    scale = float(_by_logarithm(rng, config.talk, ())) * stage_s / typical_s
    model = ModelUnits(
        name=model.name,
        batch_size=model.batch_size,
        units=model.units,
        cuts=tuple(
            CutCosts(forward_bytes=scale * c.forward_bytes, backward_bytes=scale * c.backward_bytes)
            for c in model.cuts
        ),
    )
    delay_s = rng.uniform(*config.delay_s, (n, n))
    cluster = Cluster(
        vehicles=vehicles,
        seconds_per_byte=8.8 / rate,
        delay_s=(delay_s + delay_s.T) / 2.0,
        shared_channel=bool(rng.integers(2)),
    )
    micro_batches = int(rng.integers(config.micro_batches[0], config.micro_batches[1] + 1))
    return Problem(cluster, model, micro_batches)


def random_vehicles(
    rng: np.random.Generator,
    devices: Mapping[str, DeviceProfile],
    n: int,
    free_memory: tuple[float, float],
) -> tuple[Vehicle, ...]:
    """``n`` vehicles with devices as frequent as in the paper's testbed, a little unequal."""
    names = sorted(devices)
    share = np.array([{"nano": 4.0, "nx": 2.0, "agx": 1.0}.get(name, 1.0) for name in names])
    return tuple(
        Vehicle(
            name=f"vehicle_{i}",
            device=(name := names[int(rng.choice(len(names), p=share / share.sum()))]),
            available_bytes=devices[name].available_bytes * rng.uniform(*free_memory),
            seconds_per_flop=devices[name].seconds_per_flop * rng.uniform(0.85, 1.2),
            stability=float(rng.uniform()),
        )
        for i in range(n)
    )


def random_model(
    rng: np.random.Generator, *, num_units: int, least_bytes: float, flops: float
) -> ModelUnits:
    """A line of units whose weights grow and whose activations shrink, as in a backbone, or not.

    Args:
        rng: everything random.
        num_units: ``L``.
        least_bytes: what the model holds, with a snapshot, and saves for one micro-batch.
        flops: forward and backward of a micro-batch.
    """
    depth = np.linspace(0.0, 1.0, num_units)
    slope = rng.uniform(0.0, 2.5)
    weights = np.exp(slope * depth) * rng.lognormal(0.0, rng.uniform(0.1, 0.8), num_units)
    saved = np.exp(-slope * depth) * rng.lognormal(0.0, rng.uniform(0.1, 0.6), num_units)
    work = rng.lognormal(0.0, rng.uniform(0.1, 0.6), num_units)
    crossing = np.exp(-rng.uniform(0.0, 2.0) * depth[:-1])
    crossing = crossing * rng.lognormal(0.0, rng.uniform(0.1, 0.8), num_units - 1)
    # a snapshot doubles weights and optimizer; one micro-batch's activations are 5 to 30 %
    save_share = rng.uniform(0.05, 0.3)
    held_bytes = _scaled(weights, least_bytes * (1.0 - save_share) / 1.75)
    saved_bytes = _scaled(saved, least_bytes * save_share)
    flops_of = _scaled(work, flops)
    units = tuple(
        UnitCosts(
            name=f"unit_{i}",
            flops_forward=float(flops_of[i]) / 3.0,
            flops_backward=float(flops_of[i]) * 2.0 / 3.0,
            parameter_bytes=float(held_bytes[i]) * _STATE_SHARES[0],
            gradient_bytes=float(held_bytes[i]) * _STATE_SHARES[1],
            optimizer_bytes=float(held_bytes[i]) * _STATE_SHARES[2],
            saved_bytes=float(saved_bytes[i]),
        )
        for i in range(num_units)
    )
    cuts = tuple(
        CutCosts(forward_bytes=float(c) * 1e6, backward_bytes=float(c) * 1e6) for c in crossing
    )
    return ModelUnits(name="random", batch_size=4, units=units, cuts=cuts)


def _scaled(values: Floats, total: float) -> Floats:
    return values * (total / float(values.sum()))


def _by_logarithm(
    rng: np.random.Generator, bounds: tuple[float, float], shape: tuple[int, ...]
) -> Floats:
    return np.asarray(np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]), shape)))
