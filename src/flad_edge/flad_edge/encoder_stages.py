# SPDX-License-Identifier: Apache-2.0
"""The vision encoder on several small computers of one vehicle: how it is cut, and who runs it.

Perception knows no pipelines and pipelines know no encoder; this is where they meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from flad_perception.live_input import encoder_input
from flad_perception.live_sensors import LiveSensors
from flad_perception.model.encoder import VisionEncoder, encode
from flad_perception.profiling.encoder import FORMULAS
from flad_perception.scene_encoder import Place, model_file
from flad_perception.weights import load_encoder
from flad_pipeline.graph.costs import unit_costs
from flad_pipeline.graph.units import UnitGraph, unit_graph
from flad_pipeline.group.transport import Transport
from flad_pipeline.partition import Partition, Span
from flad_pipeline.stages.staged_model import StagedModel, StagedModelConfig, StageServer


def encoder_arguments(model: VisionEncoder, sensors: LiveSensors | None = None) -> tuple[Any, ...]:
    """What ``encode`` calls the model with; of a frame without sensors if none is given."""
    frame = encoder_input(sensors or LiveSensors(pictures={}), model.config)
    taken: list[tuple[Any, ...]] = []

    def take(*args: Any) -> None:
        taken.append(args)

    encode(model, frame, run=take)
    return taken[0]


def encoder_partition(
    graph: UnitGraph, arguments: Sequence[Any], computers: Sequence[str]
) -> Partition:
    """Stages of about equal work, u-shaped: the first computer has sensors and answers.

    Args:
        graph: of the model in evaluation mode.
        arguments: of :func:`encoder_arguments`.
        computers: two or more names; a stage for each.

    Raises:
        ValueError: if there are more computers than units to share.
    """
    costs = unit_costs(graph, graph.traced.flatten(tuple(arguments)), formulas=FORMULAS)
    heads, least = graph.first_head, graph.min_first_units(graph.first_head)
    if len(computers) > heads - least + 1:
        raise ValueError(
            f"{len(computers)} computers cannot share {heads} units of which the first needs "
            f"{least}"
        )
    work = [float(unit.flops_forward) for unit in costs.units]
    done, count = sum(work[heads:]), len(computers)  # the heads are the first computer's
    share = sum(work) / count
    ends: list[int] = []
    for unit in range(heads):
        done += work[unit]
        missing = count - 1 - len(ends)
        enough = unit + 1 >= least and done >= (len(ends) + 1) * share
        if missing and (enough or heads - unit - 1 == missing):
            ends.append(unit + 1)
    ends.append(heads)
    return Partition(
        digest=graph.digest,
        num_units=len(graph.units),
        heads_from=heads,
        stages=tuple(
            Span(vehicle=v, first=a, last=b - 1)
            for v, a, b in zip(computers, [0, *ends[:-1]], ends, strict=True)
        ),
    )


def computers_of(stages: Sequence[str], namespace: str = "") -> tuple[str, ...]:
    """Names of the stages' computers, checked; other vehicles may call theirs the same.

    Args:
        stages: of the parameter.
        namespace: of the node: it begins with the vehicle's name.

    Raises:
        ValueError: on fewer than two, or a name given twice.

    Example:
        >>> computers_of(["front", "rear"], "/vehicle_0/rear")
        ('vehicle_0/front', 'vehicle_0/rear')
    """
    if len(stages) < 2 or len(set(stages)) != len(stages):
        raise ValueError(
            f"stages must name two computers or more, each once, this one first; got {list(stages)}"
        )
    vehicle = namespace.strip("/").partition("/")[0]
    return tuple(f"{vehicle}/{name}" if vehicle else name for name in stages)


class OpenStages(Protocol):
    """Makes a transport between the computers; :mod:`flad_edge.ros.stage_links` is the real one."""

    def __call__(self, name: str, computers: Sequence[str]) -> Transport:
        """Of the computer ``name``; the others need not be there yet."""
        ...


def staged_encoder(
    names: Sequence[str], *, open_: OpenStages, config: StagedModelConfig | None = None
) -> Place:
    """Where an encoder runs that is on several computers, seen from the first of them."""

    def place(model: VisionEncoder, model_hash: str) -> StagedModel:
        arguments = encoder_arguments(model)
        graph = unit_graph(model, arguments, verify=False)
        partition = encoder_partition(graph, arguments, names)
        return StagedModel(graph, model_hash, partition, lambda: open_(names[0], names), config)

    return place


def stage_server(
    model: str, names: Sequence[str], place: int, *, open_: OpenStages, num_threads: int = 1
) -> StageServer:
    """What another computer runs.

    Args:
        model: a file, or the name of a shipped model.
        names: of :func:`computers_of`.
        place: of this one among them, above 0.
        open_: makes its transport.
        num_threads: of PyTorch.

    Raises:
        FladError: if there is no such model.
    """
    assert place > 0, "the first computer runs the encoder's node"
    encoder, _, identity = load_encoder(model_file(model))
    encoder.eval()
    arguments = encoder_arguments(encoder)
    graph = unit_graph(encoder, arguments, verify=False)
    return StageServer(
        graph,
        identity.hash,
        encoder_partition(graph, arguments, names),
        names[place],
        lambda: open_(names[place], names),
        num_threads,
    )
