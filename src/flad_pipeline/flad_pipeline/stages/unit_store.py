# SPDX-License-Identifier: Apache-2.0
"""The units that one vehicle holds: modules, optimizers, and how they come and go.

Every unit has an optimizer of its own, so that it takes its moments along. Optimizers that treat
each parameter for itself (SGD, Adam, AdamW, ...) give the same numbers as one over the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, fx, nn
from torch.optim import Optimizer

from flad_pipeline.aggregation.proximal import ProximalTerm
from flad_pipeline.graph.units import UnitGraph
from flad_pipeline.stages.stage_module import StageModule
from flad_pipeline.stages.unit_module import unit_module
from flad_pipeline.stages.unit_state import ANCHOR, BUFFER, OPTIMIZER, WEIGHT, UnitState

MakeOptimizer = Callable[[Mapping[str, nn.Parameter]], Optimizer]
"""Makes an optimizer over parameters, which it may group by their names in the model."""
_TINY = 1e-6  # as PyTorch's clipping divides


class UnitStore:
    """Units by their index. Single-threaded.

    Args:
        graph: of the model; held units begin with copies of its weights.
        make_optimizer: for the parameters of one unit that are trained.
        units: which are held at first; all of them if nothing is said.
        proximal_mu: of FedProx. A unit's anchor is its weights when it comes without one, as it
            does from the edge at a round's begin; from then on it travels with the unit.

    Raises:
        ValueError: if ``proximal_mu`` is negative.
    """

    def __init__(
        self,
        graph: UnitGraph,
        make_optimizer: MakeOptimizer,
        units: Iterable[int] | None = None,
        *,
        proximal_mu: float = 0.0,
    ) -> None:
        if proximal_mu < 0.0:
            raise ValueError(f"proximal_mu must not be negative, got {proximal_mu}")
        self.graph = graph
        self._make_optimizer, self._proximal_mu = make_optimizer, proximal_mu
        self._terms: dict[int, ProximalTerm] = {}
        self._modules: dict[int, fx.GraphModule] = {}
        self._optimizers: dict[int, Optimizer] = {}
        for index in range(len(graph.units)) if units is None else units:
            self._hold(index, unit_module(graph, graph.units[index]))

    @property
    def held(self) -> tuple[int, ...]:
        """Indices of the units that are here."""
        return tuple(sorted(self._modules))

    @property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """Of the units that are here and have something to train: for rates by a schedule."""
        return tuple(self._optimizers[i] for i in sorted(self._optimizers))

    def module(self, unit: int) -> fx.GraphModule:
        """The module of a unit that is here."""
        return self._modules[unit]

    def stage(
        self,
        units: Iterable[int],
        *,
        takes: Iterable[str],
        gives: Iterable[str],
        seed: int = 0,
    ) -> StageModule:
        """A module over held units; it shares their parameters.

        Raises:
            ValueError: if a unit is not here.
        """
        wanted = sorted(units)
        if missing := [i for i in wanted if i not in self._modules]:
            raise ValueError(f"units {missing} are not here; held are {list(self.held)}")
        modules = {i: self._modules[i] for i in wanted}
        return StageModule(self.graph, modules, takes=[*takes], gives=[*gives], seed=seed)

    # --- units come and go ----------------------------------------------------------------------

    def state_of(self, unit: int, step: int) -> UnitState:
        """A copy of a unit's state; ``step`` is the next to be taken.

        Raises:
            ValueError: if the unit is not here, or its optimizer keeps something but tensors.
        """
        if unit not in self._modules:
            raise ValueError(f"unit {unit} is not here; held are {list(self.held)}")
        module = self._modules[unit]
        tensors = _own_tensors(module)
        for name, parameter in module.named_parameters():
            state = self._optimizers[unit].state if unit in self._optimizers else {}
            for key, value in state.get(parameter, {}).items():
                if value is None:
                    continue
                if not isinstance(value, Tensor):
                    raise ValueError(
                        f"the optimizer keeps {key} = {value!r} for {name}, which is no tensor: "
                        "use one whose state is tensors"
                    )
                tensors[f"{OPTIMIZER}/{name}/{key}"] = value
        if unit in self._terms:
            starts = self._terms[unit].starts
            tensors |= {f"{ANCHOR}/{name}": start for name, start in starts.items()}
        copies = {key: tensor.detach().clone() for key, tensor in tensors.items()}
        return UnitState(unit=unit, digest=self.graph.digest, step=step, tensors=copies)

    def take_unit(self, unit: int, step: int) -> UnitState:
        """A unit's state; it is no longer here afterwards."""
        state = self.state_of(unit, step)
        self.drop_unit(unit)
        return state

    def drop_unit(self, unit: int) -> None:
        """Hold it no longer."""
        del self._modules[unit]
        self._optimizers.pop(unit, None)
        self._terms.pop(unit, None)

    def give_unit(self, state: UnitState) -> None:
        """Hold a unit from its state; one that is here already goes back to it.

        Raises:
            ValueError: if it is of another model, or its tensors are not those of the unit. What
                was here stays as it was.
        """
        if state.digest != self.graph.digest:
            raise ValueError(
                f"unit {state.unit} is of the unit graph {state.digest}, here is "
                f"{self.graph.digest}; both sides must hold the same model"
            )
        if not 0 <= state.unit < len(self.graph.units):
            raise ValueError(f"there is no unit {state.unit}, only {len(self.graph.units)} units")
        # Making a module takes longer than filling it; in a recovery most units are here.
        held = self._modules.get(state.unit)
        module = unit_module(self.graph, self.graph.units[state.unit]) if held is None else held
        _check_tensors(state, module)
        _fill(module, state.tensors)
        self._modules.pop(state.unit, None)
        self._optimizers.pop(state.unit, None)
        anchors = {
            key.removeprefix(f"{ANCHOR}/"): tensor
            for key, tensor in state.tensors.items()
            if key.startswith(f"{ANCHOR}/")
        }
        self._hold(state.unit, module, anchors)
        for name, parameter in module.named_parameters():
            prefix = f"{OPTIMIZER}/{name}/"
            kept = {k.removeprefix(prefix): t for k, t in state.tensors.items() if prefix in k}
            if kept:
                moments = {key: _like(parameter, tensor) for key, tensor in kept.items()}
                self._optimizers[state.unit].state[parameter] = moments

    # --- one optimizer step ---------------------------------------------------------------------

    def add_proximal(self) -> None:
        """Add FedProx's term to the gradients: once a step, before norms are taken."""
        for term in self._terms.values():
            term.add_gradient()

    def squared_norms(self) -> Tensor:
        """Squared gradient norm of every unit, float64 ``[num_units]``; 0 for units elsewhere.

        Units are on one vehicle each: the sum over vehicles, then over units in their order, is
        the same number however the model is cut.
        """
        norms = torch.zeros(len(self.graph.units), dtype=torch.float64)
        for index, module in self._modules.items():
            for _, parameter in sorted(module.named_parameters()):
                if parameter.grad is not None:
                    norms[index] += parameter.grad.double().square().sum().cpu()
        return norms

    def scale_gradients(self, factor: float, units: Iterable[int] | None = None) -> None:
        """Multiply the gradients of ``units``, all that are here if nothing is said."""
        for index in self.held if units is None else units:
            for parameter in self._modules[index].parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)

    def step(self, gradient_norm: float, clip_norm: float) -> bool:
        """Clip, step every optimizer, forget the gradients.

        Args:
            gradient_norm: over the whole model, on all vehicles.
            clip_norm: gradients are shortened to it; 0 does not clip.

        Returns:
            False if the norm is not finite: then nothing was changed but the gradients forgotten.
        """
        taken = math.isfinite(gradient_norm)
        if taken and clip_norm and gradient_norm > clip_norm:
            self.scale_gradients(clip_norm / (gradient_norm + _TINY))
        for optimizer in self._optimizers.values():
            if taken:
                _fill_gradients(optimizer)
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return taken

    def _hold(
        self, index: int, module: fx.GraphModule, anchors: Mapping[str, Tensor] | None = None
    ) -> None:
        self._modules[index] = module
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if trained:
            self._optimizers[index] = self._make_optimizer(trained)
            if self._proximal_mu > 0.0:
                self._terms[index] = ProximalTerm(module, self._proximal_mu, anchors)


def total_norm(squared_norms: Tensor) -> float:
    """The gradient's norm over all units: a sum in their order, in double precision."""
    return math.sqrt(sum(squared_norms.tolist()))


def _fill_gradients(optimizer: Optimizer) -> None:
    """No gradient counts as 0: stages send zeros for what has none, so none is no fact of a model
    but of where it is cut.
    """  # noqa: D205
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)


def _own_tensors(module: fx.GraphModule) -> dict[str, Tensor]:
    """Weights and buffers by their keys in a state."""
    tensors: dict[str, Tensor] = {f"{WEIGHT}/{name}": p for name, p in module.named_parameters()}
    return tensors | {f"{BUFFER}/{name}": b for name, b in module.named_buffers()}


def _check_tensors(state: UnitState, module: fx.GraphModule) -> None:
    expected = _own_tensors(module)
    more = (f"{OPTIMIZER}/", f"{ANCHOR}/")
    given = {k: t for k, t in state.tensors.items() if not k.startswith(more)}
    if given.keys() != expected.keys():
        raise ValueError(f"unit {state.unit} has {sorted(expected)}, the state has {sorted(given)}")
    for key, tensor in given.items():
        if (tensor.shape, tensor.dtype) != (expected[key].shape, expected[key].dtype):
            raise ValueError(
                f"{key} of unit {state.unit} must be {list(expected[key].shape)} "
                f"{expected[key].dtype}, got {list(tensor.shape)} {tensor.dtype}"
            )
    names = [name for name, _ in module.named_parameters()]
    for key in state.tensors.keys() - given.keys():
        if key.split("/")[1] not in names:
            raise ValueError(f"{key}: unit {state.unit} has no such parameter, only {names}")


def _fill(module: fx.GraphModule, tensors: Mapping[str, Tensor]) -> None:
    """Put the values in, in the memory order that the module's own have."""
    for path, owner in list(module.named_modules()):
        for name, parameter in list(owner.named_parameters(recurse=False)):
            value = _like(parameter, tensors[f"{WEIGHT}/{_join(path, name)}"])
            setattr(owner, name, nn.Parameter(value, requires_grad=parameter.requires_grad))
        for name, buffer in list(owner.named_buffers(recurse=False)):
            owner._buffers[name] = _like(buffer, tensors[f"{BUFFER}/{_join(path, name)}"])


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _like(template: Tensor, value: Tensor) -> Tensor:
    """A copy of ``value``; in the template's memory order where the shapes agree."""
    if template.shape != value.shape:
        return value.detach().clone()
    device = value.device if template.device.type == "meta" else template.device
    return torch.empty_like(template, device=device, dtype=value.dtype).copy_(value).detach()
