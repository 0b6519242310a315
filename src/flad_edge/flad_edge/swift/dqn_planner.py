# SPDX-License-Identifier: Apache-2.0
"""Phase 2 of SWIFT: pipelines by the trained DQN, for every first vehicle; and its weights' file.

A plan is built in one pass over the legal next stages, stage by stage, and every choice is final.
The exact planner has no part in it; nothing is searched or repaired.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors
import yaml
from safetensors.torch import save_file

from flad_common.config import from_mapping, to_yaml
from flad_edge.swift.dqn_network import NetworkConfig, QNetwork
from flad_edge.swift.dqn_rollout import masked, roll_out
from flad_edge.swift.dqn_states import Scene
from flad_edge.swift.dqn_training import scores_of
from flad_edge.swift.exact import Objective
from flad_edge.swift.pipeline import Pipeline
from flad_edge.swift.problem import Problem

SHIPPED = Path(__file__).parents[1] / "weights_data/swift/dqn.safetensors"
MOST_FOR_BOTH = 11
"""Vehicles; above, two pipelines would take longer than 20 ms on one core."""
_CONFIG = "flad_swift_network"


class DqnPlanner:
    """Plans with a trained network; usable wherever a ``LearnedPlanner`` is.

    It was trained for the path objective (Eq. 10), and plans by it whatever is asked for. Two
    pipelines are built for each first vehicle, by the network and by the estimates that it
    corrects, each in one pass; the cheaper one is the plan.

    Args:
        network: trained.
        both: whether the estimates have their say; without, the network's pipeline is the plan.
    """

    def __init__(self, network: QNetwork, *, both: bool = True) -> None:
        self.network, self._both = network.eval(), both

    def alone(self) -> DqnPlanner:
        """The same network without the estimates' say."""
        return DqnPlanner(self.network, both=False)

    def __call__(
        self, problem: Problem, objective: Objective, firsts: Sequence[int]
    ) -> Mapping[int, Pipeline | None]:
        """A pipeline by first vehicle; None where it ran into a dead end."""
        scene = Scene(problem)
        judged = scores_of(self.network, scene)
        plans = roll_out(scene, firsts, lambda found: masked(found, judged(found)))
        if not self._both or problem.num_vehicles > MOST_FOR_BOTH:
            return plans
        others = roll_out(scene, firsts, lambda found: masked(found, found.cost + found.after))
        return {first: _cheaper(problem, plans[first], others[first]) for first in firsts}


def _cheaper(problem: Problem, one: Pipeline | None, other: Pipeline | None) -> Pipeline | None:
    if one is None or other is None:
        return one or other
    return min(one, other, key=problem.path_s)


def load_planner(path: Path | None = None) -> DqnPlanner:
    """The DQN of a file, or the one that ships.

    Raises:
        ValueError: if there is no such file, it is damaged, or of another network.
    """
    return DqnPlanner(load_network(SHIPPED if path is None else path))


def save_network(path: Path, network: QNetwork, extra: Mapping[str, str] | None = None) -> None:
    """Write a network; what was at ``path`` stays until the new file is whole."""
    header = {**(extra or {}), _CONFIG: to_yaml(network.config)}
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    save_file(state, partial, metadata=header)
    os.replace(partial, path)


def load_network(path: Path) -> QNetwork:
    """Read a network.

    Raises:
        ValueError: if there is none, it is damaged, or its tensors are not those of its sizes.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if _CONFIG not in header:
            raise ValueError(f"its header has no {_CONFIG}; it is not a planner's network")
        network = QNetwork(from_mapping(NetworkConfig, yaml.safe_load(header[_CONFIG])))
        network.load_state_dict(state)
    except (OSError, RuntimeError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} cannot be used as planner dqn: {error}") from error
    return network
