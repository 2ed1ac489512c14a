import copy

import pytest
import torch
from peft import LoraConfig
from torch import nn

from pocket_diffusers.eval.scores.operations import count_operations, count_parameters
from pocket_diffusers.hub_models.layers.mbconv import MBConv
from pocket_diffusers.hub_models.layers.relative_attention import RelativeTransformerBlock
from pocket_diffusers.hub_models.unet_ascan import AsCANUNet2DModel

TINY = {
    "sample_size": 8, "in_channels": 4, "out_channels": 4, "down_stages": ("CC", "CT", "TT"), "widths": (16, 24, 32),
    "expansion": 2, "head_dim": 8, "ffn_ratio": 2, "num_classes": 5, "emb_dim": 16,
}  # fmt: skip
CONDITIONS = {
    "classes": {},
    "text": {"num_classes": None, "cross_attention_dim": 6},
    "both": {"cross_attention_dim": 6},
    "neither": {"num_classes": None},
}


def on_meta(preset, **overrides):
    with torch.device("meta"):
        return AsCANUNet2DModel.from_preset(preset, **overrides)


def tiny(**overrides):
    """With numbers in place of the zeros that a new model's prediction begins with."""
    torch.manual_seed(0)
    model = AsCANUNet2DModel(**{**TINY, **overrides})
    nn.init.normal_(model.conv_out.weight, std=0.2)
    return model.eval()


def inputs(model, batch=2, size=8, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    given = {
        "sample": torch.randn(batch, 4, size, size, generator=generator).to(dtype),
        "timestep": torch.rand(batch, generator=generator) * 1000,
    }
    if model.config.num_classes:
        given["class_labels"] = torch.arange(batch) % (model.config.num_classes + 1)
    if model.config.cross_attention_dim:
        given["encoder_hidden_states"] = torch.randn(batch, 3, 6, generator=generator).to(dtype)
    return given


# --- sizes ---


def test_imagenet_preset_costs_about_half_of_dit():
    """DiT-XL/2 takes 118.6 (multiply-adds, in 10^9) at 256 pixels; AsCAN's paper says about half."""
    model = on_meta("imagenet256").eval()
    sample, label = torch.empty(1, 4, 32, 32, device="meta"), torch.zeros(1, dtype=torch.long, device="meta")
    gmacs = count_operations(model, sample, torch.zeros(1, device="meta"), label) / 2e9
    assert 50 < gmacs <= 60


def test_text_preset_takes_text_alone():
    model = on_meta("text")
    assert model.class_embedding is None and model.config.cross_attention_dim == 2816
    blocks = [block for block in model.modules() if isinstance(block, RelativeTransformerBlock)]
    assert blocks and all(block.cross_attention is not None for block in blocks)


def test_nano_fits_a_repository_of_eight_megabytes():
    model = on_meta("nano")
    assert count_parameters(model) < 3.6e6
    assert (model.config.sample_size, model.config.num_classes, model.config.in_channels) == (8, 50, 16)


# --- layout ---


def test_the_way_up_reflects_the_way_down():
    model = tiny(down_stages=("CC", "CCT", "TC"))
    kinds = {"C": MBConv, "T": RelativeTransformerBlock}
    down = [[type(block) for block in blocks] for blocks in model.down_blocks]
    assert down == [[kinds[letter] for letter in stage] for stage in ("CC", "CCT", "TC")]
    assert [[type(block) for block in blocks] for blocks in model.up_blocks] == [stage[::-1] for stage in down[::-1]]
    pooled = [[block.pool is not None for block in blocks] for blocks in model.down_blocks]
    assert pooled == [[False, False], [True, False, False], [True, False]]
    assert all(block.pool is None for blocks in model.up_blocks for block in blocks)


def test_each_block_of_the_way_up_sees_its_reflection():
    """What a block of the way down makes is what its mirror image gets beside its own input."""
    model, made, got = tiny(), [], []
    for blocks in model.down_blocks:
        for block in blocks:
            block.register_forward_hook(lambda module, given, output: made.append(output))
    for blocks in model.up_blocks:
        for block in blocks:
            block.register_forward_pre_hook(lambda module, given: got.append(given[0]))
    model(**inputs(model))
    assert len(made) == len(got) == 6
    for skip, x in zip(reversed(made), got, strict=True):
        assert torch.equal(x[:, -skip.shape[1] :], skip)


# --- computation ---


@pytest.mark.parametrize("conditions", CONDITIONS)
def test_forward_is_finite_backward_reaches_every_parameter_and_attention_forms_agree(conditions):
    model = tiny(**CONDITIONS[conditions])
    given = inputs(model)
    prediction = model(**given).sample
    assert prediction.shape == given["sample"].shape and prediction.isfinite().all()
    prediction.square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    model.set_attention_form("explicit")
    torch.testing.assert_close(model(**given).sample, prediction, atol=1e-5, rtol=1e-5)


def test_a_new_model_predicts_nothing():
    model = AsCANUNet2DModel(**TINY)
    assert not model(**inputs(model)).sample.any()


def test_classes_time_and_text_matter():
    model = tiny(**CONDITIONS["both"])
    given = inputs(model)
    base = model(**given).sample
    changes = {
        "class_labels": (given["class_labels"] + 1) % 6,
        "timestep": given["timestep"] / 2,
        "encoder_hidden_states": given["encoder_hidden_states"] + 1,
    }
    for name, value in changes.items():
        assert (model(**{**given, name: value}).sample - base).abs().amax((1, 2, 3)).min() > 1e-5, name
    assert model(**{**given, "class_labels": torch.tensor([5, 5])}).sample.isfinite().all()  # no class


def test_masked_tokens_do_not_matter():
    model = tiny(**CONDITIONS["text"])
    given, mask = inputs(model), torch.tensor([[1, 1, 0], [1, 0, 0]])
    base = model(**given, encoder_attention_mask=mask).sample
    text = given["encoder_hidden_states"] + 9 * (1 - mask)[..., None]
    changed = model(**{**given, "encoder_hidden_states": text}, encoder_attention_mask=mask.bool()).sample
    torch.testing.assert_close(base, changed, atol=1e-5, rtol=1e-5)
    every = model(**given, encoder_attention_mask=torch.ones(2, 3)).sample
    torch.testing.assert_close(every, model(**given).sample, atol=1e-5, rtol=1e-5)


def test_one_timestep_for_all_and_other_sizes():
    model = tiny()
    given = inputs(model, size=12)
    for timestep in (500.0, torch.tensor(500), torch.tensor([500])):
        expected = model(**{**given, "timestep": torch.tensor([500.0, 500.0])}).sample
        assert torch.equal(model(**{**given, "timestep": timestep}).sample, expected)
    assert model.size_multiple == 4
    (sample,) = model(given["sample"][..., :4], 3.0, given["class_labels"], return_dict=False)
    assert sample.shape == (2, 4, 12, 4)


def test_samples_do_not_mix():
    model = tiny()
    given = inputs(model, batch=3)
    whole = model(**given).sample
    alone = model(**{name: value[1:2] for name, value in given.items()}).sample
    torch.testing.assert_close(whole[1:2], alone, atol=1e-5, rtol=1e-5)


def test_channels_last_and_half_precision_agree():
    model = tiny()
    given = inputs(model)
    with torch.no_grad():
        expected = model(**given).sample
        twin = copy.deepcopy(model).to(memory_format=torch.channels_last)
        torch.testing.assert_close(twin(**given).sample, expected, atol=1e-4, rtol=1e-4)
        half = twin.bfloat16()(**inputs(model, dtype=torch.bfloat16)).sample
    assert half.dtype == torch.bfloat16 and (half - expected).norm() < 0.1 * expected.norm()


def test_gradient_checkpointing_changes_nothing():
    plain, spared = tiny(**CONDITIONS["both"]), tiny(**CONDITIONS["both"])
    spared.enable_gradient_checkpointing()
    for model in (plain, spared):
        model.train()
        model(**inputs(model)).sample.square().sum().backward()
    for (name, one), (_, other) in zip(plain.named_parameters(), spared.named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)


def test_lora_attaches():
    model = tiny()
    model.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_kv"], init_lora_weights=False))
    given = inputs(model)
    adapted = model(**given).sample
    model.disable_adapters()
    assert not torch.equal(adapted, model(**given).sample)


# --- bad input, saving ---


@pytest.mark.parametrize(
    ("conditions", "changes", "message"),
    [
        ("classes", {"sample": torch.zeros(2, 3, 8, 8)}, r"sample must be \[batch, 4, height, width\]"),
        ("classes", {"sample": torch.zeros(2, 4, 8, 6)}, r"sample is 8 x 6 latents .* multiples of 4"),
        ("classes", {"timestep": torch.zeros(3)}, r"timestep must be one number or \[2\], not \[3\]"),
        ("classes", {"class_labels": None}, "class_labels are needed: this model was made for 5 of them"),
        ("classes", {"class_labels": torch.zeros(3, dtype=torch.long)}, r"class_labels must be \[2\] whole numbers"),
        ("classes", {"class_labels": torch.zeros(2)}, r"class_labels must be \[2\] whole numbers, not torch.float32"),
        ("classes", {"encoder_hidden_states": torch.zeros(2, 3, 6)}, "encoder_hidden_states cannot be used"),
        ("classes", {"encoder_attention_mask": torch.ones(2, 3)}, "encoder_attention_mask must have one entry"),
        ("text", {"class_labels": torch.zeros(2, dtype=torch.long)}, "class_labels cannot be used"),
        ("text", {"encoder_hidden_states": None}, "encoder_hidden_states are needed"),
        ("text", {"encoder_hidden_states": torch.zeros(2, 3, 7)}, r"must be \[2, tokens, 6\], not \[2, 3, 7\]"),
        ("text", {"encoder_hidden_states": torch.zeros(1, 3, 6)}, r"must be \[2, tokens, 6\]"),
        ("text", {"encoder_attention_mask": torch.ones(2, 4)}, "one entry for each text token"),
    ],
)
def test_bad_inputs(conditions, changes, message):
    model = tiny(**CONDITIONS[conditions])
    with pytest.raises(ValueError, match=message) as caught:
        model(**{**inputs(model), **changes})
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("labels", [[0, 6], [-1, 0]])
def test_labels_out_of_range(labels):
    model = tiny()
    with pytest.raises((ValueError, IndexError)):
        model(**{**inputs(model), "class_labels": torch.tensor(labels)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"down_stages": ("CC", "CA", "TT")}, "down_stages holds 'CA'"),
        ({"down_stages": ("CC", "TT")}, "down_stages is .* it must be 3 strings"),
        ({"conv_norm": "layer"}, "conv_norm is 'layer'"),
        ({"head_dim": 5}, "do not divide into heads of 5"),
    ],
)
def test_bad_configurations(changes, message):
    with pytest.raises(ValueError, match=message):
        AsCANUNet2DModel(**{**TINY, **changes})


def test_save_and_load(tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path)
    again = AsCANUNet2DModel.from_pretrained(tmp_path)
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    with torch.no_grad():
        torch.testing.assert_close(again(**inputs(model)).sample, model(**inputs(model)).sample, atol=1e-5, rtol=1e-5)


def test_an_exported_graph_takes_any_batch():
    unet = AsCANUNet2DModel.from_preset("nano").eval()
    unet.set_attention_form("explicit")  # as exports do
    batch = torch.export.Dim("batch", min=1, max=64)
    example = torch.zeros(2, 16, 8, 8), torch.zeros(2), torch.zeros(2, dtype=torch.long)
    program = torch.export.export(unet, example, dynamic_shapes=({0: batch},) * 3, strict=False)
    inputs = torch.randn(3, 16, 8, 8), torch.full((3,), 500.0), torch.tensor([0, 7, 50])
    with torch.no_grad():
        assert torch.allclose(program.module()(*inputs).sample, unet(*inputs).sample, atol=1e-4)
