"""What AsCAN's backbone is and computes; what all models promise is in `tests/contracts`."""

from math import prod

import pytest
import torch
from tiny_ascan import BACKBONE

from pocket_diffusers.eval.scores.operations import count_operations, count_parameters
from pocket_diffusers.hub_models.layers.mbconv import MBConv
from pocket_diffusers.hub_models.layers.relative_attention import RelativeTransformerBlock
from pocket_diffusers.hub_models.transformer_ascan import AsCANModel


def on_meta(preset="tiny", **overrides):
    with torch.device("meta"):
        return AsCANModel.from_preset(preset, **overrides)


def pictures(batch=2, height=32, width=32, channels=3):
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


COATNET = ("CC", "CCCCCC", "T" * 14, "TT")


def cost(model):
    """Millions of parameters, and GMACs at 224 pixels."""
    operations = count_operations(model.eval(), torch.empty(1, 3, 224, 224, device="meta"))
    return count_parameters(model) / 1e6, operations / 2e9


@pytest.mark.parametrize(("preset", "millions", "gmacs"), [("tiny", 55, 7.7), ("base", 98, 16.7), ("large", 173, 30.7)])
def test_presets_meet_the_remembered_budgets(preset, millions, gmacs):
    found = cost(on_meta(preset))
    assert found[0] == pytest.approx(millions, rel=0.03)
    assert found[1] == pytest.approx(gmacs, rel=0.05)


@pytest.mark.parametrize(
    ("widths", "stem_width", "millions", "gmacs"),
    [((96, 192, 384, 768), 64, 42, 8.4), ((128, 256, 512, 1024), 128, 75, 15.7)],
    ids=["coatnet-1", "coatnet-2"],
)
def test_the_grammar_spells_coatnet(widths, stem_width, millions, gmacs):
    """Blocks are those of a published family: its strings have its published costs."""
    found = cost(on_meta(stages=COATNET, widths=widths, stem_width=stem_width))
    assert found[0] == pytest.approx(millions, rel=0.06)
    assert found[1] == pytest.approx(gmacs, rel=0.06)


def test_nano_fits_a_repository_of_eight_megabytes():
    heads = {"shape": 6, "color": 10, "center": 1, "offset": 2}
    assert count_parameters(on_meta("nano", dense_outputs=heads)) < 3.9e6
    assert on_meta("nano").config.image_size == 64


def test_letters_become_blocks_and_stages_halve_the_resolution():
    model = on_meta("tiny")
    kinds = {"C": MBConv, "T": RelativeTransformerBlock}
    for string, blocks in zip(model.config.stages, model.blocks, strict=True):
        assert [type(block) for block in blocks] == [kinds[letter] for letter in string]
        assert [block.pool is not None for block in blocks] == [True] + [False] * (len(blocks) - 1)
    maps = model.eval()(torch.empty(1, 3, 224, 224, device="meta")).feature_maps
    assert [tuple(x.shape[1:]) for x in maps] == [(96, 56, 56), (192, 28, 28), (384, 14, 14), (768, 7, 7)]


def test_stochastic_depth_grows_with_depth():
    rates = [block.drop_path.rate for blocks in on_meta("tiny").blocks for block in blocks]
    assert rates[0] == 0 and rates[-1] == pytest.approx(0.2)
    assert torch.tensor(rates).diff().std() < 1e-6


def test_new_models_begin_with_nothing_in_their_convolutional_branches():
    model = AsCANModel(**BACKBONE.options)
    assert all(not block.project.weight.any() for block in model.modules() if isinstance(block, MBConv))


def test_maps_shrink_by_the_strides_and_dense_outputs_are_of_the_first():
    output = BACKBONE.make()(pictures())
    assert output.logits.shape == (2, 5)
    assert [tuple(x.shape) for x in output.feature_maps] == [(2, 8, 16, 16), (2, 16, 8, 8), (2, 24, 4, 4)]
    assert {name: tuple(value.shape) for name, value in output.dense.items()} == {
        "a": (2, 2, 16, 16), "b": (2, 3, 16, 16)
    }  # fmt: skip


def test_heads_are_a_choice():
    backbone = BACKBONE.make(num_classes=None, dense_outputs=None)
    output = backbone(pictures())
    assert output.logits is None and output.dense is None and len(output.feature_maps) == 3
    logits, maps = BACKBONE.make(dense_outputs=None)(pictures(), return_dict=False)[:2]
    assert logits.shape == (2, 5) and len(maps) == 3
    assert BACKBONE.make(in_channels=1)(pictures(channels=1)).logits.shape == (2, 5)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (16, 48), (8, 8)])
def test_other_sizes(height, width):
    model = BACKBONE.make()
    assert model.size_multiple == prod(BACKBONE.options["strides"]) == 8 and model.dense_stride == 2
    output = model(pictures(height=height, width=width))
    assert output.logits.isfinite().all()
    assert output.dense["a"].shape == (2, 2, height // 2, width // 2)


def test_stochastic_depth_acts_in_training_alone():
    model = BACKBONE.make(drop_path=0.9, conv_norm="group", dense_outputs=None)
    assert torch.equal(model(pictures()).logits, model(pictures()).logits)
    model.train()
    torch.manual_seed(1)
    assert not torch.equal(model(pictures()).logits, model(pictures()).logits)
