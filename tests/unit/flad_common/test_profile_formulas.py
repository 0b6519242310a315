# SPDX-License-Identifier: Apache-2.0
"""FLOPs by formula, against sums done by hand and against PyTorch's counter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from flad_common.profiling.formulas import Flops
from flad_common.profiling.record import Operation, record
from flad_common.profiling.trace import trace


class One(nn.Module):
    """A module as a single operation of a model, whatever its inputs."""

    def __init__(self, module: nn.Module, num_inputs: int, **kwargs: bool) -> None:
        super().__init__()
        self.module, self.num_inputs, self.kwargs = module, num_inputs, kwargs

    def forward(self, inputs: list[Tensor]) -> object:
        output = self.module(*(inputs[i] for i in range(self.num_inputs)), **self.kwargs)
        return output[0] if isinstance(self.module, (nn.MultiheadAttention, nn.GRU)) else output


def profiled(module: nn.Module, *inputs: Tensor, **kwargs: bool) -> list[Operation]:
    model = One(module, len(inputs), **kwargs)
    return record(trace(model.train()), [list(inputs)], repeats=0).operations


def only(module: nn.Module, *inputs: Tensor, **kwargs: bool) -> Operation:
    (operation,) = [o for o in profiled(module, *inputs, **kwargs) if o.op == "call_module"]
    return operation


def grad(*shape: int) -> Tensor:
    return torch.randn(*shape).requires_grad_()


def test_convolution_by_hand() -> None:
    # 2 frames, 10x12 pixels, 6 to 8 channels in 2 groups, 3x3, stride 2, padding 1: 5x6 positions,
    # each 8 channels of 3*3*(6/2) multiplications and additions.
    found = only(nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2), torch.randn(2, 6, 10, 12))
    forward = 2 * (2 * 5 * 6) * 8 * (3 * 3 * 3)
    # The picture asks for no gradient, the weight does.
    assert found.flops == Flops(forward=forward, backward=forward)
    inner = only(nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2), grad(2, 6, 10, 12))
    assert inner.flops == Flops(forward=forward, backward=2 * forward)


def test_transposed_convolution_by_hand() -> None:
    # Each of the 2*4*5*3 input values is spread over 7 channels of 2x2.
    found = only(nn.ConvTranspose2d(3, 7, 2, stride=2), grad(2, 3, 4, 5))
    assert found.flops == Flops(forward=2 * 120 * 7 * 4, backward=4 * 120 * 7 * 4)


def test_attention_by_hand() -> None:
    # 2 batches, 5 queries of 8 channels look at 7 keys of 8 channels.
    attention = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)
    keys = grad(2, 7, 8)
    found = only(attention, grad(2, 5, 8), keys, keys, need_weights=False)
    projections = 2 * (2 * 5) * 8 * 8 * 2 + 2 * (2 * 7) * 8 * 8 * 2
    scores_and_values = 2 * (2 * 2 * 5 * 7 * 8)
    forward = projections + scores_and_values
    assert found.flops == Flops(forward=forward, backward=2 * forward)


def test_gru_by_hand() -> None:
    # 3 sequences of 4 steps, 6 inputs, 5 hidden, 3 gates; the first state asks for a gradient.
    found = only(nn.GRU(6, 5, batch_first=True), grad(3, 4, 6), grad(1, 3, 5))
    forward = 2 * (3 * 4) * (3 * 5) * (6 + 5)
    assert found.flops == Flops(forward=forward, backward=2 * forward)


def test_gru_without_a_first_state_needs_no_gradient_of_it() -> None:
    found = only(nn.GRU(6, 5, batch_first=True), torch.randn(3, 4, 6))
    into, across = 2 * 12 * 15 * 6, 2 * 12 * 15 * 5
    assert found.flops == Flops(forward=into + across, backward=into + across + across * 3 // 4)


class Products(nn.Module):
    def forward(self, a: Tensor, b: Tensor, image: Tensor, kernel: Tensor) -> Tensor:
        scores = torch.einsum("bij,bkj->bik", a, b).softmax(-1) @ b
        scores = F.scaled_dot_product_attention(scores, a, b) @ torch.bmm(a.transpose(1, 2), b)
        scores = F.scaled_dot_product_attention(scores[:, None], a[:, None], b[:, None])[:, 0]
        return F.linear(scores, b[0]).sum() + F.conv2d(image, kernel, padding=1).sum()


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (Products(), (grad(2, 4, 6), grad(2, 4, 6), torch.randn(1, 2, 5, 5), grad(3, 2, 3, 3))),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (grad(2, 4, 5, 6),)),
        (nn.Conv1d(4, 6, 3, dilation=2), (grad(2, 4, 9),)),
        (nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 2)), (grad(3, 4),)),
        (nn.MultiheadAttention(8, 2), (grad(5, 2, 8), *[grad(7, 2, 8)] * 2)),
        (
            nn.MultiheadAttention(8, 2, batch_first=True),
            (grad(2, 5, 8), grad(2, 7, 8), torch.randn(2, 7, 8)),
        ),
        (nn.MultiheadAttention(8, 2, kdim=6, vdim=4), (grad(5, 8), grad(7, 6), grad(7, 4))),
        (nn.GRU(6, 5, num_layers=2, bidirectional=True), (grad(4, 3, 6),)),
        (nn.GRU(6, 5, batch_first=True), (torch.randn(3, 4, 6), grad(1, 3, 5))),
        (nn.GRUCell(6, 5), (grad(3, 6), grad(3, 5))),
    ],
)
def test_formulas_agree_with_the_kernels_that_run(
    model: nn.Module, inputs: tuple[Tensor, ...]
) -> None:
    operations = profiled(model, *inputs)
    assert sum(o.flops.forward for o in operations) > 0
    for operation in operations:
        assert operation.by_formula, operation.kind
        assert operation.flops == operation.flops_counted, operation.kind


def test_fused_attention_computes_its_scores_once_more() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    query, keys = grad(2, 5, 8), grad(2, 7, 8)
    fused = only(attention, query, keys, keys, need_weights=False)
    plain = only(attention, query, keys, keys)
    assert fused.flops == fused.flops_counted
    assert fused.flops.backward - plain.flops.backward == 2 * (2 * 5 * 7 * 8)


def test_what_has_no_formula_is_counted_and_said() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    found = only(nn.Sequential(layer), grad(2, 5, 8))
    assert not found.by_formula
    # 4 projections of 8x8, two of the feed-forward's 8x16, scores and values.
    assert found.flops.forward == 2 * 10 * (4 * 64 + 2 * 128) + 4 * 2 * 5 * 5 * 8
