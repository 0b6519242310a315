# SPDX-License-Identifier: Apache-2.0
"""A trace does what the model does, on any batch, or is refused with the line and the remedy."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from nasty_model import NastyModel, nasty_batch
from torch import Tensor, nn

from flad_pipeline.graph.host_control import host_control
from flad_pipeline.graph.trace import trace_model
from flad_pipeline.graph.units import unit_graph


class Asks(nn.Module):
    """A layer, and a forward pass that is given."""

    def __init__(self, forward: Callable[[Asks, Tensor], Any]) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self._given = forward

    def forward(self, x: Tensor) -> Any:
        return self._given(self, x)


def on_sum(model: Asks, x: Tensor) -> Tensor:
    return model.layer(x) if x.sum() > 0 else x


def on_batch(model: Asks, x: Tensor) -> Tensor:
    if x.shape[0] > 2:
        x = x + 1.0
    return model.layer(x)


def on_length(model: Asks, x: Tensor) -> Tensor:
    return model.layer(x) * (2.0 if len(x) > 2 else 1.0)


def over_rows(model: Asks, x: Tensor) -> Tensor:
    return torch.stack([model.layer(x[i]) for i in range(x.shape[0])])


def as_number(model: Asks, x: Tensor) -> Tensor:
    return model.layer(x) * float(x.mean())


def on_rank(model: Asks, x: Tensor) -> Tensor:
    return model.layer(x) if x.dim() == 2 else x


LINES = {
    on_sum: "x.sum() > 0",
    on_batch: "x.shape[0] > 2",
    on_length: "len(x) > 2",
    over_rows: "range(x.shape[0])",
    as_number: "float(x.mean())",
    on_rank: "x.dim() == 2",
}


@pytest.mark.parametrize("forward", LINES, ids=lambda f: f.__name__)
def test_python_that_looks_at_tensors_is_refused_with_its_line(forward: Any) -> None:
    with pytest.raises(ValueError, match="@host_control") as refusal:
        trace_model(Asks(forward), (torch.ones(3, 3),))
    assert f"{forward.__code__.co_filename}:{_line_of(forward)}" in str(refusal.value)
    assert LINES[forward] in str(refusal.value)


def _line_of(forward: Any) -> int:
    source = LINES[forward]
    for number, line in enumerate(open(forward.__code__.co_filename), 1):  # noqa: SIM115
        if number >= forward.__code__.co_firstlineno and source in line:
            return number
    raise AssertionError(source)


def on_type(model: Asks, x: Tensor) -> Tensor:
    return model.layer(x) if isinstance(x, Tensor) else x * 0.0


def by_chance(model: Asks, x: Tensor) -> Tensor:
    return model.layer(x) * random.random()


def with_noise(model: Asks, x: Tensor) -> Tensor:
    return model.layer(x) + torch.rand(3)


def with_memory(model: Asks, x: Tensor) -> Tensor:
    model.last = x
    return model.layer(x)


def gives_its_input(model: Asks, x: Tensor) -> tuple[Tensor, Tensor]:
    return model.layer(x), x


@pytest.mark.parametrize(
    ("forward", "complaint"),
    [
        (on_type, "disagree on the example"),
        (by_chance, "disagree on the example"),
        (with_noise, "random numbers"),
        (with_memory, r"keeps a tensor in \(top\).last"),
        (gives_its_input, "returns x as it is"),
    ],
)
def test_what_a_trace_would_freeze_is_found(forward: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        unit_graph(Asks(forward), (torch.ones(3, 3),))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_the_nasty_model_and_its_trace_agree_on_batches_it_was_not_traced_with(
    batch_size: int,
) -> None:
    model = NastyModel().eval()
    traced = trace_model(model, nasty_batch(4))
    for seed in range(4):  # some with a positive sum, some without
        batch = nasty_batch(batch_size, seed)
        light, more = model(*batch)
        found_light, found = traced(*batch)
        assert torch.equal(light, found_light)
        assert list(found) == ["places", "inner"]
        assert torch.equal(more["inner"], found["inner"])


def test_an_optional_argument_belongs_to_the_trace() -> None:
    model, batch = NastyModel().eval(), nasty_batch(3)
    mask = torch.zeros(3, 1)
    with_mask = trace_model(model, batch, {"mask": mask})
    assert torch.equal(with_mask(*batch, mask=mask)[0], model(*batch, mask)[0])
    with pytest.raises(ValueError, match="traced for inputs nested as"):
        with_mask(*batch)
    with pytest.raises(ValueError, match=r"sensors\.front"):
        trace_model(model, batch)(*batch, mask=mask)


def test_a_method_of_a_module_is_no_host_control() -> None:
    class Wrong(nn.Module):
        @host_control
        def part(self, x: Tensor) -> Tensor:
            return x

        def forward(self, x: Tensor) -> Tensor:
            return self.part(x)

    with pytest.raises(ValueError, match="takes the class"):
        trace_model(Wrong(), (torch.ones(2),))


def test_a_host_controlled_module_is_one_operation() -> None:
    @host_control
    class Loops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            while float(x.detach().abs().max()) > 1.0:
                x = self.layer(x) * 0.5
            return x

    model = nn.Sequential(nn.Linear(3, 3), Loops())
    graph = unit_graph(model, (torch.randn(4, 3),))
    assert [unit.parameters for unit in graph.units][-1] == ("1.layer.bias", "1.layer.weight")


def test_a_mode_that_python_asks_for_is_noticed() -> None:
    def forward(model: Asks, x: Tensor) -> Tensor:
        return model.layer(x) if model.training else x * 2.0

    assert trace_model(Asks(forward), (torch.ones(2, 3),)).mode_matters
    assert not trace_model(NastyModel(dropout=0.5), nasty_batch(2)).mode_matters


@pytest.fixture(autouse=True)
def _same_random_numbers() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
