"""Levels, rounding to them and LSQ's gradients against loops over single weights."""

import math

import pytest
import torch
from torch.testing import assert_close

from pocket_diffusers.hub_models.layers.low_bit_levels import Levels, fake_quantize, stored_scales


def test_levels_of_one_to_eight_bits():
    found = {bits: (Levels(bits).lowest, Levels(bits).highest, Levels(bits).count) for bits in range(1, 9)}
    assert found == {
        1: (-1, 1, 3), 2: (-2, 2, 5), 3: (-4, 4, 9), 4: (-8, 8, 17), 5: (-16, 16, 33), 6: (-32, 32, 65),
        7: (-64, 64, 129), 8: (-128, 127, 256),
    }  # fmt: skip
    effective = [round(Levels(bits).bits_per_weight, 3) for bits in range(1, 9)]
    assert effective == [1.585, 2.322, 3.170, 4.087, 5.044, 6.022, 7.011, 8.0]


@pytest.mark.parametrize("bits", [0, 9, -1, 2.0, True, "2", None])
def test_other_bits_are_refused(bits):
    with pytest.raises(ValueError, match="bits must be a whole number from 1 to 8, not"):
        Levels(bits)


@pytest.mark.parametrize("bits", range(1, 9))
def test_rounding_and_gradients_are_those_by_hand(bits):
    levels, generator = Levels(bits), torch.Generator().manual_seed(bits)
    weight = torch.randn(3, 2, 5, generator=generator).requires_grad_()
    scales = (torch.rand(3, generator=generator) * 2 / 2**bits + 0.01).requires_grad_()
    by = torch.randn(weight.shape, generator=generator)
    result = fake_quantize(weight, scales, levels)
    (result * by).sum().backward()
    for row in range(3):
        s = float(scales[row].detach().half())
        by_scale = 0.0
        for w, r, g, slope in zip(*(t[row].flatten().tolist() for t in (weight, result, by, weight.grad)), strict=True):
            q = min(max(round(w / s), levels.lowest), levels.highest)
            inside = levels.lowest <= w / s <= levels.highest
            assert r == pytest.approx(q * s, rel=1e-6)
            assert slope == pytest.approx(g if inside or w * g > 0 else 0.0)
            by_scale += g * (q - w / s if inside else q)
        assert_close(float(scales.grad[row]), by_scale / math.sqrt(10 * 2 ** (bits - 1)), rtol=1e-3, atol=1e-3)


def test_scales_are_kept_in_the_positive_range_of_float16():
    scales = torch.tensor([0.1, -1.0, 0.0, 1e-9, 1e9])
    assert stored_scales(scales).tolist() == [float(torch.tensor(0.1).half()), 2**-24, 2**-24, 2**-24, 65504.0]
    weight = torch.tensor([[1.0, -1.0]], requires_grad=True)
    learnt = torch.tensor([-0.5], requires_grad=True)  # below the range, where a gradient must lead back
    fake_quantize(weight, learnt, Levels(2)).sum().backward()
    assert learnt.grad.isfinite().all()
