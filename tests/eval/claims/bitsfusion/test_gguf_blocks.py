"""Blocks worked out by hand from the published layouts, and what rounding may at most lose."""

import numpy as np
import pytest

from pocket_diffusers.eval.claims.bitsfusion.gguf_blocks import FORMATS, decode, encode


def half(value: float) -> list[int]:
    return list(np.array([value], "<f2").tobytes())


def test_q4_block_by_hand():
    weight = np.zeros(32, np.float32)
    weight[0], weight[1], weight[16], weight[31] = -4.0, 1.0, 3.5, 0.2  # the scale is -4 / -8 = 0.5
    expected = [0x88] * 16  # level 8 is 0
    expected[0] = 0 | 15 << 4  # -4 / 0.5 + 8 = 0; 3.5 / 0.5 + 8 = 15, weight 16 in the upper half
    expected[1] = 10 | 8 << 4
    expected[15] = 8 | 8 << 4  # 0.2 is nearest to 0
    assert encode(weight, "Q4_0").tolist() == [[*half(0.5), *expected]]
    back = decode(encode(weight, "Q4_0"), (32,), "Q4_0")
    assert back[[0, 1, 16, 31]].tolist() == [-4.0, 1.0, 3.5, 0.0]


def test_tq2_block_by_hand():
    weight = np.zeros(256, np.float32)
    weight[0], weight[32], weight[64], weight[96], weight[128] = 2.0, -2.0, 0.9, 1.1, -1.5
    expected = [0b01_01_01_01] * 64
    expected[0] = 0b10_01_00_10  # weights 96, 64, 32 and 0
    expected[32] = 0b01_01_01_00  # weight 128
    assert encode(weight, "TQ2_0").tolist() == [[*expected, *half(2.0)]]


def test_tq1_block_by_hand():
    weight = np.zeros(256, np.float32)
    weight[0], weight[32], weight[160], weight[255] = 3.0, -3.0, 3.0, -3.0
    zeros = -(-(81 + 27 + 9 + 3 + 1) * 256 // 243)  # five times the digit 1
    last = -(-(81 + 27 + 9 + 3) * 256 // 243)  # of four digits, the fifth is 0
    expected = [zeros] * 48 + [last] * 4
    expected[0] = -(-(2 * 81 + 0 * 27 + 9 + 3 + 1) * 256 // 243)  # weights 0, 32, 64, 96, 128
    expected[32] = -(-(2 * 81 + 27 + 9 + 3 + 1) * 256 // 243)  # weight 160 begins the run of 16 bytes
    expected[51] = -(-(81 + 27 + 9 + 0) * 256 // 243)  # weight 255 is the last of 240 + 3, 7, 11, 15
    assert encode(weight, "TQ1_0").tolist() == [[*expected, *half(3.0)]]


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_on_the_levels_comes_back_and_the_rest_as_near_as_a_step(name):
    random = np.random.default_rng(0)
    form = FORMATS[name]
    weight = random.normal(size=(7, 5, 3, 3)).astype(np.float32)  # no whole number of blocks
    blocks = encode(weight, name)
    assert blocks.shape == (-(-weight.size // form.weights), form.bytes) and blocks.dtype == np.uint8
    back = decode(blocks, weight.shape, name)
    scale = np.abs(weight).max() / (8 if name == "Q4_0" else 1)
    assert np.abs(back - weight).max() <= (1.01 if name == "Q4_0" else 0.51) * scale
    assert np.array_equal(decode(encode(back, name), back.shape, name), back)
    assert not decode(encode(np.zeros((3, 5), np.float32), name), (3, 5), name).any()
