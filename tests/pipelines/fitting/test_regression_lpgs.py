"""Splats grouped into trees of neighbours, and a forest that learns to say what they are."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from pocket_diffusers.hub_models.gaussians_lpgs import LPGSGaussians
from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.octree_coding import morton_codes
from pocket_diffusers.pipelines.fitting.forest_lpgs import Forest
from pocket_diffusers.pipelines.fitting.loop import FitSettings, fit
from pocket_diffusers.pipelines.fitting.regression_lpgs import TreeRegression, tree_members


def splats(count: int = 60) -> Gaussians:
    draw = torch.Generator().manual_seed(0)
    return Gaussians(
        torch.rand(count, 3, generator=draw),
        torch.rand(count, 3, generator=draw) - 3,
        torch.randn(count, 4, generator=draw),
        torch.randn(count, generator=draw) + 2,
        torch.randn(count, 4, 3, generator=draw) * 0.3,
    )


@pytest.mark.parametrize("children", [0, 1, 2])
def test_trees_are_neighbours_with_the_most_important_first(children):
    cloud = splats(60)
    importance = torch.rand(60, generator=torch.Generator().manual_seed(1))
    trees = tree_members(cloud, importance, children)
    assert trees.shape == (60 // (1 + children), 1 + children)
    assert sorted(trees.flatten().tolist()) == list(range(60))
    held = importance[trees]
    assert (held[:, :-1] >= held[:, 1:]).all()
    extent = cloud.means - cloud.means.amin(0)
    codes = morton_codes((extent / extent.amax() * (2**16 - 1)).long().numpy())
    along = np.empty(60, int)
    along[np.argsort(codes, kind="stable")] = np.arange(60)
    places = np.sort(along[trees.numpy()], 1)
    assert (np.diff(places, axis=1) == 1).all() and (places[:, 0] == np.arange(len(trees)) * (1 + children)).all()


def test_what_is_left_over_and_equal_places_are_taken_well():
    assert tree_members(splats(8), torch.rand(8), 2).shape == (2, 3)
    same = splats(6)
    same = Gaussians(**{**same.tensors(), "means": torch.ones(6, 3)})
    assert sorted(tree_members(same, torch.zeros(6), 1).flatten().tolist()) == list(range(6))


def regression() -> TreeRegression:
    cloud = splats(60)
    trees = tree_members(cloud, cloud.opacity_logits, 2)
    targets = cloud.select(trees.T.flatten())
    torch.manual_seed(0)
    scene = LPGSGaussians(
        num_parents=20, grid_dim=8, hash_levels=4, hash_log2_size=10, hash_base_resolution=4, hash_max_resolution=32,
        head_width=16, sh_degree=1, child_offset_radius=8.0, center=(0.5, 0.5, 0.5), radius=0.7,
    )  # fmt: skip
    with torch.no_grad():
        scene.parent_means.copy_(targets.means[:20])
        scene.parent_log_scales.copy_(targets.log_scales[:20])
    return TreeRegression(Forest(scene), targets)


def test_regression_lowers_every_part_of_its_loss_and_leaves_parents_in_place():
    objective = regression()
    whole = torch.arange(20)
    with torch.no_grad():
        before = objective.loss("forest", whole, torch.Generator())
    fit(objective, objective.batches(0), FitSettings(steps=200, max_grad_norm=None), None, progress=False)
    with torch.no_grad():
        after = objective.loss("forest", whole, torch.Generator())
    assert float(after[0]) < 0.4 * float(before[0])
    for name in ("place", "scale", "rotation", "opacity", "color"):
        assert after[1][f"{name}_loss"] < 0.95 * before[1][f"{name}_loss"], name
    assert torch.equal(objective.forest.scene.parent_means, objective.targets.means[:20])


def test_a_forest_that_says_the_truth_loses_nothing():
    objective = regression()
    with torch.no_grad():
        objective.targets = objective.forest.scene.expand()
        loss, parts = objective.loss("forest", torch.tensor([3, 3, 7]), torch.Generator())
    assert float(loss) == pytest.approx(0, abs=1e-5) and len(parts) == 5
    turned = Gaussians(**{**objective.targets.tensors(), "quaternions": -2 * objective.targets.quaternions})
    objective.targets = turned  # the same rotations
    with torch.no_grad():
        assert float(objective.loss("forest", torch.arange(20), torch.Generator())[0]) == pytest.approx(0, abs=1e-5)


def test_batches_go_on_from_any_step():
    objective = regression()
    whole = list(islice(objective.batches(2)(0, 0, 1), 9))
    assert all(len(batch) == 20 and int(batch.max()) < 20 for batch in whole)
    for ours, theirs in zip(islice(objective.batches(2)(4, 0, 1), 5), whole[4:], strict=True):
        assert_close(ours, theirs, atol=0, rtol=0)
    assert not torch.equal(whole[0], whole[1])
