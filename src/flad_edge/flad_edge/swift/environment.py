# SPDX-License-Identifier: Apache-2.0
"""Planning as a gymnasium environment, for agents other than the one that ships.

An episode builds one pipeline. The action is an index among the legal next stages, which are
listed in the observation; its reward is Eq. 12.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from flad_edge.swift.dqn_states import NUM_FEATURES, Candidates, Scene, States, candidates, scale_of
from flad_edge.swift.pipeline import Pipeline
from flad_edge.swift.problem import Problem
from flad_edge.swift.reward import RewardConfig, stage_reward, terminal_reward

MOST_CANDIDATES = 16 * 64
Observation = dict[str, NDArray[Any]]


class PlanningEnv(gymnasium.Env[Observation, np.int64]):
    """One pipeline an episode, of the problems given.

    The observation has ``features`` (``[MOST_CANDIDATES, NUM_FEATURES]``, zero where there is no
    candidate) and ``mask`` (``[MOST_CANDIDATES]``, 1 for legal). An action that is not legal ends
    the episode and earns no indicator; so does a state without any legal stage.

    Args:
        make_problems: a stream of problems by seed, one an episode; a seeded reset starts it anew.
        reward: weights of Eq. 12.
    """

    def __init__(
        self,
        make_problems: Callable[[int], Iterator[Problem]],
        reward: RewardConfig | None = None,
    ) -> None:
        self._make_problems, self._reward = make_problems, reward or RewardConfig()
        self._problems: Iterator[Problem] | None = None
        self.observation_space: Any = gymnasium.spaces.Dict(
            {
                "features": gymnasium.spaces.Box(
                    -9.0, 9.0, (MOST_CANDIDATES, NUM_FEATURES), np.float32
                ),
                "mask": gymnasium.spaces.MultiBinary(MOST_CANDIDATES),
            }
        )
        self.action_space = gymnasium.spaces.Discrete(MOST_CANDIDATES)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The next problem; ``options["first"]`` chooses the first vehicle, else it is random."""
        super().reset(seed=seed)
        if self._problems is None or seed is not None:
            self._problems = self._make_problems(seed or 0)
        problem = next(self._problems)
        first = (options or {}).get("first")
        if first is None:
            first = int(self.np_random.integers(problem.num_vehicles))
        self._scene = Scene(problem)
        self._states = States.begin(problem, [first])
        self._order: list[int] = []
        self._ends: list[int] = []
        self._found = candidates(self._scene, self._states)
        return self._observation(), {"problem": problem}

    def step(self, action: np.int64 | int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Place a stage; ``info["pipeline"]`` is there at a good end."""
        found, problem, scale_s = self._found, self._scene.problem, scale_of(self._scene)
        action = int(action)
        legal = 0 <= action < len(found.state)
        reward = stage_reward(
            self._reward,
            seconds=float(found.cost[action]) if legal else 0.0,
            scale_s=scale_s,
            fits_memory=legal,
            is_disjoint=legal,
            is_valid=legal,
        )
        if not legal:
            return self._observation(), reward - self._reward.dead_end, True, False, {}
        vehicle, end = found.vehicle[[action]], found.end[[action]]
        self._order.append(int(vehicle[0]))
        self._ends.append(int(end[0]))
        if len(self._order) == problem.num_vehicles:
            pipeline = Pipeline.of(self._order, self._ends)
            reward += terminal_reward(problem.path_s(pipeline), scale_s)
            self._found = _none(found)
            return self._observation(), reward, True, False, {"pipeline": pipeline}
        self._states = self._states.after(vehicle, end)
        self._found = candidates(self._scene, self._states)
        stuck = not len(self._found.state)
        if stuck:
            reward -= self._reward.dead_end
        return self._observation(), reward, stuck, False, {}

    def _observation(self) -> Observation:
        count = len(self._found.state)
        features = np.zeros((MOST_CANDIDATES, NUM_FEATURES), dtype=np.float32)
        features[:count] = self._found.features
        mask = np.zeros(MOST_CANDIDATES, dtype=np.int8)
        mask[:count] = 1
        return {"features": features, "mask": mask}


def _none(found: Candidates) -> Candidates:
    return Candidates(
        state=found.state[:0],
        vehicle=found.vehicle[:0],
        end=found.end[:0],
        cost=found.cost[:0],
        after=found.after[:0],
        known=found.known[:0],
        features=found.features[:0],
    )
