"""SSIM against its equation with scipy's Gaussian windows, in double precision."""

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.testing import assert_close

from pocket_diffusers.hub_models.losses.photometric import psnr, ssim


def pictures(seed: int, batch: int = 2, height: int = 19, width: int = 26) -> torch.Tensor:
    smooth = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.avg_pool2d(smooth, 3, 1, 1)


def by_hand(x, y, peak):
    """Wang et al. 2004, equation 13, of one channel; where the whole window lies in the picture."""

    def mean(values):
        return gaussian_filter(values, 1.5, truncate=5 / 1.5)[5:-5, 5:-5]

    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    return (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))


@pytest.mark.parametrize("peak", [1.0, 2.0])
def test_ssim_is_its_equation(peak):
    a, b = peak * pictures(0), peak * (0.7 * pictures(0) + 0.3 * pictures(1))
    made = ssim(a, b, peak)
    assert made.shape == (2, 3, 9, 16)
    for sample in range(2):
        for channel in range(3):
            expected = by_hand(a[sample, channel].numpy(), b[sample, channel].numpy(), peak)
            assert_close(made[sample, channel].numpy(), expected, atol=1e-9, rtol=1e-9)
    assert_close(ssim(a.float(), b.float(), peak), made.float(), atol=1e-4, rtol=0)


def test_alike_pictures_are_1_whichever_comes_first():
    a, b = pictures(0), pictures(1)
    assert_close(ssim(a, a), torch.ones(2, 3, 9, 16, dtype=torch.float64))
    assert_close(ssim(a, b), ssim(b, a))
    assert float(ssim(a, b).max()) < 1
    assert_close(ssim(2 * a, 2 * b, 2.0), ssim(a, b))


@pytest.mark.parametrize("case", ["random", "flat", "the same"])
def test_gradients_are_finite_and_lead_to_the_target(case):
    target = pictures(0).float() if case != "flat" else torch.zeros(1, 3, 15, 15)
    start = target.clone() if case == "the same" else target + 0.1 * torch.randn(target.shape)
    start.requires_grad_()
    ssim(start, target).mean().backward()
    assert start.grad.isfinite().all()
    if case == "the same":
        assert float(start.grad.abs().max()) < 1e-5
    else:
        better = start.detach() + 1e-2 * start.grad / start.grad.abs().max()
        assert ssim(better, target).mean() > ssim(start, target).mean()


def test_the_smallest_picture_has_one_window():
    a, b = pictures(0, height=11, width=11), pictures(1, height=11, width=11)
    assert ssim(a, b).shape == (2, 3, 1, 1)


def test_psnr_is_that_of_a_known_error():
    a = torch.zeros(2, 3, 4, 4)
    assert_close(psnr(a, a + 0.1, peak=1.0), torch.tensor([20.0, 20.0]))
