import copy
from math import prod

import pytest
import torch
from torch import nn

from pocket_diffusers.eval.scores.operations import count_operations, count_parameters
from pocket_diffusers.hub_models.layers.mbconv import MBConv
from pocket_diffusers.hub_models.layers.relative_attention import RelativeTransformerBlock
from pocket_diffusers.hub_models.transformer_ascan import AsCANModel

TINY = {
    "stages": ("C", "CC", "CT"), "widths": (8, 16, 24), "stem_width": 8, "strides": (2, 1, 2, 2), "image_size": 32,
    "head_dim": 8, "ffn_ratio": 2, "expansion": 2, "num_classes": 5, "dense_outputs": {"a": 2, "b": 3},
    "dense_width": 8, "dense_pool_scales": (1, 2), "drop_path": 0.0,
}  # fmt: skip
FORMS = {
    "defaults": {},
    "fused": {"conv_block": "fused_mbconv"},
    "one fused stage": {"fused_stages": (0,)},
    "group norm": {"conv_norm": "group"},
    "no position": {"rel_pos_bias": False},
    "no squeeze": {"se_ratio": 0},
    "separable head": {"dense_separable": True},
    "inverted": {"stages": ("T", "TC", "CC")},
}


def on_meta(preset="tiny", **overrides):
    with torch.device("meta"):
        return AsCANModel.from_preset(preset, **overrides)


def tiny(**overrides):
    """With numbers in place of the zeros that a new model's branches begin with."""
    torch.manual_seed(0)
    model = AsCANModel(**{**TINY, **overrides})
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


def pictures(batch=2, height=32, width=32, channels=3):
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def everything(output):
    return [output.logits, *output.feature_maps, *output.dense.values()]


# --- sizes ---

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


# --- layout ---


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
    model = AsCANModel(**TINY)
    assert all(not block.project.weight.any() for block in model.modules() if isinstance(block, MBConv))


# --- computation ---


@pytest.mark.parametrize("form", FORMS)
def test_forward_is_finite_backward_reaches_every_parameter_and_attention_forms_agree(form):
    model = tiny(**FORMS[form])
    output = model(pictures())
    assert output.logits.shape == (2, 5)
    assert [tuple(x.shape) for x in output.feature_maps] == [(2, 8, 16, 16), (2, 16, 8, 8), (2, 24, 4, 4)]
    assert {name: tuple(value.shape) for name, value in output.dense.items()} == {
        "a": (2, 2, 16, 16), "b": (2, 3, 16, 16)
    }  # fmt: skip
    assert all(value.isfinite().all() for value in everything(output))
    (output.logits.square().mean() + sum(value.square().mean() for value in output.dense.values())).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    model.set_attention_form("explicit")
    for first, second in zip(everything(output), everything(model(pictures())), strict=True):
        torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)


def test_heads_are_a_choice():
    backbone = tiny(num_classes=None, dense_outputs=None)
    output = backbone(pictures())
    assert output.logits is None and output.dense is None and len(output.feature_maps) == 3
    logits, maps = tiny(dense_outputs=None)(pictures(), return_dict=False)[:2]
    assert logits.shape == (2, 5) and len(maps) == 3
    assert tiny(in_channels=1)(pictures(channels=1)).logits.shape == (2, 5)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (16, 48), (8, 8)])
def test_other_sizes(height, width):
    model = tiny()
    assert model.size_multiple == prod(TINY["strides"]) == 8 and model.dense_stride == 2
    output = model(pictures(height=height, width=width))
    assert output.logits.isfinite().all()
    assert output.dense["a"].shape == (2, 2, height // 2, width // 2)


def test_samples_do_not_mix_in_evaluation():
    model = tiny()
    whole = model(pictures(batch=3))
    alone = model(pictures(batch=3)[1:2])
    torch.testing.assert_close(whole.logits[1:2], alone.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whole.dense["b"][1:2], alone.dense["b"], atol=1e-5, rtol=1e-5)


def test_channels_last_and_half_precision_agree():
    model = tiny()
    with torch.no_grad():
        expected = everything(model(pictures()))
        twin = copy.deepcopy(model).to(memory_format=torch.channels_last)
        for first, second in zip(
            expected, everything(twin(pictures().to(memory_format=torch.channels_last))), strict=True
        ):
            torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)
        for first, second in zip(expected, everything(twin.bfloat16()(pictures().bfloat16())), strict=True):
            assert second.dtype == torch.bfloat16
            assert (first - second).norm() < 0.1 * first.norm()


def test_gradient_checkpointing_changes_nothing():
    plain, spared = tiny(), tiny()
    spared.enable_gradient_checkpointing()
    for model in (plain, spared):
        model.train()
        model(pictures()).logits.square().sum().backward()
    for (name, one), (_, other) in zip(plain.named_parameters(), spared.named_parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, msg=name)


def test_stochastic_depth_acts_in_training_alone():
    model = tiny(drop_path=0.9, conv_norm="group", dense_outputs=None)
    assert torch.equal(model(pictures()).logits, model(pictures()).logits)
    model.train()
    torch.manual_seed(1)
    assert not torch.equal(model(pictures()).logits, model(pictures()).logits)


# --- bad input, saving ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": ("C", "CX", "T")}, "stages holds 'CX'"),
        ({"stages": ("C", "T")}, "it must be 3 strings"),
        ({"strides": (2, 2, 2)}, r"strides is \(2, 2, 2\); it must be 4 numbers 1 or 2"),
        ({"strides": (2, 3, 2, 2)}, "it must be 4 numbers 1 or 2"),
        ({"conv_block": "convnext"}, "conv_block is 'convnext'; it must be one of mbconv, fused_mbconv"),
        ({"conv_norm": "layer"}, "conv_norm is 'layer'; it must be one of batch, group"),
        ({"head_dim": 7}, "24 channels do not divide into heads of 7"),
        ({"drop_path": 1.5}, "rate of stochastic depth is"),
    ],
)
def test_bad_configurations(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        AsCANModel(**{**TINY, **changes})
    assert len(str(caught.value).splitlines()) == 1


def test_bad_pictures():
    model = tiny()
    with pytest.raises(ValueError, match=r"pixel_values must be \[batch, 3, height, width\], not \[2, 1, 32, 32\]"):
        model(pictures(channels=1))
    with pytest.raises(ValueError, match=r"not \[3, 32, 32\]"):
        model(pictures()[0])
    with pytest.raises(ValueError, match=r"is 32 x 30 pixels \(height x width\): both must be multiples of 8"):
        model(pictures(width=30))


def test_save_and_load(tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path)
    again = AsCANModel.from_pretrained(tmp_path)
    assert not again.training and tuple(again.config.stages) == TINY["stages"]
    assert dict(again.config.dense_outputs) == TINY["dense_outputs"]
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    with torch.no_grad():
        for first, second in zip(everything(model(pictures())), everything(again(pictures())), strict=True):
            torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)
