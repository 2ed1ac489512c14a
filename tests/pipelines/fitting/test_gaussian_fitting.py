"""Plain splats: a known scene is recovered, splats come and go by the rule, and a resumed run is the same one."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.spatial import cKDTree
from torch.testing import assert_close

from pocket_diffusers.hub_models.losses.photometric import psnr
from pocket_diffusers.hub_models.rendering.cameras import intrinsics, orbit
from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.quaternions import rotation_matrices
from pocket_diffusers.pipelines.fitting.gaussian_fitting import (
    Densification,
    GaussianCloud,
    PlainFit,
    centre_gradient,
    fit_gaussians,
    gap_between,
    side_by_side,
    splats_at,
)
from pocket_diffusers.pipelines.fitting.loop import FitSettings, fit, load_run
from pocket_diffusers.pipelines.fitting.splat_views import SplatViews
from pocket_diffusers.pipelines.scene_cameras import Cameras

QUIET = {"progress": False}


def splats(count: int = 30, degree: int = 3, seed: int = 0) -> Gaussians:
    draw = torch.Generator().manual_seed(seed)
    return Gaussians(
        torch.randn(count, 3, generator=draw) * 0.5,
        torch.rand(count, 3, generator=draw) - 2.3,
        torch.randn(count, 4, generator=draw),
        torch.randn(count, generator=draw) + 2,
        torch.randn(count, (degree + 1) ** 2, 3, generator=draw) * torch.tensor([0.8] + [0.05] * 15)[:, None],
    )


def perturbed(scene: Gaussians, seed: int = 1) -> Gaussians:
    draw = torch.Generator().manual_seed(seed)
    return Gaussians(
        scene.means + 0.05 * torch.randn(len(scene), 3, generator=draw),
        scene.log_scales + 0.2 * torch.randn(len(scene), 3, generator=draw),
        scene.quaternions + 0.1 * torch.randn(len(scene), 4, generator=draw),
        scene.opacity_logits - 1,
        scene.sh * 0.3,
    )


def views_of(scene: Gaussians, count: int = 6, side: int = 32) -> SplatViews:
    Ks = intrinsics(45.0, side, side).expand(count, 3, 3)
    return SplatViews.of_splats(scene, Cameras(orbit((0, 0, 0), 3.0, count), Ks, side, side))


def quality(views: SplatViews, scene: Gaussians) -> float:
    with torch.no_grad():
        drawn = torch.cat([views.draw(scene, view).rgb for view in range(len(views))])
        return float(psnr(drawn, views.rgb, 1.0).mean())


def test_a_known_scene_is_recovered_from_a_perturbed_start():
    scene = splats()
    views, start = views_of(scene), perturbed(scene)
    fitted = fit_gaussians(views, start, FitSettings(steps=250, max_grad_norm=None), None, 5.0, **QUIET)
    before, after = quality(views, start), quality(views, fitted)
    assert len(fitted) == 30 and not fitted.means.requires_grad
    assert before < 21 and after > 28.5, (before, after)
    new = views_of(scene, 5)
    assert quality(new, fitted) > 28, "views that were not fitted to"


def test_splats_grow_in_a_run_up_to_the_limit():
    scene = splats(40)
    views, start = views_of(scene), splats_at(scene.means[::4], scene.rgb[::4].clamp(0, 1))
    rule = Densification(start=10, stop=60, every=20, max_splats=45)
    grown = fit_gaussians(views, start, FitSettings(steps=90, max_grad_norm=None), rule, 5.0, **QUIET)
    assert len(grown) == 45
    assert quality(views, grown) > quality(views, start) + 1.5


# Coming and going, with gradients made by hand.

RULE = Densification(
    start=0,
    stop=99,
    every=1,
    grow_gradient=0.5,
    split_scale=0.2,
    prune_opacity=0.1,
    prune_scale=1.0,
    prune_large_from=4,
    reset_every=1000,
)
RADIUS = 2.0


def by_hand(sizes, opacities, gradients, seen=None, rule=RULE, step=4):
    """A fit whose splats have had these gradients, after its splats came and went; and how it was before."""
    scene = splats(len(sizes))
    logits = torch.logit(torch.tensor(opacities, dtype=torch.float32))
    scales = (torch.tensor(sizes) * RADIUS).log()[:, None] - torch.tensor([0.0, 1.0, 2.0])
    cloud = GaussianCloud(replace(scene, opacity_logits=logits, log_scales=scales))
    before = cloud.gaussians().detach().to("cpu")
    before = Gaussians(**{name: value.clone() for name, value in before.tensors().items()})
    objective = PlainFit(cloud, views_of(scene, 1), rule, RADIUS)
    optimizer = objective.optimizer("splats")
    sum((p + 1).square().sum() for p in cloud.parameters()).backward()
    optimizer.step()
    with torch.no_grad():  # undo the step: only its moments are wanted
        for name, value in (before.tensors() | {"sh_dc": before.sh[:, :1], "sh_rest": before.sh[:, 1:]}).items():
            if name != "sh":
                getattr(cloud, name).copy_(value)
    cloud.gradient_sum += torch.tensor(gradients)
    cloud.views_seen += torch.ones(len(sizes)) if seen is None else torch.tensor(seen)
    with torch.no_grad():
        objective._densify(rule, step, optimizer)
    return cloud, before, optimizer


def test_small_splats_with_large_gradients_are_cloned():
    cloud, before, optimizer = by_hand([0.1, 0.1, 0.1], [0.5] * 3, [0.4, 0.6, 1.2], seen=[1.0, 1.0, 3.0])
    now = cloud.gaussians()
    for name, value in before.tensors().items():
        assert torch.equal(getattr(now, name), value[[0, 1, 2, 1]]), name
    assert not cloud.gradient_sum.any() and len(cloud.gradient_sum) == 4 and not cloud.views_seen.any()
    for parameter in cloud.parameters():
        moments = optimizer.state[parameter]["exp_avg"]
        assert moments.shape == parameter.shape and moments[:3].any() and not moments[3].any()


def test_large_ones_are_split_within_their_own_extent():
    steps = []
    for step in range(4, 154):
        cloud, before, _ = by_hand([0.3, 0.3], [0.5, 0.5], [0.0, 0.6], step=step)
        now = cloud.gaussians().detach()
        assert len(now) == 3
        for name, value in before.tensors().items():
            assert torch.equal(getattr(now, name)[0], value[0]), name
            if name not in ("means", "log_scales"):
                assert torch.equal(getattr(now, name)[1:], value[[1, 1]]), name
        assert_close(now.log_scales[1:], before.log_scales[[1, 1]] - math.log(1.6))
        steps.append(now.means[1:] - before.means[1])
    steps = torch.stack(steps)  # [150, 2, 3]
    assert not torch.allclose(steps[:, 0], steps[:, 1])
    axes = rotation_matrices(before.quaternions[1]) * before.log_scales[1].exp()
    found = torch.from_numpy(np.cov(steps.flatten(0, 1).numpy().T)).float()
    assert_close(found, axes @ axes.T, atol=0.15 * float((axes @ axes.T).max()), rtol=0)


def test_faint_and_huge_ones_are_removed_with_their_clones():
    cloud, before, _ = by_hand([0.1, 0.1, 1.2, 0.1], [0.5, 0.05, 0.5, 0.5], [0.0, 0.9, 0.0, 0.9])
    now = cloud.gaussians()
    for name, value in before.tensors().items():
        assert torch.equal(getattr(now, name), value[[0, 3, 3]]), name


def test_huge_ones_stay_at_first():
    assert len(by_hand([1.2, 0.1], [0.5, 0.5], [0.0, 0.0], step=3)[0].means) == 2
    assert len(by_hand([1.2, 0.1], [0.5, 0.5], [0.0, 0.0], step=4)[0].means) == 1


def test_a_huge_one_that_splits_into_two_that_are_not_stays():
    cloud, before, _ = by_hand([1.2, 1.7, 0.1], [0.5, 0.5, 0.5], [0.9, 0.9, 0.0])
    now = cloud.gaussians().detach()
    assert_close(now.log_scales, before.log_scales[[0, 2, 0]] - torch.tensor([1.0, 0, 1])[:, None] * math.log(1.6))


def test_nothing_is_added_beyond_the_limit_and_something_is_left():
    rule = replace(RULE, max_splats=5)
    assert len(by_hand([0.1] * 4, [0.5] * 4, [0.9] * 4, rule=rule)[0].means) == 5
    assert len(by_hand([0.1] * 7, [0.5] * 7, [0.9] * 7, rule=rule)[0].means) == 7
    cloud, before, _ = by_hand([0.1] * 4, [0.01, 0.03, 0.02, 0.01], [0.0] * 4)
    assert torch.equal(cloud.means, before.means[1:2])


def test_opacities_are_cut_down_on_time_and_no_later_than_the_stop():
    scene = splats(5)
    for step, cut in ((3, False), (4, True), (20, False)):
        objective = PlainFit(
            GaussianCloud(scene), views_of(scene, 1), Densification(start=99, stop=20, reset_every=5), 1.0
        )
        optimizer = objective.optimizer("splats")
        objective.loss("splats", next(objective.views.batches(0)(0, 0, 1)), torch.Generator())[0].backward()
        objective.after_step("splats", step, optimizer)
        opacities = objective.cloud.opacity_logits.detach().sigmoid()
        expected = scene.opacity_logits.sigmoid()
        assert_close(opacities, expected.clamp_max(0.01) if cut else expected)


def test_what_is_counted_is_the_gradient_by_the_centre_in_half_pictures():
    scene = splats(6)
    cloud, views = GaussianCloud(scene), views_of(scene, 1)
    objective = PlainFit(cloud, views, replace(RULE, start=99), RADIUS)
    optimizer, batch = objective.optimizer("splats"), next(views.batches(0)(0, 0, 1))
    loss, numbers = objective.loss("splats", batch, torch.Generator().manual_seed(0))
    loss.backward()
    assert numbers == {"splats": 6.0} and objective.offsets.grad.any(2).all()
    objective.offsets.grad = torch.tensor([[[0.3, 0.4], [0.0, 0.0], [0.0, -0.1], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]])
    for step in (0, 1):
        objective.after_step("splats", step, optimizer)
    assert_close(cloud.gradient_sum, 2 * 16 * torch.tensor([0.5, 0, 0.1, 0, 1, 0]))
    assert cloud.views_seen.tolist() == [2, 0, 2, 0, 2, 0]
    objective.after_step("splats", 99, optimizer)
    assert cloud.views_seen.tolist() == [2, 0, 2, 0, 2, 0], "nothing is counted after the stop"


def test_centre_gradient_counts_half_pictures():
    assert_close(centre_gradient(torch.tensor([[[0.1, 0.0], [0.3, 0.4]]]), (20, 40)), torch.tensor([1.0, 73**0.5]))


# Starts.


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_gaps_are_those_of_a_tree_of_neighbours(offset):
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) + offset
    distances = cKDTree(points.numpy().astype(np.float64)).query(points.numpy().astype(np.float64), k=4)[0][:, 1:]
    expected = torch.from_numpy(np.sqrt((distances**2).mean(1))).float()
    assert_close(gap_between(points), expected, rtol=1e-4, atol=1e-6)


def test_few_or_equal_points_have_gaps_too():
    assert gap_between(torch.zeros(1, 3)).tolist() == [1.0]
    assert_close(gap_between(torch.tensor([[0.0, 0, 0], [3, 0, 4]])), torch.tensor([5.0, 5.0]))
    assert splats_at(torch.zeros(3, 3), torch.zeros(3, 3)).log_scales.isfinite().all()


def test_splats_at_points_have_their_colours_and_an_opacity_of_a_tenth():
    points, rgb = torch.rand(9, 3), torch.rand(9, 3)
    made = splats_at(points, rgb, 2)
    assert torch.equal(made.means, points) and made.sh_degree == 2
    assert_close(made.rgb, rgb)
    assert_close(made.opacity_logits.sigmoid(), torch.full((9,), 0.1))


# Resuming.


def resumable(folder, steps, start=None):
    scene = splats(20)
    cloud = GaussianCloud(start or perturbed(scene.select(slice(8))))
    rule = Densification(start=4, stop=40, every=6, reset_every=15, grow_gradient=2e-5, split_scale=0.1)
    objective = PlainFit(cloud, views_of(scene, 3, 24), rule, 2.0, degree_every=8)
    settings = FitSettings(steps=steps, seed=5, save_every=100, log_every=1)
    fit(objective, objective.views.batches(5), settings, folder, **QUIET)
    return cloud


@pytest.mark.parametrize("stop", [6, 13, 20])
def test_a_run_resumed_across_densifications_is_the_same_to_the_bit(tmp_path, stop):
    whole = resumable(tmp_path / "whole", 28)
    resumable(tmp_path / "halves", stop)
    halves = resumable(tmp_path / "halves", 28)
    assert len(whole.means) > 12, "splats came and went"
    for name, value in whole.state_dict().items():
        assert torch.equal(value, halves.state_dict()[name]), name
    files = "splats.safetensors", "splats.optimizer.safetensors"
    for file in files:
        newest = (max((tmp_path / run / "checkpoints").glob("step_*")) for run in ("whole", "halves"))
        ours, theirs = (load_file(checkpoint / file) for checkpoint in newest)
        assert ours.keys() == theirs.keys() and len(ours) >= 8
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_the_result_of_a_run_loads_into_a_cloud_of_another_size(tmp_path):
    whole = resumable(tmp_path, 13)
    other = GaussianCloud(splats(3))
    assert load_run(tmp_path, {"splats": other}) == 13
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in whole.state_dict().items())


def test_preview_shows_view_and_fit_side_by_side():
    scene = splats()
    views = views_of(scene, 2)
    pixels = torch.from_numpy(np.array(side_by_side(views, scene, 1)).astype(np.float32)) / 255
    assert pixels.shape == (32, 64, 3)
    assert_close(pixels[:, :32], views.rgb[1].movedim(0, -1).clamp(0, 1), atol=0.003, rtol=0)
    assert torch.equal(pixels[:, :32], pixels[:, 32:])
