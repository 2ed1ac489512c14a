"""The predictor of LPGS against the paper's equations written out tree by tree, and what it promises as a model."""

import inspect
import math
from dataclasses import fields

import pytest
import torch
from naive_lpgs import tree_by_hand
from torch.testing import assert_close

from pocket_diffusers.hub_models.gaussians_lpgs import START_OPACITY, LPGSGaussians, TreeAttention
from pocket_diffusers.hub_models.layers.hash_grid import HashGrid

SMALL = {
    "num_parents": 7,
    "grid_dim": 6,
    "hash_levels": 3,
    "hash_log2_size": 7,
    "hash_base_resolution": 3,
    "hash_max_resolution": 20,
    "head_width": 8,
    "sh_degree": 1,
    "center": (0.5, -0.25, 1.0),
    "radius": 2.0,
}


def scene(**changes) -> LPGSGaussians:
    """One whose every weight matters."""
    torch.manual_seed(0)
    made = LPGSGaussians(**{**SMALL, **changes})
    with torch.no_grad():
        for value in made.parameters():
            value.normal_(0, 0.5)
        made.parent_means.normal_(0, 2)
    return made.eval()


def same(ours, theirs) -> None:
    for field in fields(ours):
        assert torch.equal(getattr(ours, field.name), getattr(theirs, field.name)), field.name


def network_size(made: LPGSGaussians) -> int:
    apart = ("parent_means", "parent_log_scales", "grid.table")
    return sum(value.numel() for name, value in made.named_parameters() if name not in apart)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"children_per_parent": 1},
        {"children_per_parent": 0},
        {"attention": False},
        {"mlp_position": False, "mlp_distance": False, "sh_degree": 3},
        {"encoding": "frequency"},
        {"contraction": "box"},
    ],
    ids=str,
)
@torch.no_grad()
def test_splats_are_those_of_each_tree_by_hand_parents_first(changes):
    made = scene(**changes).double()
    splats = made.expand()
    nodes = 1 + made.config.children_per_parent
    assert len(splats) == 7 * nodes
    for parent in range(7):
        for node, wanted in enumerate(tree_by_hand(made, parent)):
            for name, value in wanted.items():
                assert_close(getattr(splats, name)[node * 7 + parent], value, atol=1e-9, rtol=1e-9, msg=name)


@pytest.mark.parametrize("encoding", ["hash", "frequency"])
@torch.no_grad()
def test_half_precision_knows_fine_details_of_positions(encoding):
    made = scene(encoding=encoding, hash_max_resolution=2048, children_per_parent=0)
    full, halved = made.expand(), made.half().expand()
    assert made.color_head[-1].weight.dtype == torch.float16 and torch.equal(halved.means, full.means)
    for name, value in full.tensors().items():
        assert (getattr(halved, name) - value).norm() < 5e-3 * value.norm(), name


@torch.no_grad()
def test_attention_is_a_softmax_among_the_nodes_of_a_tree_through_a_gate():
    torch.manual_seed(1)
    attention, nodes = TreeAttention(4), torch.randn(5, 3, 4)
    q, k, v = (layer(nodes) for layer in (attention.query, attention.key, attention.value))
    expected = nodes + 0.5 * torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert_close(attention(nodes), expected, atol=1e-6, rtol=1e-6)
    assert_close(attention(nodes[:, [2, 0, 1]]), expected[:, [2, 0, 1]], atol=1e-6, rtol=1e-6)  # no place in the order


@torch.no_grad()
def test_parents_keep_what_is_stored_and_children_stay_near():
    made = scene()
    made.position_head[2].weight.mul_(100)  # saturates the bound
    splats = made.expand()
    assert torch.equal(splats.means[:7], made.parent_means)
    assert torch.equal(splats.log_scales[:7], made.parent_log_scales)
    reach = 4 * made.parent_log_scales.amax(1, keepdim=True).exp()
    for child in (splats.means[7:14], splats.means[14:]):
        away = (child - made.parent_means).abs() / reach
        assert float(away.max()) <= 1 + 1e-6 and float(away.max()) > 0.9
    assert ((splats.log_scales[7:14] - made.parent_log_scales).abs() <= 4 + 1e-6).all()


def test_contraction_is_equation_10_inside_the_unit_cube():
    made = scene(center=(0.0, 0.0, 0.0), radius=1.0)
    inner, outer = torch.tensor([[0.3, -0.4, 0.5]]), torch.tensor([[0.0, 0.0, 4.0]])
    assert_close(made.contract(inner), (inner + 2) / 4)
    assert_close(made.contract(outer), (torch.tensor([[0.0, 0.0, 2 - 1 / 4]]) + 2) / 4)
    draw = torch.Generator().manual_seed(0)
    far = torch.randn(1000, 3, generator=draw) * 10 ** (torch.rand(1000, 1, generator=draw) * 16 - 4)
    cube = made.contract(torch.cat([far, torch.zeros(1, 3)]))
    assert float(cube.min()) >= 0 and float(cube.max()) <= 1
    assert_close(made.contract(torch.tensor([[1 + 1e-6, 0, 0]])), made.contract(torch.tensor([[1 - 1e-6, 0, 0]])))
    slope = torch.autograd.functional.jacobian(lambda x: made.contract(x[None])[0], torch.zeros(3))
    assert_close(slope, torch.eye(3) / 4)


def test_a_box_clamps():
    made = scene(contraction="box")
    points = torch.tensor([[0.5, -0.25, 1.0], [2.5, -2.25, 2.0], [100.0, -100.0, 1.0]])
    assert_close(made.contract(points), torch.tensor([[0.5, 0.5, 0.5], [1.0, 0.0, 0.75], [1.0, 0.0, 0.5]]))


@torch.no_grad()
def test_trees_are_rows_of_the_whole():
    made = scene()
    whole, trees = made.expand(), torch.tensor([5, 0, 5, 3])
    rows = torch.cat([trees + 7 * node for node in range(3)])
    part = made.expand(trees=trees)
    for name, value in whole.select(rows).tensors().items():
        assert_close(getattr(part, name), value, atol=1e-6, rtol=1e-6, msg=name)


@torch.no_grad()
def test_parents_alone_are_those_of_a_scene_without_children():
    made, childless = scene(), scene(children_per_parent=0)
    childless.load_state_dict({k: v for k, v in made.state_dict().items() if not k.startswith("position_head")})
    alone = made.expand(parents_only=True)
    assert len(alone) == 7
    same(alone, childless.expand())


@torch.no_grad()
def test_a_new_scene_is_faint_grey_and_upright():
    splats = LPGSGaussians(**SMALL).expand()
    assert_close(splats.opacity_logits.sigmoid(), torch.full((21,), START_OPACITY), atol=0.01, rtol=0)
    assert_close(splats.rgb, torch.full((21, 3), 0.5), atol=0.05, rtol=0)
    assert_close(splats.quaternions, torch.tensor([[1.0, 0, 0, 0]]).expand(21, 4), atol=0.05, rtol=0)


def test_no_prediction_can_look_at_a_camera():
    assert list(inspect.signature(LPGSGaussians.expand).parameters) == [
        "self", "parents_only", "grid_step", "generator", "trees"
    ]  # fmt: skip
    assert not list(scene().buffers())
    made = scene()
    with torch.no_grad():
        same(made.expand(), made.expand())


@torch.no_grad()
def test_noise_of_rounding_moves_the_grid_by_half_a_step_at_most():
    made = scene()
    made.attribute_features.weight.zero_()
    made.displacement_features.weight.zero_()  # then the grid has no say
    noisy = made.expand(grid_step=0.5, generator=torch.Generator().manual_seed(0))
    same(noisy, made.expand())
    made = scene()
    twice = [made.expand(grid_step=0.5, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    same(*twice)
    assert not torch.equal(twice[0].sh, made.expand().sh)


@pytest.mark.parametrize("changes", [{}, {"encoding": "frequency"}, {"attention": False}], ids=str)
def test_gradients_reach_every_parameter_and_are_finite(changes):
    made = scene(**changes)
    with torch.no_grad():
        made.parent_means[0] = torch.tensor(made.config.center)  # where the contraction has no direction
    splats = made.expand()
    sum(value.square().sum() for value in splats.tensors().values()).backward()
    for name, value in made.named_parameters():
        assert value.grad.isfinite().all() and value.grad.abs().sum() > 0, name


def test_presets_build_without_memory_in_their_remembered_sizes():
    sizes = {}
    for preset in LPGSGaussians.presets:
        with torch.device("meta"):
            made = LPGSGaussians.from_preset(preset)
        assert all(value.is_meta for value in made.parameters())
        sizes[preset] = (network_size(made), *made.grid.table.shape)
    assert sizes == {
        "nano": (5_967, 32_768, 2),
        "C1": (18_527, 3_215_341, 2),
        "C2": (29_103, 3_215_341, 3),
        "C3": (42_239, 3_215_341, 4),
    }


def test_network_sizes_are_their_sum_by_hand():
    d, w, k, sh = 64, 64, 2, 16
    projections, attention = 2 * (d * d + d), 3 * (d * d + d) + 1
    told = d + 3 + 1
    heads = [(d, 3 * k), (told, 3 + 4), (told, 1), (told, 3 * sh)]
    assert projections + attention + sum(i * w + w + w * o + o for i, o in heads) == 42_239
    rows = sum(min(2**18, (r + 1) ** 3) for r in HashGrid(16, 1, 2, 16, 2048).resolutions)
    assert rows == 3_215_341


@pytest.mark.parametrize("count", [1, 3, 12])
@torch.no_grad()
def test_weights_with_another_number_of_parents_load_and_the_config_knows(tmp_path, count):
    grown = scene(num_parents=count)
    made = scene()
    made.load_state_dict(grown.state_dict())
    assert made.num_parents == made.config.num_parents == count
    same(made.expand(), grown.expand())
    made.save_pretrained(tmp_path)
    loaded = LPGSGaussians.from_pretrained(tmp_path)
    assert loaded.num_parents == count and not loaded.training
    for name, value in made.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    again = LPGSGaussians.from_config(made.config)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in made.state_dict().items()}


@torch.no_grad()
def test_saved_scenes_come_back_bit_for_bit(tmp_path):
    made = scene(encoding="frequency", attention=False, mlp_distance=False)
    made.save_pretrained(tmp_path)
    loaded = LPGSGaussians.from_pretrained(tmp_path)
    for name, value in made.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    for field in fields(made.expand()):
        assert_close(getattr(loaded.expand(), field.name), getattr(made.expand(), field.name), atol=1e-6, rtol=1e-6)
    assert loaded.to_json_string().replace(str(tmp_path), "") != "" and loaded.config.encoding == "frequency"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_parents": 0}, "num_parents must be at least 1, not 0."),
        ({"hash_levels": 0}, "hash_levels must be at least 1, not 0."),
        ({"grid_dim": 7}, "grid_dim must be a multiple of hash_levels=3, not 7."),
        ({"grid_dim": 0}, "grid_dim must be a multiple of hash_levels=3, not 0."),
        ({"hash_log2_size": -1}, "hash_log2_size must be at least 0, not -1."),
        ({"hash_base_resolution": 0}, "hash_base_resolution must be at least 1, not 0."),
        ({"hash_max_resolution": 2}, "hash_max_resolution must be at least hash_base_resolution=3, not 2."),
        ({"encoding": "hashes"}, "encoding must be 'hash' or 'frequency', not 'hashes'."),
        ({"children_per_parent": 3}, "children_per_parent must be 0, 1 or 2, not 3."),
        ({"child_offset_radius": -1.0}, "child_offset_radius must be at least 0 and finite, not -1.0."),
        ({"child_offset_radius": math.nan}, "child_offset_radius must be at least 0 and finite, not nan."),
        ({"head_width": 0}, "head_width must be at least 1, not 0."),
        ({"sh_degree": 4}, "sh_degree must be 0, 1, 2 or 3, not 4."),
        ({"contraction": "ball"}, "contraction must be 'mipnerf360' or 'box', not 'ball'."),
        ({"center": (0.0, 0.0)}, r"center must be three finite numbers, not \(0.0, 0.0\)."),
        ({"center": (0.0, 0.0, math.nan)}, "center must be three finite numbers, not"),
        ({"radius": 0.0}, "radius must be above 0 and finite, not 0.0."),
        ({"radius": math.inf}, "radius must be above 0 and finite, not inf."),
    ],
    ids=str,
)
def test_bad_options_are_refused_in_one_sentence(changes, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        LPGSGaussians(**{**SMALL, **changes})
    assert len(str(caught.value).splitlines()) == 1
