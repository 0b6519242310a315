# SPDX-License-Identifier: Apache-2.0
"""What is written is what is read, or is within the bound that the encoding states."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from member_threads import seeded

from flad_pipeline.wire import (
    DTYPES,
    INT8_BLOCK,
    Encoding,
    ErrorFeedback,
    UnusableTensorError,
    decode_into,
    encode,
)


def through(tensor, encoding=Encoding.EXACT, chunk_bytes=1000, **options):
    written = encode(tensor, encoding, chunk_bytes=chunk_bytes, **options)
    back = torch.full_like(tensor, 1)
    decode_into(
        back,
        dtype=written.dtype,
        encoding=int(written.encoding),
        shape=written.shape,
        chunks=written.chunks,
    )
    return back, written


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 1, 5), (40, 33)])
def test_every_number_type_is_exact(dtype, shape):
    tensor = (50 * seeded(shape, 1)).to(dtype)
    back, written = through(tensor, chunk_bytes=64)

    assert back.dtype == dtype
    assert torch.equal(back, tensor)
    assert all(len(chunk) <= 64 for chunk in written.chunks)


def test_strides_do_not_matter_on_either_side():
    tensor = seeded((6, 8), 2).t()
    back = torch.zeros(6, 8).t()
    written = encode(tensor, chunk_bytes=50)
    decode_into(back, dtype=written.dtype, encoding=0, shape=(8, 6), chunks=written.chunks)
    assert torch.equal(back, tensor)


@given(seed=st.integers(0, 10_000), size=st.integers(256, 1500), scale=st.floats(1e-6, 1e3))
@settings(max_examples=40, deadline=None)
def test_rounding_stays_within_its_bound(seed, size, scale):
    tensor = scale * seeded((size,), seed)

    half, _ = through(tensor, Encoding.FP16)
    assert bool(((half - tensor).abs() <= (tensor.abs() * 2.0**-11).clamp_min(2.0**-25)).all())

    byte, written = through(tensor, Encoding.INT8)
    for start in range(0, size, INT8_BLOCK):
        block = slice(start, start + INT8_BLOCK)
        bound = float(tensor[block].abs().max()) / 254.0 * 1.001
        assert float((byte[block] - tensor[block]).abs().max()) <= bound
    assert written.num_bytes < size * 4 / 3.5


@pytest.mark.parametrize("encoding", [Encoding.FP16, Encoding.INT8])
def test_with_feedback_errors_do_not_add_up(encoding):
    feedback, total, total_back = ErrorFeedback(), torch.zeros(300), torch.zeros(300)
    # A large number sets the scale; all others are far below half a step of a byte.
    tensor = torch.full((300,), 1e-3)
    tensor[::INT8_BLOCK] = 1.0
    without = torch.zeros(300)
    for _ in range(200):
        total += tensor
        total_back += through(tensor, encoding, feedback=feedback, slot="x")[0]
        without += through(tensor, encoding)[0]

    one_step = 1.0 / 127.0 if encoding is Encoding.INT8 else 1e-6
    assert float((total_back - total).abs().max()) <= 2.0 * one_step
    if encoding is Encoding.INT8:
        assert float((without - total).abs().max()) > 0.19  # it forgot them all


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_what_does_not_fit_is_sent_exactly(value):
    tensor = torch.zeros(300)
    tensor[7] = value
    feedback = ErrorFeedback()
    back, written = through(tensor, Encoding.FP16, feedback=feedback, slot=1)

    assert written.encoding is Encoding.EXACT
    assert torch.equal(back.nan_to_num(5.0), tensor.nan_to_num(5.0))
    assert feedback.num_bytes == 0


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"shape": (3, 2)}, r"float32\[2, 3\] was expected and torch.float32\[3, 2\] arrived"),
        ({"dtype": 4}, r"int64\[2, 3\] arrived"),
        ({"dtype": 99}, "number type 99"),
        ({"encoding": 7}, "encoding 7"),
        ({"encoding": 1}, "takes 12 bytes, 24 arrived"),
        ({"chunks": ()}, "takes 24 bytes, 0 arrived"),
    ],
)
def test_another_tensor_than_expected_is_refused_and_writes_nothing(change, complaint):
    written = encode(seeded((2, 3), 1), chunk_bytes=100)
    values = {"dtype": 0, "encoding": 0, "shape": (2, 3), "chunks": written.chunks} | change
    target = torch.zeros(2, 3)
    with pytest.raises(UnusableTensorError, match=complaint):
        decode_into(target, **values)
    assert not target.any()


def test_a_number_type_without_a_name_is_refused():
    with pytest.raises(TypeError, match="complex64"):
        encode(torch.zeros(2, dtype=torch.complex64), chunk_bytes=10)
