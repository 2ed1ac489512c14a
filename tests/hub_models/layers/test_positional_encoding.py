import math

import pytest
import torch

from pocket_diffusers.hub_models.layers.positional_encoding import ROPE_THETA, rotary_table, rotate, sinusoidal_table


def at(x, table, row, column, width):
    """`x` [head_dim] as if its token stood at (row, column)."""
    cos, sin = (part[row * width + column] for part in table)
    return rotate(x[None, None, None], (cos[None], sin[None]))[0, 0, 0]


def test_rotation_is_multiplication_of_complex_pairs():
    height, width, dim = 3, 5, 16
    x = torch.randn(1, height * width, 2, dim, dtype=torch.float64)
    turned = rotate(x, rotary_table(height, width, dim))
    pairs = dim // 4
    for token in range(height * width):
        for axis, place in enumerate(divmod(token, width)):
            half = x[0, token, :, axis * 2 * pairs : (axis + 1) * 2 * pairs]
            angle = place * ROPE_THETA ** (-torch.arange(pairs).double() / pairs)
            product = torch.complex(half[:, :pairs], half[:, pairs:]) * torch.polar(torch.ones(pairs).double(), angle)
            wanted = torch.cat([product.real, product.imag], dim=-1)
            actual = turned[0, token, :, axis * 2 * pairs : (axis + 1) * 2 * pairs]
            torch.testing.assert_close(actual, wanted, atol=1e-6, rtol=1e-6)


def test_scores_depend_on_relative_position_only():
    width, dim = 9, 32
    table = rotary_table(9, width, dim)
    q, k = torch.randn(2, dim)
    score = at(q, table, 1, 2, width) @ at(k, table, 4, 0, width)
    moved = at(q, table, 5, 8, width) @ at(k, table, 8, 6, width)
    other = at(q, table, 1, 2, width) @ at(k, table, 0, 4, width)
    torch.testing.assert_close(score, moved, atol=1e-5, rtol=1e-5)
    assert (score - other).abs() > 1e-3


def test_head_that_does_not_divide_raises():
    with pytest.raises(ValueError, match="multiple of 4 .* not 6"):
        rotary_table(2, 2, 6)


def test_sines_and_cosines_are_those_of_the_definition():
    table = sinusoidal_table(50, 8)
    for place in (0, 1, 7, 49):
        for pair in range(4):
            angle = place / 10000 ** (2 * pair / 8)
            assert table[place, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert table[place, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)


def test_sines_beside_cosines_need_an_even_width():
    with pytest.raises(ValueError, match="dim must be even .* not 7"):
        sinusoidal_table(3, 7)
