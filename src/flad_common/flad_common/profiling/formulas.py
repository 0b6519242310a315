# SPDX-License-Identifier: Apache-2.0
r"""FLOPs of one operation from its shapes, forward and backward.

A multiplication with its addition is two FLOPs. Only matrix products and convolutions count, as in
every published figure: the rest is bound by memory, and its bytes are given beside
(:mod:`flad_common.profiling.record`). For a product ``Y = X W``::

    forward   2 * |Y| * K            K = length of the sums
    backward  the same for dX = dY W^T where X needs a gradient, and again for dW = X^T dY

Attention on q [B, S, E] against k [B, T, E]: forward ``4 B S T E`` (scores, then values), backward
twice that; a fused kernel computes the scores once more, 2.5 times. The check against PyTorch's
own counter stands in :mod:`flad_common.profiling.check`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn

_FREE_MODULES = (
    nn.modules.batchnorm._NormBase,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.dropout._DropoutNd,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.ReLU,
    nn.GELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softmax,
    nn.Identity,
    nn.Flatten,
    nn.Embedding,
    nn.Upsample,
)
_GATES: Mapping[type[nn.Module], int] = {nn.GRU: 3, nn.LSTM: 4, nn.GRUCell: 3, nn.LSTMCell: 4}


@dataclass(frozen=True, kw_only=True)
class Flops:
    """FLOPs of one operation."""

    forward: int
    backward: int


@dataclass(frozen=True, kw_only=True)
class Call:
    """One operation as it ran: what was called, with what, and what came out."""

    target: Any
    """A module, a function, or the name of a tensor's method."""
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any


Formula = Callable[[Call], Flops]


def flops_of(call: Call, more: Mapping[Any, Formula] | None = None) -> Flops | None:
    """FLOPs by formula, ``more`` before those of this page; ``None`` where none is known."""
    if more and call.target in more:
        return more[call.target](call)
    if isinstance(call.target, nn.Module):
        formula = _module_formula(call.target)
    elif isinstance(call.target, str):
        formula = _METHODS.get(call.target, no_products)
    else:
        formula = _FUNCTIONS.get(call.target, no_products if _is_plain(call.target) else None)
    return None if formula is None else formula(call)


def _module_formula(module: nn.Module) -> Formula | None:
    if isinstance(module, nn.modules.conv._ConvNd):
        return _convolution_module
    if isinstance(module, nn.Linear):
        return _linear_module
    if isinstance(module, nn.MultiheadAttention):
        return _attention_module
    if type(module) in _GATES:
        return _recurrent_module
    return no_products if isinstance(module, _FREE_MODULES) else None


def _is_plain(function: Any) -> bool:
    """Whether a function without a formula is one of PyTorch's or Python's, which multiply little.

    Functions of the project (``torch.fx.wrap``) are not: what they do is not known here.
    """
    if isinstance(function, type):  # a tuple or a dictionary is put together
        return True
    module = getattr(function, "__module__", "") or ""
    return module.split(".")[0] in {"torch", "_operator", "builtins", "math", "einops", ""}


def no_products(call: Call) -> Flops:
    """Of what multiplies nothing worth counting: norms, activations, copies."""
    return Flops(forward=0, backward=0)


def _product(flops: int, *operands: Any) -> Flops:
    """Forward once; backward once for each operand that needs a gradient."""
    return Flops(forward=flops, backward=flops * sum(map(_needs_grad, operands)))


def _needs_grad(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _argument(call: Call, index: int, name: str, default: Any = None) -> Any:
    return call.args[index] if len(call.args) > index else call.kwargs.get(name, default)


# Convolutions: each output value is a sum over the kernel and the channels of its group. Turned
# round (transposed), each input value is spread over as many.


def _convolution_module(call: Call) -> Flops:
    module, x = call.target, _argument(call, 0, "input")
    return _convolution(x, module.weight, call.output, module.transposed)


def _convolution_function(call: Call) -> Flops:
    x, weight = _argument(call, 0, "input"), _argument(call, 1, "weight")
    return _convolution(x, weight, call.output, "transpose" in call.target.__name__)


def _convolution(x: Tensor, weight: Tensor, output: Tensor, transposed: bool) -> Flops:
    # weight is [out, in/groups, *kernel], or [in, out/groups, *kernel] when transposed.
    positions = x if transposed else output
    return _product(2 * positions.numel() * prod(weight.shape[1:]), x, weight)


# Products of matrices.


def _linear_module(call: Call) -> Flops:
    x = _argument(call, 0, "input")
    return _product(2 * x.numel() * call.target.out_features, x, call.target.weight)


def _linear_function(call: Call) -> Flops:
    x, weight = _argument(call, 0, "input"), _argument(call, 1, "weight")
    return _product(2 * x.numel() * weight.shape[0], x, weight)


def _matmul(call: Call) -> Flops:
    a, b = _argument(call, 0, "input"), _argument(call, 1, "other", call.kwargs.get("mat2"))
    return _product(2 * call.output.numel() * a.shape[-1], a, b)


def _addmm(call: Call) -> Flops:
    a, b = _argument(call, 1, "mat1"), _argument(call, 2, "mat2")
    return _product(2 * call.output.numel() * a.shape[-1], a, b)


def _einsum(call: Call) -> Flops:
    """Two operands: every combination of all the letters is one multiplication and addition."""
    letters, operands = call.args[0], call.args[1:]
    terms = letters.split("->")[0].replace(" ", "").split(",")
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands, strict=True):
        sizes.update(zip(term, operand.shape, strict=True))
    return _product(2 * prod(sizes.values()) if len(operands) > 1 else 0, *operands)


# Attention.


def _attention_module(call: Call) -> Flops:
    """Three projections in, scores and values, one projection out."""
    m: nn.MultiheadAttention = call.target
    q, k, v = (_argument(call, i, name) for i, name in enumerate(("query", "key", "value")))
    assert m.kdim is not None
    assert m.vdim is not None
    into = [
        _product(2 * x.numel() * m.embed_dim, x, _in_weight(m, letter))
        for x, letter in ((q, "q"), (k, "k"), (v, "v"))
    ]
    rows_q, rows_k = q.numel() // m.embed_dim, k.numel() // m.kdim
    batch = 1 if q.dim() == 2 else q.shape[0 if m.batch_first else 1]
    core = 4 * rows_q * (rows_k // batch) * m.embed_dim
    fused = not _argument(call, 4, "need_weights", True) and not (m.training and m.dropout)
    trained = _in_weight(m, "q").requires_grad or any(map(_needs_grad, (q, k, v)))
    back = _core_backward(core, fused=fused) if trained else 0
    out = 2 * rows_q * m.embed_dim**2
    return _total(
        *into,
        Flops(forward=core, backward=back),
        Flops(forward=out, backward=out * (trained + m.out_proj.weight.requires_grad)),
    )


def _in_weight(m: nn.MultiheadAttention, letter: str) -> Tensor:
    weight = m.in_proj_weight if m._qkv_same_embed_dim else getattr(m, f"{letter}_proj_weight")
    assert isinstance(weight, Tensor)
    return weight


def fused_attention(call: Call) -> Flops:
    """Of queries, keys and values ``[..., rows, channels]``, whatever the number of heads."""
    return _core(call, fused=True)


def _attention_function(call: Call) -> Flops:
    has_heads = _argument(call, 0, "query").dim() == 4
    return _core(call, fused=has_heads and not _argument(call, 4, "dropout_p", 0.0))


def _core(call: Call, *, fused: bool) -> Flops:
    q, k, v = (_argument(call, i, name) for i, name in enumerate(("query", "key", "value")))
    forward = 2 * q.numel() * k.shape[-2] + 2 * call.output.numel() * k.shape[-2]
    needed = any(map(_needs_grad, (q, k, v)))
    return Flops(forward=forward, backward=_core_backward(forward, fused=fused) if needed else 0)


def _core_backward(core: int, *, fused: bool) -> int:
    """Four products of the same size as the forward's two; a fused kernel repeats the scores."""
    return core * 5 // 2 if fused else core * 2


# Recurrent layers: per step, gates * hidden sums over the input and over the hidden state.


def _recurrent_module(call: Call) -> Flops:
    m, x = call.target, _argument(call, 0, "input")
    gates = _GATES[type(m)]
    state = _argument(call, 1, "hx")
    given = _needs_grad(state[0] if isinstance(state, tuple) else state)
    if isinstance(m, (nn.GRUCell, nn.LSTMCell)):
        return _steps(x.numel() // m.input_size, 1, gates, m.input_size, m, (x, given))
    rows = x.numel() // m.input_size
    length = x.shape[0] if x.dim() == 2 else x.shape[1 if m.batch_first else 0]
    sides = 2 if m.bidirectional else 1
    parts = []
    for layer in range(m.num_layers):
        width = m.input_size if layer == 0 else m.hidden_size * sides
        below = x if layer == 0 else m.weight_ih_l0  # a layer above the first needs gradients
        parts += [_steps(rows, length, gates, width, m, (below, given))] * sides
    return _total(*parts)


def _steps(
    rows: int, length: int, gates: int, width: int, m: Any, needs: tuple[Tensor, bool]
) -> Flops:
    x, state_needs_grad = needs
    weight = next(m.parameters())
    from_input = _product(2 * rows * gates * m.hidden_size * width, x, weight)
    forward = 2 * rows * gates * m.hidden_size**2
    # The first step's state takes a gradient only if somebody asked for it.
    steps = length if state_needs_grad else length - 1
    backward = forward * weight.requires_grad + forward * steps // length
    return _total(from_input, Flops(forward=forward, backward=backward))


def _total(*parts: Flops) -> Flops:
    return Flops(forward=sum(p.forward for p in parts), backward=sum(p.backward for p in parts))


def describe(node: fx.Node, modules: Mapping[str, nn.Module]) -> str:
    """What ``node`` calls, in a word: ``Conv2d``, ``add``."""
    if node.op == "call_module":
        return type(modules[str(node.target)]).__name__
    return str(getattr(node.target, "__name__", node.target))


_FUNCTIONS: dict[Any, Formula] = {
    F.linear: _linear_function,
    F.scaled_dot_product_attention: _attention_function,
    torch.einsum: _einsum,
    **dict.fromkeys((torch.matmul, torch.bmm, torch.mm, operator.matmul), _matmul),
    **dict.fromkeys((torch.addmm, torch.baddbmm), _addmm),
    **dict.fromkeys(
        (F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
        _convolution_function,
    ),
}
_METHODS: dict[str, Formula] = {**dict.fromkeys(("matmul", "bmm", "mm"), _matmul)}
