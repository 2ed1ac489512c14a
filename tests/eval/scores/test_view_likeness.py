import math
from types import SimpleNamespace

import pytest
import torch

from pocket_diffusers.eval.scores.view_likeness import likeness, shown_likeness, splat_likeness
from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.pipelines.fitting.splat_views import SplatViews
from pocket_diffusers.pipelines.inputs import PosedImages
from pocket_diffusers.pipelines.scene_cameras import turntable
from pocket_diffusers.pipelines.splat_compression import covered_psnr


def ball(count=200, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return Gaussians(
        torch.randn(count, 3, generator=draw) / 3,
        torch.full((count, 3), -2.0),
        torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
        torch.randn(count, generator=draw),
        torch.randn(count, 1, 3, generator=draw),
    )


def window_ssim(one, other):
    """SSIM of one window of 11 x 11 pixels of one channel, as its authors write it."""
    across = [math.exp(-((i - 5) ** 2) / (2 * 1.5**2)) for i in range(11)]
    weights = torch.tensor([[a * b for a in across] for b in across], dtype=torch.double)
    weights /= weights.sum()
    x, y = ((weights * plane).sum() for plane in (one, other))
    xx, yy, xy = (
        (weights * a * b).sum() - (weights * a).sum() * (weights * b).sum()
        for a, b in ((one, one), (other, other), (one, other))
    )
    return float((2 * x * y + 0.01**2) * (2 * xy + 0.03**2) / ((x * x + y * y + 0.01**2) * (xx + yy + 0.03**2)))


def test_only_pixels_that_count_do():
    draw = torch.Generator().manual_seed(0)
    one, other = torch.rand(2, 3, 13, 14, generator=draw) * 1.4 - 0.2
    counted = torch.zeros(13, 14, dtype=torch.bool)
    counted[0, 0] = counted[6, 7] = counted[7, 5] = True
    a, b = one.clamp(0, 1).double(), other.clamp(0, 1).double()
    at = [(0, 0), (6, 7), (7, 5)]
    error = sum(float((a[:, y, x] - b[:, y, x]).square().sum()) for y, x in at) / 9
    inner = [
        window_ssim(a[c, y - 5 : y + 6, x - 5 : x + 6], b[c, y - 5 : y + 6, x - 5 : x + 6])
        for c in range(3)
        for y, x in at[1:]
    ]
    found = likeness([(one, other, counted)])
    assert found.psnr == pytest.approx(-10 * math.log10(error), abs=1e-4)
    assert found.ssim == pytest.approx(sum(inner) / 6, abs=1e-5)


def test_pixels_of_all_pictures_count_alike():
    zeros, everywhere = torch.zeros(3, 11, 11), torch.ones(11, 11, dtype=torch.bool)
    half = everywhere.clone()
    half[:, 5:] = False
    half[5, 5] = True
    found = likeness([(zeros, zeros + 0.1, everywhere), (zeros, zeros + 0.3, half)])
    error = (121 * 0.01 + 56 * 0.09) / 177
    assert found.psnr == pytest.approx(-10 * math.log10(error), abs=1e-4)
    assert likeness([(zeros, zeros, everywhere)]) == (120, 1)
    with pytest.raises(ValueError, match="no camera sees the scene"):
        likeness([(zeros, zeros, ~everywhere)])


def test_splats_are_compared_where_the_source_is_and_pictures_everywhere():
    source, other = ball(), ball(seed=1)
    cameras = turntable(source, 3, 24, 20)
    views = SplatViews.of_splats(source, cameras)
    assert splat_likeness(other, [views]).psnr == pytest.approx(covered_psnr(source, other, [cameras]), abs=1e-3)
    pictures = SplatViews(views.rgb, views.viewmats, views.Ks, near=views.near)
    drawn = torch.cat([cameras.draw(other, camera).rgb for camera in range(3)]).clamp(0, 1)
    error = (drawn - views.rgb.clamp(0, 1)).square().mean()
    assert splat_likeness(other, [pictures]).psnr == pytest.approx(-10 * math.log10(float(error)), abs=1e-3)


def test_a_pipeline_is_asked_for_the_cameras_of_pictures_and_all_pixels_count():
    images = torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    posed = PosedImages(images, torch.eye(4).repeat(2, 1, 1), torch.eye(3).repeat(2, 1, 1))

    def pipeline(cameras, output_type):
        assert output_type == "pt" and (cameras.width, cameras.height) == (16, 12)
        assert torch.equal(cameras.viewmats, posed.viewmats) and torch.equal(cameras.Ks, posed.Ks)
        return SimpleNamespace(images=images + torch.where(images > 0.5, -0.1, 0.1))

    assert shown_likeness(pipeline, posed).psnr == pytest.approx(20, abs=1e-4)
