# SPDX-License-Identifier: Apache-2.0
"""Saved bytes, what crosses a cut, and peaks, against small models done by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from flad_common.profiling.cuts import cuts
from flad_common.profiling.peak import ParameterBytes, peak_bytes
from flad_common.profiling.record import Recording, record
from flad_common.profiling.trace import trace


def recorded(model: nn.Module, *inputs: object) -> Recording:
    return record(trace(model.train()), inputs, repeats=1)


def two_layers() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5))


def test_saved_bytes_of_two_layers_by_hand() -> None:
    # 3 rows of float32. The first product keeps its input (10), the ReLU its output (20), and the
    # second product keeps the same 20 once more: the same memory.
    recording = recorded(two_layers(), torch.randn(3, 10))
    first, relu, second = recording.operations[1:]
    sizes = recording.storages
    assert [sizes[k] for k in first.saved] == [3 * 10 * 4]
    assert [sizes[k] for k in relu.saved] == [3 * 20 * 4]
    assert second.saved == relu.saved


def test_in_place_operations_add_no_memory() -> None:
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(inplace=True), nn.Linear(20, 5))
    recording = recorded(model, torch.randn(3, 10))
    saved = {key for o in recording.operations for key in o.saved}
    assert sum(recording.storages[key] for key in saved) == 3 * (10 + 20) * 4
    linear, relu = recording.operations[1:3]
    assert recording.key(linear.values[0]) == recording.key(relu.values[0])


def test_recording_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5))
    before = {name: b.clone() for name, b in model.named_buffers()}
    random = torch.random.get_rng_state()
    recorded(model, torch.randn(8, 4) + 3.0)
    random_after = torch.random.get_rng_state()
    torch.random.set_rng_state(random)
    torch.randn(8, 4)  # the input above was drawn from it too
    assert torch.equal(random_after, torch.random.get_rng_state())
    assert all(torch.equal(b, before[name]) for name, b in model.named_buffers())
    assert all(p.grad is None for p in model.parameters())


class Skip(nn.Module):
    """Dictionary in, tuple between, a skip across, and an input that is used late."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 6)

    def forward(self, given: dict[str, Tensor], late: Tensor) -> tuple[Tensor, Tensor]:
        a = self.first(given["x"])
        left, right = torch.split(a, 3, dim=1)
        b = self.second(a)
        return b + late, left * right


def test_a_cut_carries_every_live_tensor_once() -> None:
    recording = recorded(
        Skip(), {"x": torch.randn(2, 4), "unused": torch.zeros(9)}, torch.ones(2, 6)
    )
    names = [o.name for o in recording.operations]
    by_name = {names[cut.after]: cut for cut in cuts(recording)}
    # After `second`: both halves (2x3), b (2x6); `late` is an input, and takes no gradient back.
    cut = by_name["second"]
    assert cut.forward_bytes == cut.backward_bytes == (6 + 6 + 12) * 4
    assert cut.input_bytes == 12 * 4
    # After `first`: only a; the halves are views that are made later.
    assert by_name["first"].forward_bytes == 12 * 4
    # After the sum: the sum is an output and lives on, b does not.
    assert by_name["add"].forward_bytes == (12 + 6 + 6) * 4
    assert by_name["add"].input_bytes == 0


def test_an_input_that_nobody_takes_crosses_nothing() -> None:
    recording = recorded(
        Skip(), {"x": torch.randn(2, 4), "unused": torch.zeros(9)}, torch.ones(2, 6)
    )
    assert max(cut.input_bytes for cut in cuts(recording)) == (2 * 4 + 2 * 6) * 4


def test_peak_of_two_layers_by_hand() -> None:
    model = two_layers()
    recording = recorded(model, torch.randn(300, 10))
    parameters = {name: ParameterBytes.of(p) for name, p in model.named_parameters()}
    weights = (10 * 20 + 20 + 20 * 5 + 5) * 4
    held = weights + 2 * weights + 4 * 4  # two moments, a counter for each of four tensors
    x, hidden, out = (300 * n * 4 for n in (10, 20, 5))
    # In the ReLU's backward: the batch and the output are held by the caller, its output is saved,
    # gradients flow out of it and into it; the last layer's gradients are there.
    last = (20 * 5 + 5) * 4
    assert peak_bytes(recording, range(4), parameters) == held + last + x + out + 3 * hidden
    # The last layer alone, as a unit: its input is saved, and gradients of both of its sides.
    names = {name: parameters[name] for name in ("2.weight", "2.bias")}
    alone = last + 2 * last + 2 * 4 + last + 2 * hidden + 2 * out
    assert peak_bytes(recording, [3], names) == alone


def test_frozen_parameters_take_no_gradient_and_no_moments() -> None:
    frozen = nn.Parameter(torch.zeros(8), requires_grad=False)
    assert ParameterBytes.of(frozen) == ParameterBytes(weights=32, gradients=0, optimizer=0)


def test_branching_on_values_is_refused_by_name() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match=r"Branching cannot be traced.*torch\.fx\.wrap"):
        trace(Branching())


def test_a_missing_input_is_named() -> None:
    with pytest.raises(ValueError, match="'late' was not given"):
        record(trace(Skip()), ({"x": torch.zeros(1, 4)},), repeats=0)


def test_the_documented_bound_holds_for_every_unit() -> None:
    """What docs/profile.md says a planner may compute from the JSON alone."""
    recording = recorded(Skip(), {"x": torch.randn(7, 4)}, torch.ones(7, 6))
    parameters = {name: ParameterBytes.of(p) for name, p in Skip().named_parameters()}
    end = len(recording.operations)
    crossing = [0] + [c.forward_bytes + c.input_bytes for c in cuts(recording)]
    crossing.append(sum(t.numel() * 4 for t in recording.outputs))
    for first in range(end):
        for last in range(first, end):
            unit = recording.operations[first : last + 1]
            held = ParameterBytes.total(
                parameters[name] for name in {name for o in unit for name in o.parameters}
            )
            saved = sum(recording.storages[k] for k in {k for o in unit for k in o.saved})
            most = max(crossing[i] + crossing[i + 1] for i in range(first, last + 1))
            bound = held.weights + held.gradients + held.optimizer + saved + most
            peak = peak_bytes(recording, range(first, last + 1), parameters)
            assert peak <= bound + crossing[last + 1], (first, last)
