"""Packed weights against fake quantisation, and the compiled form against torch, for all bits and any shape."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket_diffusers.hub_models.layers import low_bit_packing
from pocket_diffusers.hub_models.layers.low_bit_levels import Levels, fake_quantize, stored_scales
from pocket_diffusers.hub_models.layers.low_bit_packing import (
    decode_weight,
    decode_weight_in_torch,
    pack_weight,
    pack_weight_in_torch,
)

needs_compiled = pytest.mark.skipif(low_bit_packing._library() is None, reason="there is no g++ here")
SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 97)) | st.tuples(*4 * [st.integers(1, 7)])


def example(shape: tuple[int, ...], levels: Levels, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator)
    return weight, stored_scales(torch.rand(shape[0], generator=generator) * 3 / levels.count + 1e-3)


@settings(deadline=None, max_examples=200)
@given(bits=st.integers(1, 8), shape=SHAPES, seed=st.integers(0, 999))
def test_decoding_gives_what_fake_quantisation_gives_bit_for_bit(bits, shape, seed):
    levels = Levels(bits)
    weight, scales = example(shape, levels, seed)
    expected, words = fake_quantize(weight, scales, levels), pack_weight(weight, scales, levels)
    assert torch.equal(words, pack_weight_in_torch(weight, scales, levels))
    assert torch.equal(decode_weight(words, scales, weight.shape, levels), expected)
    assert torch.equal(decode_weight_in_torch(words, scales, weight.shape, levels), expected)


@needs_compiled
@pytest.mark.parametrize("bits", range(1, 9))
def test_many_blocks_and_threads_change_nothing(monkeypatch, bits):
    levels = Levels(bits)
    weight, scales = example((613, 97), levels, bits)
    weight[:, ::7] = scales[:, None] * 0.5  # ties
    expected = pack_weight_in_torch(weight, scales, levels)
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert torch.equal(pack_weight(weight, scales, levels), expected)
        memory = torch.full((weight.numel() + 5,), 7.0)
        decoded = decode_weight(expected, scales, weight.shape, levels, memory)
        assert torch.equal(decoded, fake_quantize(weight, scales, levels))
        assert decoded.data_ptr() == memory.data_ptr() and memory[-5:].tolist() == [7.0] * 5


def test_weights_that_are_not_contiguous():
    weight, scales = example((6, 10), Levels(3), 0)
    assert torch.equal(pack_weight(weight.T.contiguous().T, scales, Levels(3)), pack_weight(weight, scales, Levels(3)))


@needs_compiled
def test_unchecked_words_decode_to_levels_nevertheless():
    chance = random.Random(0)
    for _ in range(200):
        levels = Levels(chance.randrange(1, 9))
        shape = torch.Size((chance.randrange(1, 9), chance.randrange(1, 60)))
        count = low_bit_packing.words_for(shape.numel(), levels.count)
        words = torch.tensor([chance.getrandbits(64) - 2**63 for _ in range(count)])
        decoded = decode_weight(words, torch.ones(shape[0]), shape, levels)
        assert decoded.min() >= levels.lowest and decoded.max() <= levels.highest
        assert torch.equal(decoded, decoded.round())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused(value):
    weight, scales = example((3, 4), Levels(2), 0)
    weight[2, 1] = value
    with pytest.raises(ValueError, match=rf"weights must be finite, not {value}"):
        pack_weight(weight, scales, Levels(2))
