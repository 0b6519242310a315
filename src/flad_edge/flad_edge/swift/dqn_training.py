# SPDX-License-Identifier: Apache-2.0
"""Double DQN with demonstrations (van Hasselt 2016; Hester 2018, "DQfD") over random problems.

Every step plays one new problem with the network as it is, then learns from it and from some
replayed ones: the temporal difference of Eq. 12's reward, and, because an exact table exists while
training, the true cost of every candidate. Planning uses neither the table nor any search.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flad_common.config import knob, section
from flad_edge.swift.cluster import Floats
from flad_edge.swift.devices import DeviceProfile
from flad_edge.swift.dqn_network import NetworkConfig, QNetwork, rest_shares
from flad_edge.swift.dqn_replay import Episode, play
from flad_edge.swift.dqn_rollout import Scores
from flad_edge.swift.dqn_states import Candidates, Scene
from flad_edge.swift.exact_table import ExactTable
from flad_edge.swift.random_problems import RandomProblemConfig, random_problems
from flad_edge.swift.reward import RewardConfig


def _smaller_problems() -> RandomProblemConfig:
    """Tables of ten vehicles would take most of the time."""
    return RandomProblemConfig(vehicles=(3, 9), load=(0.35, 1.0))


@dataclass(frozen=True, kw_only=True)
class DqnTrainConfig:
    """How the DQN is trained."""

    problems: int = knob(3000, unit="1", doc="Random problems that are played, one a step.")
    replayed: int = knob(6, unit="1", doc="Earlier problems that a step learns from besides.")
    buffer: int = knob(300, unit="1", doc="Problems that are remembered.")
    lr: float = knob(3e-3, unit="1", doc="Highest learning rate of Adam; it falls as a cosine.")
    explore: float = knob(0.1, unit="1", doc="Share of steps that take any candidate.")
    shown: float = knob(0.2, unit="1", doc="Share of steps that take the optimal candidate.")
    follow: float = knob(0.02, unit="1", doc="How far the target network follows in a step.")
    sharpness: float = knob(0.01, unit="1", doc="Regret, by the typical path, that counts as 1.")
    td_weight: float = knob(0.2, unit="1", doc="Of the temporal difference.")
    value_weight: float = knob(0.5, unit="1", doc="Of the error against the true cost.")
    seed: int = knob(1, unit="1", doc="Of everything random.")
    network: NetworkConfig = section(NetworkConfig, doc="The network.")
    random: RandomProblemConfig = section(_smaller_problems, doc="The problems.")

    def __post_init__(self) -> None:
        for name in ("problems", "buffer"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("lr", "sharpness"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0.0 <= self.explore + self.shown <= 1.0:
            raise ValueError(
                f"explore ({self.explore}) and shown ({self.shown}) are shares of the same steps"
            )


Losses = Mapping[str, float]


def train_dqn(
    config: DqnTrainConfig,
    devices: Mapping[str, DeviceProfile],
    *,
    minutes: float = math.inf,
    on_step: Callable[[int, Losses, QNetwork], None] | None = None,
) -> QNetwork:
    """Train a network; the same config gives the same one where no time limit cuts it off.

    Args:
        config: everything.
        devices: what random vehicles carry.
        minutes: of CPU time of this process; the learning rate falls in time for it.
        on_step: told after every step.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    network = QNetwork(config.network)
    target = copy.deepcopy(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr)
    memory: list[Episode] = []
    began = time.process_time()
    for step, problem in enumerate(
        itertools.islice(random_problems(config.seed, devices, config.random), config.problems)
    ):
        used = (time.process_time() - began) / 60.0 / minutes
        if used >= 1.0:
            break
        done = max(step / config.problems, used)
        for group in optimizer.param_groups:
            group["lr"] = config.lr * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * done)))
        scene = Scene(problem)
        table = ExactTable(problem)
        episode = play(
            scene,
            table,
            scores_of(network, scene),
            rng,
            explore=config.explore,
            shown=config.shown,
        )
        if episode is None:
            continue
        if len(memory) >= config.buffer:
            memory.pop(int(rng.integers(len(memory))))
        others = [
            memory[int(i)] for i in rng.integers(len(memory) or 1, size=config.replayed) if memory
        ]
        memory.append(episode)
        losses = _learn(config, network, target, optimizer, [episode, *others])
        with torch.no_grad():
            for mine, new in zip(target.parameters(), network.parameters(), strict=True):
                mine.lerp_(new, config.follow)
        if on_step is not None:
            on_step(step, losses, network)
    return network


def scores_of(network: QNetwork, scene: Scene) -> Scores:
    """The network's cost of every candidate and all behind it; the lowest has the highest Q."""

    def scores(found: Candidates) -> Floats:
        with torch.inference_mode():
            correction = network(torch.from_numpy(found.features)).numpy()
        return np.asarray(rest_shares(found, scene) + correction, dtype=np.float64)

    return scores


def _learn(
    config: DqnTrainConfig,
    network: QNetwork,
    target: QNetwork,
    optimizer: torch.optim.Optimizer,
    episodes: list[Episode],
) -> Losses:
    optimizer.zero_grad()
    features = torch.cat([e.features for e in episodes])
    online = network(features)
    with torch.no_grad():
        steady = target(features)
    sums = {"td": 0.0, "value": 0.0, "choice": 0.0}
    total = torch.zeros(())
    for episode, now, slow in zip(
        episodes, _split(online, episodes), _split(steady, episodes), strict=True
    ):
        parts = _losses(config, episode, now, slow)
        total = total + (
            parts["choice"] + config.value_weight * parts["value"] + config.td_weight * parts["td"]
        )
        for name, value in parts.items():
            sums[name] += float(value.detach()) / len(episodes)
    (total / len(episodes)).backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return sums


def _split(values: Tensor, episodes: list[Episode]) -> list[Tensor]:
    return list(values.split([len(e.features) for e in episodes]))


def _losses(
    config: DqnTrainConfig, episode: Episode, online: Tensor, steady: Tensor
) -> dict[str, Tensor]:
    cost = episode.shares + online
    m, state = episode.num_states, episode.state
    best = _least(episode.best, state, m)
    solvable = torch.isfinite(best)[state]
    # the true cost, a dead end as far worse than the best
    far = (best + 1.0)[state]
    true = torch.where(torch.isfinite(episode.best), torch.minimum(episode.best, far), far)
    errors = torch.nn.functional.smooth_l1_loss(cost, true, beta=0.1, reduction="none")
    value = errors[solvable].mean() if bool(solvable.any()) else errors.sum() * 0.0
    # which candidate: cross entropy between sharpened regrets, true and estimated
    regret = torch.where(torch.isfinite(episode.best), episode.best - best[state], torch.inf)
    wanted = torch.exp(-torch.nan_to_num(regret, nan=torch.inf) / config.sharpness)
    wanted = wanted / _sum(wanted, state, m).clamp_min(1e-9)[state]
    logits = -(cost - _least(cost.detach(), state, m)[state]) / config.sharpness
    log_share = logits - torch.log(_sum(torch.exp(logits), state, m))[state]
    counted = float(torch.isfinite(best).sum()) or 1.0
    choice = -(wanted * log_share)[solvable].sum() / counted
    return {"td": _td(episode, cost, episode.shares + steady), "value": value, "choice": choice}


def _td(episode: Episode, cost: Tensor, steady_cost: Tensor) -> Tensor:
    """Double DQN: the online network chooses the next action, the target network values it."""
    reward = RewardConfig()
    m, state = episode.num_states, episode.state
    fixed = reward.indicators * episode.left - episode.spent
    q = fixed[state] - (1.0 + reward.w_time) * cost
    with torch.no_grad():
        steady_q = fixed[state] - (1.0 + reward.w_time) * steady_cost
        least = _least(cost, state, m)
        chosen = cost <= least[state]
        after = torch.full((m,), -torch.inf).scatter_reduce(
            0, state[chosen], steady_q[chosen], "amax"
        )
        following = episode.next_state
        goes_on = following >= 0
        value = torch.where(goes_on, after[following.clamp_min(0)], 0.0)
        # the next state has no legal stage: a dead end
        stuck = goes_on & ~torch.isfinite(value)
        value = torch.where(stuck, fixed[following.clamp_min(0)] * 0.0 - reward.dead_end, value)
        wanted = episode.reward + value
    moved = episode.taken >= 0
    error = torch.nn.functional.smooth_l1_loss(q[episode.taken[moved]], wanted[moved], beta=0.1)
    return error


def _least(values: Tensor, state: Tensor, m: int) -> Tensor:
    return torch.full((m,), torch.inf).scatter_reduce(0, state, values, "amin")


def _sum(values: Tensor, state: Tensor, m: int) -> Tensor:
    return torch.zeros(m).index_add(0, state, values)
