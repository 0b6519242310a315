# SPDX-License-Identifier: Apache-2.0
"""The profile of a model: what is written to JSON for the planner of pipelines.

``docs/profile.md`` explains every field; :data:`SCHEMA_VERSION` changes when one changes its
meaning. The costs come from :mod:`flad_common.profiling.record`, the table for people is in
:mod:`flad_common.profiling.table`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flad_common.profiling.check import Check, checks
from flad_common.profiling.child import Build, measure_step
from flad_common.profiling.cuts import Life, cuts
from flad_common.profiling.formulas import Formula
from flad_common.profiling.peak import ParameterBytes, peak_bytes
from flad_common.profiling.record import Operation, Progress, Recording, record
from flad_common.profiling.trace import prefixes, tensor_bytes, trace

SCHEMA = "flad.profile"
SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a set of operations costs in one training step on one batch."""

    flops_forward: int
    flops_backward: int
    forward_s: float
    backward_s: float
    num_parameters: int
    parameter_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    output_bytes: int
    """Of every operation's values, added up."""
    saved_bytes: int
    """Kept from the forward to the backward pass; memory that two operations keep counts once."""
    peak_bytes: int
    """Most memory at one time, were this set alone on a device."""

    @property
    def gflops_per_s(self) -> float:
        """Achieved rate, forward and backward."""
        seconds = self.forward_s + self.backward_s
        return (self.flops_forward + self.flops_backward) / seconds / 1e9 if seconds else 0.0


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A model's costs, per operation, per block and in all."""

    facts: Mapping[str, Any]
    """Which model, which batch, which machine; free of meaning for the planner."""
    recording: Recording
    parameters: Mapping[str, nn.Parameter]
    checks: tuple[Check, ...]

    def cost(self, members: Sequence[int]) -> Cost:
        """Cost of the operations with these indices: a unit, a block, the whole model."""
        operations = [self.recording.operations[i] for i in members]
        names = {name for o in operations for name in o.parameters}
        held = ParameterBytes.total(ParameterBytes.of(self.parameters[name]) for name in names)
        saved = {key for o in operations for key in o.saved}
        return Cost(
            flops_forward=sum(o.flops.forward for o in operations),
            flops_backward=sum(o.flops.backward for o in operations),
            forward_s=sum(o.forward_s for o in operations),
            backward_s=sum(o.backward_s for o in operations),
            num_parameters=sum(self.parameters[name].numel() for name in names),
            parameter_bytes=held.weights,
            gradient_bytes=held.gradients,
            optimizer_bytes=held.optimizer,
            output_bytes=sum(_output_bytes(o) for o in operations),
            saved_bytes=sum(self.recording.storages[key] for key in saved),
            peak_bytes=peak_bytes(
                self.recording,
                members,
                {name: ParameterBytes.of(self.parameters[name]) for name in names},
            ),
        )

    def total(self) -> Cost:
        """Cost of the whole model."""
        return self.cost(range(len(self.recording.operations)))

    def blocks(self, depth: int | None = None) -> dict[str, Cost]:
        """Cost by module, outer before inner, down to ``depth`` names."""
        members: dict[str, list[int]] = {}
        for i, operation in enumerate(self.recording.operations):
            if operation.op in ("placeholder", "get_attr"):
                continue
            for path in prefixes(operation.module):
                if depth is None or path.count(".") < depth:
                    members.setdefault(path, []).append(i)
        return {path: self.cost(indices) for path, indices in sorted(members.items())}

    def as_json(self) -> dict[str, Any]:
        """The schema of ``docs/profile.md``."""
        operations = self.recording.operations
        numbers = {key: i for i, key in enumerate(self.recording.storages)}
        makers = {id(t): o.name for o in operations for t in reversed(o.values)}
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            **self.facts,
            "total": _figures(self.total()),
            "checks": [dataclasses.asdict(check) for check in self.checks],
            "parameters": {name: _parameter(p) for name, p in self.parameters.items()},
            "storages": list(self.recording.storages.values()),
            "operations": [
                {
                    "index": i,
                    "name": o.name,
                    "op": o.op,
                    "kind": o.kind,
                    "module": o.module,
                    "inputs": list(dict.fromkeys(makers[id(t)] for t in o.takes)),
                    "outputs": [_shape(t) for t in o.values],
                    "parameters": list(o.parameters),
                    "saves": [numbers[key] for key in o.saved],
                    "flops_by_formula": o.by_formula,
                    **_figures(self.cost([i])),
                }
                for i, o in enumerate(operations)
            ],
            "cuts": [
                {
                    "after": cut.after,
                    "forward_bytes": cut.forward_bytes,
                    "backward_bytes": cut.backward_bytes,
                    "input_bytes": cut.input_bytes,
                    "tensors": [_crossing(life, operations) for life in cut.tensors],
                    "inputs": [_crossing(life, operations) for life in cut.inputs],
                }
                for cut in cuts(self.recording)
            ],
            "blocks": {path: _figures(cost) for path, cost in self.blocks().items()},
        }


def profile_model(
    build: Build,
    *,
    facts: Mapping[str, Any] | None = None,
    repeats: int = 3,
    measure: bool = True,
    deadline_s: float = 600.0,
    progress: Progress | None = None,
    formulas: Mapping[Any, Formula] | None = None,
) -> Profile:
    """Profile one training step of a model.

    Args:
        build: makes the model, in training mode, and its inputs. It is called here and, pickled,
            in a fresh process.
        facts: what the JSON shall say about the model.
        repeats: timed runs of everything; the fastest counts.
        measure: False leaves out the fresh process, and so the checks of memory and step time.
        deadline_s: longest time for the fresh process.
        progress: is told how many operations are done, of how many.
        formulas: FLOPs of the project's own functions in the graph.

    Raises:
        ValueError: if the model cannot be traced.
        RuntimeError: if the measuring process fails.
        TimeoutError: if it takes too long.
    """
    step = measure_step(build, repeats=repeats, deadline_s=deadline_s) if measure else None
    model, inputs = build()
    recording = record(trace(model), inputs, repeats=repeats, progress=progress, formulas=formulas)
    unchecked = Profile(
        facts={"torch": torch.__version__, "threads": torch.get_num_threads(), **(facts or {})},
        recording=recording,
        parameters=dict(model.named_parameters()),
        checks=(),
    )
    found = checks(unchecked.total(), model, inputs, step)
    return dataclasses.replace(unchecked, checks=tuple(found))


def _figures(cost: Cost) -> dict[str, Any]:
    return {**dataclasses.asdict(cost), "gflops_per_s": round(cost.gflops_per_s, 3)}


def _output_bytes(operation: Operation) -> int:
    if operation.op in ("placeholder", "get_attr"):
        return 0
    return sum(tensor_bytes(t) for t in operation.values)


def _parameter(parameter: nn.Parameter) -> dict[str, Any]:
    return {
        "shape": list(parameter.shape),
        "dtype": _dtype(parameter),
        **dataclasses.asdict(ParameterBytes.of(parameter)),
    }


def _shape(tensor: Tensor) -> dict[str, Any]:
    return {
        "shape": list(tensor.shape),
        "dtype": _dtype(tensor),
        "requires_grad": tensor.requires_grad,
    }


def _crossing(life: Life, operations: Sequence[Operation]) -> dict[str, Any]:
    return {
        "made_by": operations[life.made].name,
        "last_taken_by": operations[life.last].name if life.last < len(operations) else "output",
        "bytes": tensor_bytes(life.tensor),
        **_shape(life.tensor),
    }


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
