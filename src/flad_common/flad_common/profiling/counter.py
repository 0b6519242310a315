# SPDX-License-Identifier: Apache-2.0
"""PyTorch's own FLOP counter, with the kernels that it forgets on a CPU.

It sees the kernels that run, and knows nothing of modules: the independent judge of
:mod:`flad_common.profiling.formulas`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

T = TypeVar("T")


def counted(work: Callable[[], T]) -> tuple[T, int]:
    """What ``work`` returns, and the FLOPs of its matrix products and convolutions."""
    aten = torch.ops.aten
    extra = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
        aten.convolution_backward: _convolution_backward,
    }
    counter = FlopCounterMode(display=False, custom_mapping=extra)
    with counter:
        result = work()
    return result, int(counter.get_total_flops())


def _attention(q: Any, k: Any, v: Any, *rest: Any, out_shape: Any = None, **more: Any) -> int:
    batch, heads, rows, width = q
    columns = k[-2]
    return int(2 * batch * heads * rows * columns * (width + v[-1]))


def _attention_backward(grad: Any, q: Any, k: Any, v: Any, *rest: Any, **more: Any) -> int:
    """Scores once more, then the gradients of values, scores, queries and keys."""
    batch, heads, rows, width = q
    return int(2 * batch * heads * rows * k[-2] * (3 * width + 2 * v[-1]))


def _convolution_backward(
    grad: Any,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    mask: Any,
    **more: Any,
) -> int:
    """As the forward pass for each of input and weight; PyTorch's own forgets ``groups``."""
    positions = x if transposed else grad
    forward = 2.0
    for size in (*positions, *weight[1:]):
        forward *= size
    return int(forward) * (bool(mask[0]) + bool(mask[1]))
