# SPDX-License-Identifier: Apache-2.0
"""Tokens come back within the stated error, and a damaged message is never taken for a good one."""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np
import pytest

from flad_perception.wire import EncodedTokens, WireDtype, decode_tokens, encode_tokens


def tokens(seed, spread=1.0):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((7, 12)) * spread * 10.0 ** rng.uniform(-3, 3, (7, 1))
    return values.astype(np.float32)


@pytest.mark.parametrize("seed", range(10))
def test_fp32_is_exact(seed):
    values = tokens(seed)
    encoded = encode_tokens(values, WireDtype.FP32)
    assert len(encoded.data) == 4 * values.size
    assert decode_tokens(encoded).tobytes() == values.tobytes()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("spread", [1e-9, 1.0, 10.0])
def test_fp16_keeps_its_bound(seed, spread):
    values = tokens(seed, spread)
    encoded = encode_tokens(values, WireDtype.FP16)
    error = np.abs(decode_tokens(encoded).astype(np.float64) - values)
    assert len(encoded.data) == 2 * values.size
    assert (error <= np.maximum(2.0**-11 * np.abs(values), 2.0**-25)).all()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("spread", [1e-9, 1.0, 1e6])
def test_int8_keeps_its_bound_for_every_token_by_itself(seed, spread):
    values = tokens(seed, spread)
    encoded = encode_tokens(values, WireDtype.INT8)
    error = np.abs(decode_tokens(encoded).astype(np.float64) - values)
    half_step = 0.5 * np.asarray(encoded.scale)[:, None]
    assert len(encoded.data) == values.size
    assert (error <= half_step * (1.0 + 1e-5)).all()
    assert (half_step[:, 0] <= np.abs(values).max(axis=1) / 254.0 * (1.0 + 1e-5)).all()


@pytest.mark.parametrize("dtype", WireDtype)
def test_zeros_and_nothing_come_back(dtype):
    assert not decode_tokens(encode_tokens(np.zeros((2, 3)), dtype)).any()
    assert decode_tokens(encode_tokens(np.zeros((0, 3)), dtype)).shape == (0, 3)


@pytest.mark.parametrize("dtype", WireDtype)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_broken_token_is_not_sent(dtype, bad):
    values = tokens(0)
    values[3, 2] = bad
    with pytest.raises(ValueError, match="token 3"):
        encode_tokens(values, dtype)


def test_what_fp16_cannot_hold_is_not_sent():
    with pytest.raises(ValueError, match="65504"):
        encode_tokens(np.array([[7e4]]), WireDtype.FP16)


@pytest.mark.parametrize("dtype", WireDtype)
def test_every_flipped_bit_is_noticed(dtype):
    encoded = encode_tokens(tokens(1), dtype)
    for position in range(0, 8 * len(encoded.data), 37):
        data = bytearray(encoded.data)
        data[position // 8] ^= 1 << position % 8
        with pytest.raises(ValueError, match="checksum"):
            decode_tokens(dataclasses.replace(encoded, data=bytes(data)))


def with_checksum(encoded: EncodedTokens, **changes) -> EncodedTokens:
    changed = dataclasses.replace(encoded, **changes)
    return dataclasses.replace(changed, crc32=zlib.crc32(changed.data))


@pytest.mark.parametrize(
    "dtype, changes, words",
    [
        (WireDtype.FP16, {"num_tokens": 8}, "8 tokens of 12 in FP16 are 192 bytes, got 168"),
        (WireDtype.FP16, {"data": b""}, "got 0"),
        (WireDtype.FP16, {"dtype": WireDtype.FP32}, "in FP32 are 336 bytes, got 168"),
        (WireDtype.FP16, {"scale": (1.0,)}, "FP16 needs 0 scales, got 1"),
        (WireDtype.INT8, {"scale": (1.0,) * 6}, "INT8 needs 7 scales, got 6"),
        (WireDtype.INT8, {"scale": (0.0,) * 7}, "finite and positive"),
        (WireDtype.INT8, {"scale": (float("nan"),) * 7}, "finite and positive"),
        (WireDtype.FP16, {"data": b"\xff\x7f" * 84}, "not finite"),
    ],
)
def test_what_does_not_fit_is_named(dtype, changes, words):
    with pytest.raises(ValueError, match=words):
        decode_tokens(with_checksum(encode_tokens(tokens(2), dtype), **changes))


def test_the_message_has_the_same_constants():
    from flad_msgs.msg import SceneTokens

    assert {name: getattr(SceneTokens, name) for name in WireDtype.__members__} == {
        name: int(value) for name, value in WireDtype.__members__.items()
    }
