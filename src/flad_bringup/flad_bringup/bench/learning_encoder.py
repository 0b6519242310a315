# SPDX-License-Identifier: Apache-2.0
"""How a virtual vehicle trains the vision encoder: joins flad_perception to flad_pipeline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing

import torch
from torch import nn

from flad_common.error_codes import TRAINING_DIVERGED, FladError
from flad_perception.config import EncoderConfig
from flad_perception.data.dataset import Ints, PackedDataset
from flad_perception.data.loader import Loader, LoaderConfig
from flad_perception.losses import encoder_losses
from flad_perception.metrics import ALL_TOWNS
from flad_perception.model.encoder import VisionEncoder, build_encoder, encode
from flad_perception.training.calibrate import calibrate_light
from flad_perception.training.config import TrainConfig
from flad_perception.training.evaluate import evaluate
from flad_perception.training.optimizer import make_optimizer, set_rates
from flad_perception.training.sampling import FrameTable, draw_epoch
from flad_perception.training.schedule import rate_factor
from flad_pipeline.aggregation.layout import State
from flad_pipeline.aggregation.proximal import ProximalTerm
from flad_pipeline.federated.report import Figures
from flad_pipeline.federated.trainer import ClientResult

_EVALUATION_BATCH = 32
_WARMUP, _FLOOR = 0.25, 0.1  # of a vehicle's steps in a round, of its rate
_LAST_ROUND = 0.05  # of the first round's rate


class EncoderTrainer:
    """Trains the encoder on a vehicle's frames; single-threaded.

    A vehicle's optimizer begins anew in each round. Adam's first steps are as long as its rate,
    however small the gradient, and its last ones leave noise in what is averaged: the rate rises at
    the beginning of a vehicle's steps and falls towards their end. It also falls over the rounds:
    at one rate for good, a converged model stays as far from its optimum as that rate throws it.

    Args:
        dataset: where the frames are.
        config: of the encoder.
        train: batch size, rates, losses, augmentation, sampling.
        tables: frames by who trains on them.
        evaluation: frames that nobody trains on.
        calibration: of the vehicles' own, near lights: for the threshold in :meth:`evaluate`.
        num_rounds: over which the rate falls.
    """

    def __init__(
        self,
        dataset: PackedDataset,
        config: EncoderConfig,
        train: TrainConfig,
        tables: Mapping[str, FrameTable],
        evaluation: Ints,
        calibration: Ints,
        num_rounds: int,
    ) -> None:
        self._dataset = dataset
        self._config = config
        self._train_config = train
        self._tables = tables
        self._evaluation = evaluation
        self._calibration = calibration
        self._num_rounds = num_rounds

    def train(
        self,
        vehicle: str,
        start: State,
        *,
        round_number: int,
        num_steps: int,
        proximal_mu: float,
        seed: int,
    ) -> ClientResult:
        """Take a round's steps on the vehicle's frames, drawn and changed as in training.

        Raises:
            FladError: (TRAINING_DIVERGED) if loss or gradient is not finite.
        """
        c = self._train_config
        torch.manual_seed(seed)
        model = self._model(start).train()
        optimizer = make_optimizer(model, c)
        term = ProximalTerm(model, proximal_mu)
        done = (round_number - 1) / max(1, self._num_rounds - 1)
        rate = rate_factor(done, warmup=0.0, floor=_LAST_ROUND)
        num_samples, total, step, epoch = 0, 0.0, 0, 0
        while step < num_steps:
            with closing(self._loader(vehicle, seed).epoch(epoch)) as batches:
                for batch in batches:
                    set_rates(
                        optimizer,
                        rate * rate_factor(step / num_steps, warmup=_WARMUP, floor=_FLOOR),
                    )
                    optimizer.zero_grad(set_to_none=True)
                    losses = encoder_losses(encode(model, batch.input), batch.targets, c.loss)
                    losses.total.backward()
                    norm = float(nn.utils.clip_grad_norm_(model.parameters(), c.clip_norm))
                    loss = float(losses.total.detach())
                    if not (math.isfinite(loss) and math.isfinite(norm)):
                        raise FladError(
                            TRAINING_DIVERGED,
                            f"{vehicle}'s step {step} has loss {loss} and gradient norm {norm}",
                        )
                    term.add_gradient()
                    optimizer.step()
                    num_samples += len(batch)
                    total += loss
                    step += 1
                    if step == num_steps:
                        break
            epoch += 1
        return ClientResult(
            state=model.state_dict(), num_samples=num_samples, loss=total / num_steps
        )

    def evaluate(self, state: State) -> Figures:
        """Figures by town; the threshold is set on the vehicles' own frames."""
        return self.evaluate_on(state, self._evaluation, calibration=self._calibration)

    def evaluate_on(self, state: State, frames: Ints, *, calibration: Ints | None) -> Figures:
        """Figures by town.

        Training shows three frames that are free for one that is red, and the figure counts both
        alike: the light's threshold is set anew after training, as ``./flad train encoder`` does.

        Args:
            state: of the encoder.
            frames: to look at.
            calibration: frames near lights for the threshold; None: it is set already.
        """
        model = self._model(state)
        if calibration is not None:
            with closing(self._plain(calibration).epoch(0)) as batches:
                calibrate_light(model, batches)
        with closing(self._plain(frames).epoch(0)) as batches:
            found = evaluate(model, self._config, batches, self._train_config.loss)
        return {town: figures for town, figures in found.towns.items() if town != ALL_TOWNS}

    def _plain(self, frames: Ints) -> Loader:
        return Loader(self._dataset, frames, LoaderConfig(batch_size=_EVALUATION_BATCH))

    def _model(self, state: State) -> VisionEncoder:
        model = build_encoder(self._config)
        model.load_state_dict(dict(state))
        return model

    def _loader(self, vehicle: str, seed: int) -> Loader:
        c, table = self._train_config, self._tables[vehicle]

        def order(epoch: int) -> Ints:
            drawn = draw_epoch(table, c.sampling, seed, epoch)
            return drawn if len(drawn) else table.index

        config = LoaderConfig(
            batch_size=c.batch_size, seed=seed, augment=c.augment, prefetch=c.prefetch
        )
        return Loader(self._dataset, order, config)
