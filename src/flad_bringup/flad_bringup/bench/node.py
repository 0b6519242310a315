# SPDX-License-Identifier: Apache-2.0
"""How fast the encoder's node is: a vehicle drives in lockstep, and 10 ticks a second are encoded.

World, bridge, planner and encoder are processes of this machine that talk over DDS, as in every
evaluation. Beside it stands the same drive, with the same sensors, without an encoder. The speed of
a node does not depend on its weights: where none are shipped, untrained ones are measured.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from flad_bringup.bench.rows import Row
from flad_carla.evaluation.harness import Evaluation, EvaluationConfig
from flad_carla.evaluation.processes import EncoderOption
from flad_carla.evaluation.venue import VenueConfig
from flad_carla.run_log import Observer, PredictionView, SensorTick, TickEntry
from flad_perception.config import load_encoder_config
from flad_perception.latency import LatencyWindow
from flad_perception.model.encoder import build_encoder
from flad_perception.weights import save_encoder, shipped_weights

SUMMARY = "the encoder's node in a closed loop: real-time factor, latency, bytes of its tokens"
MINUTES = 4.0

PERIOD_S = 0.1
_WARM_S = 1.0  # of simulated time, not measured


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument(
        "--encoder", default="small", help="shipped model or .safetensors (default: %(default)s)"
    )
    parser.add_argument("--routes", type=Path, help="what is driven (default: the quick demo's)")
    parser.add_argument("--traffic", type=int, default=30, help="vehicles (default: %(default)s)")
    parser.add_argument("--walkers", type=int, default=20, help="(default: %(default)s)")


def measure(args: argparse.Namespace) -> list[Row]:
    """Drive with and without an encoder."""
    with TemporaryDirectory() as scratch:
        model = _model_file(args.encoder, Path(scratch))
        with_encoder = _drive(args, EncoderOption(model=str(model), period_s=PERIOD_S))
        without = _drive(args, None)
    return rows(with_encoder, without.realtime_factor)


def rows(watch: Stopwatch, factor_without: float) -> list[Row]:
    """What a drive showed.

    Raises:
        ValueError: if no tick was encoded.
    """
    views = watch.predictions
    tokens = next((view.tokens for view in views if view.tokens is not None), None)
    if tokens is None:
        raise ValueError("no tick was encoded; the drive ended before it began")
    whole, inside = LatencyWindow(len(views)), LatencyWindow(len(views))
    for view in views:
        whole.add(view.round_trip_s)
        inside.add(view.latency_s)
    return [
        Row(
            name="node_realtime_factor",
            value=watch.realtime_factor,
            unit="s/s",
            baseline="the same drive without an encoder",
            baseline_value=factor_without,
            bar=0.5,
        ),
        Row(name="node_sensor_to_token_p50", value=whole.percentiles().p50_s, unit="s"),
        Row(name="node_sensor_to_token_p95", value=whole.percentiles().p95_s, unit="s"),
        Row(name="node_latency_p95", value=inside.percentiles().p95_s, unit="s"),
        Row(
            name="node_token_bytes",
            value=float(len(tokens.data)),
            unit="B/message",
            baseline="the same tokens in single precision",
            baseline_value=4.0 * tokens.num_tokens * tokens.dim,
        ),
        Row(
            name="node_ticks_incomplete",
            value=float(sum(1 for view in views if view.missing_views)),
            unit=f"of {len(views)} ticks",
            bar=0.0,
            better="lower",
        ),
    ]


class Stopwatch(Observer):
    """Times a drive between its first and last tick, but for the first second."""

    def __init__(self) -> None:
        self.predictions: list[PredictionView] = []
        self._began: tuple[float, float] | None = None  # simulated and wall time
        self._ended = (0.0, 0.0)

    def on_tick(self, tick: SensorTick, entry: TickEntry) -> None:
        """Note the time, and a prediction that is new."""
        if entry.sim_time_s < _WARM_S:
            return
        self._ended = (entry.sim_time_s, time.perf_counter())
        self._began = self._began or self._ended
        known = self.predictions[-1] if self.predictions else None
        if entry.prediction is not None and entry.prediction is not known:
            self.predictions.append(entry.prediction)

    @property
    def realtime_factor(self) -> float:
        """Simulated seconds per second."""
        if self._began is None or self._ended[1] <= self._began[1]:
            raise ValueError("the drive was too short to be timed")
        return (self._ended[0] - self._began[0]) / (self._ended[1] - self._began[1])


def _drive(args: argparse.Namespace, encoder: EncoderOption | None) -> Stopwatch:
    watch = Stopwatch()
    config = EvaluationConfig(
        routes=args.routes or args.workspace.config / "routes/demo_quick.xml",
        seed=args.seed,
        rig=args.workspace.config / "rigs/encoder.yaml",
        venue=VenueConfig(traffic=args.traffic, walkers=args.walkers, encoder=encoder),
    )
    Evaluation(config, observers=[watch]).run()
    return watch


def _model_file(name: str, scratch: Path) -> Path:
    """The model, or untrained weights of a configuration that none are shipped of."""
    if name.endswith(".safetensors"):
        return Path(name)
    shipped = shipped_weights(name)
    if shipped.is_file():
        return shipped
    config = load_encoder_config(name)
    save_encoder(scratch / f"{name}.safetensors", build_encoder(config), config)
    print(f"no weights of {name} are shipped; untrained ones are measured", flush=True)
    return scratch / f"{name}.safetensors"
