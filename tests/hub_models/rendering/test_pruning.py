import pytest
import torch

from pocket_diffusers.hub_models.rendering.gaussian_rasterizer import rasterize_gaussians
from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.pruning import blending_weights, prune
from pocket_diffusers.hub_models.rendering.spherical_harmonics import SH_C0

WHITE = 0.5 / SH_C0


def _scene(count=6, degree=1):
    draw = torch.Generator().manual_seed(0)
    means = torch.randn(count, 3, generator=draw) * 0.4 + torch.tensor([0.0, 0, 4])
    means[-1] = torch.tensor([0.0, 0, -5])  # behind the first camera
    return Gaussians(
        means,
        torch.randn(count, 3, generator=draw) * 0.3 - 1.5,
        torch.randn(count, 4, generator=draw),
        torch.randn(count, generator=draw),
        torch.randn(count, (degree + 1) ** 2, 3, generator=draw),
    )


def _cameras():
    viewmats = torch.eye(4).repeat(2, 1, 1)
    viewmats[1, 0, 3] = 0.5
    return viewmats, torch.tensor([[30.0, 0, 16], [0, 30, 12], [0, 0, 1]]).repeat(2, 1, 1)


def test_weights_are_what_a_white_gaussian_paints_among_black_ones():
    scene = _scene()
    weights = blending_weights(scene, *_cameras(), 32, 24, form="torch")
    for i in range(len(scene)):
        sh = torch.full((len(scene), 1, 3), -WHITE)
        sh[i] = WHITE
        painted = rasterize_gaussians(Gaussians(**{**scene.tensors(), "sh": sh}), *_cameras(), 32, 24, form="torch")
        torch.testing.assert_close(weights[i], painted.rgb[:, 0].sum(), rtol=1e-4, atol=1e-4)
    assert weights[-1] == 0 and (weights[:-1] > 0).all()


def test_weights_sum_to_the_alpha_of_the_pictures():
    alpha = rasterize_gaussians(_scene(), *_cameras(), 32, 24, form="torch").alpha
    weights = blending_weights(_scene(), *_cameras(), 32, 24, form="torch")
    torch.testing.assert_close(weights.sum(), alpha.sum(), rtol=1e-5, atol=1e-4)


def test_what_is_not_drawn_weighs_nothing():
    """The scene lies about a depth of 4."""
    for near, weighs in ((0.01, 5), (20.0, 0)):
        weights = blending_weights(_scene(), *_cameras(), 32, 24, near=near, form="torch")
        assert (weights > 0).sum() == weighs


def test_pruning_keeps_the_most_important_in_order():
    scene = _scene()
    kept = prune(scene, torch.tensor([3.0, 1, 4, 1, 5, 9]), 4)
    assert torch.equal(kept.means, scene.means[[0, 2, 4, 5]])
    assert torch.equal(prune(scene, torch.ones(6), 2).means, scene.means[:2])
    assert len(prune(scene, torch.ones(6), 0)) == 0


def test_pruning_refuses_counts_and_importances_that_do_not_fit():
    with pytest.raises(ValueError, match="count must be from 0 to 6, not 7"):
        prune(_scene(), torch.ones(6), 7)
    with pytest.raises(ValueError, match=r"importance must be \[6\], not \[5\]"):
        prune(_scene(), torch.ones(5), 2)
