"""Forests: trees come and go by the rule, parents come to rest on the file's lattice, and a resumed run is the same."""

import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from pocket_diffusers.hub_models.container_lpgs import LPGSSteps, decode_scene, encode_scene
from pocket_diffusers.hub_models.gaussians_lpgs import LPGSGaussians
from pocket_diffusers.hub_models.losses.photometric import psnr
from pocket_diffusers.hub_models.rendering.cameras import intrinsics, orbit
from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.quaternions import rotation_matrices
from pocket_diffusers.pipelines.fitting.forest_lpgs import LEARNING_RATES, Forest, ForestFit, ForestRule
from pocket_diffusers.pipelines.fitting.gaussian_fitting import Densification
from pocket_diffusers.pipelines.fitting.loop import FitSettings, fit, load_run
from pocket_diffusers.pipelines.fitting.splat_views import SplatViews, StepView
from pocket_diffusers.pipelines.scene_cameras import Cameras

SMALL = {
    "grid_dim": 8,
    "hash_levels": 4,
    "hash_log2_size": 8,
    "hash_base_resolution": 2,
    "hash_max_resolution": 16,
    "head_width": 8,
    "sh_degree": 1,
}
FILE = LPGSSteps(0.01)
RADIUS = 2.0
TREES = Densification(
    start=0, stop=99, every=1, grow_gradient=0.5, split_scale=0.2, prune_opacity=0.05, prune_scale=1.0,
    prune_large_from=4, reset_every=10**9,
)  # fmt: skip


def scene(parents: int = 5, lively: float = 0.3, **changes) -> LPGSGaussians:
    torch.manual_seed(0)
    made = LPGSGaussians(num_parents=parents, **{**SMALL, **changes})
    with torch.no_grad():
        for value in made.parameters():
            value.normal_(0, lively)
        made.parent_means.normal_(0, 0.5)
        made.parent_log_scales.copy_(torch.randn(parents, 3) * 0.1 - 2)
        made.opacity_head[2].bias.fill_(3.0)
    return made


def target() -> Gaussians:
    draw = torch.Generator().manual_seed(3)
    return Gaussians(
        torch.randn(30, 3, generator=draw) * 0.5,
        torch.rand(30, 3, generator=draw) - 2.3,
        torch.randn(30, 4, generator=draw),
        torch.randn(30, generator=draw) + 2,
        torch.randn(30, 1, 3, generator=draw) * 0.8,
    )


def views(count: int = 3, side: int = 24) -> SplatViews:
    Ks = intrinsics(45.0, side, side).expand(count, 3, 3)
    return SplatViews.of_splats(target(), Cameras(orbit((0, 0, 0), 3.0, count), Ks, side, side))


def grown(gradients, seen=None, trees=TREES, step=4, change=lambda made: None):
    """(forest, its nodes and moments before, its optimizer) after trees came and went with these mean gradients."""
    made = scene(len(gradients))
    change(made)
    forest = Forest(made)
    objective = ForestFit(forest, views(1), ForestRule(file=FILE, warmup=0, trees=trees), RADIUS)
    optimizer = objective.optimizer("forest")
    stored = {name: value.clone() for name, value in made.state_dict().items()}
    sum((p + 1).square().sum() for p in forest.parameters()).backward()
    optimizer.step()
    made.load_state_dict(stored)  # only the moments are wanted
    with torch.no_grad():
        before = made.expand()
        moments = optimizer.state[made.parent_means]["exp_avg"].clone()
        forest.gradient_sum += torch.tensor(gradients)
        forest.views_seen += 1.0 if seen is None else torch.tensor(seen)
        objective._grow(trees, step, optimizer)
    return forest, before, moments, optimizer


QUIET_TREE = [0.0, 0.0, 0.0]


def test_a_promoted_child_is_a_parent_where_and_as_large_as_it_was_and_its_old_place_goes_on():
    gradients = [QUIET_TREE, [0.0, 0.6, 0.0], QUIET_TREE, [0.4, 0.0, 1.2], [0.0, 0.0, 1.4]]
    seen = [[1.0] * 3] * 4 + [[1.0, 1.0, 3.0]]  # the last one's mean is below
    forest, before, moments, optimizer = grown(gradients, seen)
    made = forest.scene
    first, second = 5 * 1 + 1, 5 * 2 + 3  # nodes, as `expand` orders them
    assert made.num_parents == made.config.num_parents == 7
    index = [0, 1, 2, 3, 4, first, second]
    assert torch.equal(made.parent_means, before.means[index])
    assert torch.equal(made.parent_log_scales, before.log_scales[index])
    now = made.expand()
    for name, value in before.tensors().items():  # the trees that were there, with all their nodes
        old = torch.tensor([node * 7 + tree for node in range(3) for tree in range(5)])
        assert_close(getattr(now, name)[old], value, atol=1e-6, rtol=1e-6)
    state = optimizer.state[made.parent_means]
    assert torch.equal(state["exp_avg"][:5], moments) and not state["exp_avg"][5:].any()
    assert forest.gradient_sum.shape == forest.views_seen.shape == (7, 3)
    assert not forest.gradient_sum.any() and not forest.views_seen.any()


def test_a_small_parent_that_grows_is_cloned():
    forest, before, _, _ = grown([QUIET_TREE, [0.6, 0.0, 0.0]])
    assert torch.equal(forest.scene.parent_means, before.means[[0, 1, 1]])
    assert torch.equal(forest.scene.parent_log_scales, before.log_scales[[0, 1, 1]])


def enlarged(tree: int, size: float):
    def change(made: LPGSGaussians) -> None:
        with torch.no_grad():
            made.parent_log_scales[tree] = torch.tensor([size * RADIUS, 0.1, 0.1]).log()

    return change


def test_a_large_parent_that_grows_is_split_into_two_within_its_extent():
    forest, before, moments, optimizer = grown([QUIET_TREE, [0.6, 0.0, 0.0]], change=enlarged(1, 0.3))
    means, scales = forest.scene.parent_means.detach(), forest.scene.parent_log_scales.detach()
    assert len(means) == 3 and torch.equal(means[0], before.means[0])
    assert_close(scales, before.log_scales[[0, 1, 1]] - torch.tensor([0.0, 1, 1])[:, None] * math.log(1.6))
    local = (means[1:] - before.means[1]) @ rotation_matrices(before.quaternions[1]) / before.log_scales[1].exp()
    assert (local.abs() < 4).all() and not torch.equal(local[0], local[1]) and (local != 0).all()
    again, *_ = grown([QUIET_TREE, [0.6, 0.0, 0.0]], change=enlarged(1, 0.3))
    assert torch.equal(again.scene.parent_means, forest.scene.parent_means)
    assert torch.equal(optimizer.state[forest.scene.parent_means]["exp_avg"][:2], moments)


def faded(tree: int):
    """Makes the parent of one tree transparent; its children are what they were."""

    def change(made: LPGSGaussians) -> None:
        expand = made.expand

        def fading(*arguments):
            nodes = expand(*arguments)
            return replace(nodes, opacity_logits=nodes.opacity_logits.index_fill(0, torch.tensor([tree]), -4.0))

        made.expand = fading

    return change


def test_trees_die_of_their_parent_alone():
    forest, before, moments, optimizer = grown([QUIET_TREE] * 4, change=faded(1))
    assert torch.equal(forest.scene.parent_means, before.means[[0, 2, 3]])
    assert torch.equal(optimizer.state[forest.scene.parent_means]["exp_avg"], moments[[0, 2, 3]])
    forest, before, *_ = grown([QUIET_TREE, [0.9, 0.0, 0.7], QUIET_TREE, QUIET_TREE], change=faded(1))
    promoted = 4 * 2 + 1
    assert torch.equal(forest.scene.parent_means, before.means[[0, 2, 3, promoted]]), "but its promoted child lives on"
    forest, before, *_ = grown([QUIET_TREE] * 4, change=faded(4 + 2))
    assert torch.equal(forest.scene.parent_means, before.means[:4]), "a transparent child kills nothing"


def test_huge_trees_die_unless_they_are_split_and_the_last_one_stays():
    forest, before, *_ = grown([QUIET_TREE] * 3, change=enlarged(1, 1.2))
    assert torch.equal(forest.scene.parent_means, before.means[[0, 2]])
    assert grown([QUIET_TREE] * 3, change=enlarged(1, 1.2), step=3)[0].scene.num_parents == 3
    assert grown([QUIET_TREE, [0.6, 0, 0], QUIET_TREE], change=enlarged(1, 1.2))[0].scene.num_parents == 4
    strict = replace(TREES, prune_opacity=0.9999999)
    assert grown([QUIET_TREE] * 3, trees=strict)[0].scene.num_parents == 1


def test_the_largest_gradients_grow_where_there_is_no_room_for_all():
    gradients = [[0.6, 0.7, 0.8], [0.9, 0.0, 1.0], QUIET_TREE]
    forest, before, *_ = grown(gradients, trees=replace(TREES, max_splats=5))
    assert torch.equal(forest.scene.parent_means, before.means[[0, 1, 2, 1, 3 * 2 + 1]])
    assert grown(gradients, trees=replace(TREES, max_splats=2))[0].scene.num_parents == 3


def test_gradients_are_counted_by_node():
    forest = Forest(scene(4))
    objective = ForestFit(forest, views(1), ForestRule(file=FILE, warmup=1, trees=replace(TREES, start=50)), RADIUS)
    optimizer = objective.optimizer("forest")
    for step, nodes in ((0, 1), (1, 3)):
        loss, numbers = objective.loss("forest", StepView(step, 0), torch.Generator().manual_seed(0))
        loss.backward()
        assert numbers["splats"] == 4 * nodes
        gradient = torch.zeros(1, 4 * nodes, 2)
        gradient[0, :, 0] = torch.arange(4 * nodes) / 12  # half a picture is 12 pixels
        objective.offsets.grad = gradient
        objective.after_step("forest", step, optimizer)
    expected = torch.stack([2 * torch.arange(4.0), torch.arange(4.0) + 4, torch.arange(4.0) + 8], 1)
    assert_close(forest.gradient_sum, expected)
    assert torch.equal(forest.views_seen, torch.tensor([[0.0, 1, 1]] + [[2.0, 1, 1]] * 3))


def play(folder, steps: int, rule: ForestRule, parents: int = 6, **settings):
    forest = Forest(scene(parents))
    objective = ForestFit(forest, views(), rule, RADIUS)
    fit(objective, objective.views.batches(5), FitSettings(steps=steps, seed=5, log_every=1, **settings), folder,
        progress=False)  # fmt: skip
    return forest


GROWING = ForestRule(
    file=FILE, warmup=8, noise_from=12, round_from=22, rate_weight=0.1,
    trees=Densification(start=4, stop=26, every=5, grow_gradient=2e-5, split_scale=0.05, max_splats=60),
)  # fmt: skip


@pytest.mark.parametrize("stop", [5, 11, 20, 24])
def test_a_run_resumed_across_growth_is_the_same_to_the_bit(tmp_path, stop):
    whole = play(tmp_path / "whole", 30, GROWING)
    play(tmp_path / "halves", stop, GROWING)
    halves = play(tmp_path / "halves", 30, GROWING)
    assert 6 < whole.scene.num_parents <= 60
    for name, value in whole.state_dict().items():
        assert torch.equal(value, halves.state_dict()[name]), name
    for file in ("forest.safetensors", "forest.optimizer.safetensors"):
        newest = (max((tmp_path / run / "checkpoints").glob("step_*")) for run in ("whole", "halves"))
        ours, theirs = (load_file(checkpoint / file) for checkpoint in newest)
        assert ours.keys() == theirs.keys() and len(ours) > 15
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    other = Forest(scene(2))
    assert load_run(tmp_path / "halves", {"forest": other}) == 30
    assert torch.equal(other.scene.parent_means, whole.scene.parent_means)
    assert other.scene.config.num_parents == whole.scene.num_parents


def on_lattice(values: torch.Tensor, step: float) -> bool:
    return torch.equal(values, ((values.double() / step).round() * step).float())


def test_parents_come_to_rest_where_the_file_can_say_even_those_that_grow_later():
    seldom = replace(GROWING, trees=replace(GROWING.trees, every=12, max_splats=400))  # after 12 and 24 steps
    early, late = (play(None, steps, seldom).scene for steps in (21, 22))
    assert not on_lattice(early.parent_means.detach(), 0.01) and on_lattice(late.parent_means.detach(), 0.01)
    after = play(None, 30, seldom).scene
    assert after.num_parents > late.num_parents, "trees grew after that, too"
    assert on_lattice(after.parent_means.detach(), 0.01) and on_lattice(after.parent_log_scales.detach(), 0.15)
    resting = replace(GROWING, trees=None)
    rested, longer = (play(None, steps, resting).scene for steps in (22, 30))
    assert torch.equal(rested.parent_means, longer.parent_means)
    assert torch.equal(rested.parent_log_scales, longer.parent_log_scales)
    assert not torch.equal(rested.grid.table, longer.grid.table), "the rest is trained on"
    read = decode_scene(encode_scene(longer, FILE))
    assert sorted(read.parent_means.tolist()) == sorted(longer.parent_means.tolist())


def test_a_fit_brings_pictures_closer_and_a_file_keeps_them():
    rule = ForestRule(file=LPGSSteps(0.002), warmup=40, trees=None, noise_from=60, round_from=100)
    seen = views()
    made = play(None, 150, rule, parents=12, max_grad_norm=None).scene
    with torch.no_grad():
        start = torch.cat([seen.draw(scene(12).expand(), view).rgb for view in range(3)])
        fitted = torch.cat([seen.draw(made.expand(), view).rgb for view in range(3)])
        read = decode_scene(encode_scene(made, rule.file))
        stored = torch.cat([seen.draw(read.expand(), view).rgb for view in range(3)])
    before, after, kept = (float(psnr(drawn, seen.rgb, 1.0).mean()) for drawn in (start, fitted, stored))
    assert after > before + 2.5 and kept > after - 0.5, (before, after, kept)


def test_the_price_of_the_grid_makes_it_smaller():
    rule = ForestRule(file=FILE, warmup=0, trees=None, noise_from=0)
    sizes = []
    for weight in (0.0, 30.0):
        made = play(None, 40, replace(rule, rate_weight=weight)).scene
        sizes.append(float(made.grid.table.detach().abs().mean()))
    assert sizes[1] < 0.8 * sizes[0]


def test_rates_are_those_of_the_table():
    objective = ForestFit(Forest(scene()), views(1), ForestRule(file=FILE), RADIUS)
    optimizer = objective.optimizer("forest")
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    made = objective.forest.scene
    assert len(rates) == len(list(made.parameters()))
    assert rates[id(made.parent_means)] == LEARNING_RATES["parent_means"] * RADIUS
    assert rates[id(made.grid.table)] == 1e-2 and rates[id(made.color_head[0].weight)] == 1e-3


def test_preview_shows_the_forest_as_it_is_fitted():
    objective = ForestFit(Forest(scene()), views(1), ForestRule(file=FILE), RADIUS)
    assert objective.preview({}).size == (48, 24)
