"""Spherical harmonics against scipy's complex ones."""

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from pocket_diffusers.hub_models.rendering.spherical_harmonics import basis, colors, num_coefficients


def test_basis_is_that_of_scipy():
    directions = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.double), dim=-1)
    x, y, z = directions.numpy().T
    expected = []
    for degree in range(4):
        for m in range(-degree, degree + 1):
            value = sph_harm_y(degree, abs(m), np.arccos(z), np.arctan2(y, x))
            expected.append(value.real if m == 0 else np.sqrt(2) * (value.real if m > 0 else value.imag))
    np.testing.assert_allclose(basis(directions, 3).numpy(), np.stack(expected, 1), atol=1e-12)


@pytest.mark.parametrize("degree", range(4))
def test_colors_are_half_plus_the_sum_and_never_negative(degree):
    generator = torch.Generator().manual_seed(degree)
    sh = torch.randn(20, num_coefficients(degree), 3, generator=generator)
    directions = torch.nn.functional.normalize(torch.randn(20, 3, generator=generator), dim=-1)
    expected = 0.5 + torch.einsum("nk,nkc->nc", basis(directions, degree), sh)
    assert (expected < 0).any()
    torch.testing.assert_close(colors(sh, directions), expected.clamp_min(0))
