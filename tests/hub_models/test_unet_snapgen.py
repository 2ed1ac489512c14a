import copy
import json

import pytest
import torch
from peft import LoraConfig

from pocket_diffusers.hub_models.layers.attention import MultiQueryAttention, Transformer2D
from pocket_diffusers.hub_models.unet_snapgen import SnapGenUNet2DConditionModel

TINY = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (16, 32, 48),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 1, 2),
    "mid_transformer_depth": 1,
    "attention_head_dim": 8,
    "cross_attention_dim": 12,
    "temb_dim": 24,
    "norm_num_groups": 8,
}
DREAMLITE = {
    "in_channels": 4,
    "out_channels": 4,
    "first_stage": "dreamlite",
    "mid_transformer_depth": 4,
    "expansion_mode": "block_out",
    "skip_unused_norm": False,
}
LAYOUTS = {
    "defaults": {},
    "dreamlite": {k: v for k, v in DREAMLITE.items() if k not in ("in_channels", "out_channels")},
    "down_last": {"first_stage": "down_last", "expansion_mode": "block_in", "sampler_conv": "no_up_conv"},
    "all_five": {"first_stage": "all_five", "last_up_attention": True, "rope": "all", "num_kv_heads": 2},
    "toy-diffusion": {"first_stage": "dreamlite", "last_up_attention": True, "pw_bias": True, "rope": "all"},
    "plain": {"rope": "none", "cross_attn_qk_norm": False, "mid_transformer_depth": 0, "conv_expansion": 1},
    "two_stages": {"block_out_channels": (16, 32), "transformer_layers_per_block": (1, 1), "layers_per_block": 1},
    "separable": {"sampler_conv": "separable", "ff_mult": 2},
}


def millions(module):
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def on_meta(preset="paper", **overrides):
    with torch.device("meta"):
        return SnapGenUNet2DConditionModel.from_preset(preset, **overrides)


def tiny(**overrides):
    torch.manual_seed(0)
    return SnapGenUNet2DConditionModel(**{**TINY, **overrides})


def inputs(batch=2, size=8, tokens=5, channels=4, width=12, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return {
        "sample": torch.randn(batch, channels, size, size, generator=generator).to(dtype),
        "timestep": torch.rand(batch, generator=generator) * 1000,
        "encoder_hidden_states": torch.randn(batch, tokens, width, generator=generator).to(dtype),
    }


# --- sizes ---


@pytest.mark.parametrize(
    ("preset", "first_stage", "published"),
    [
        ("paper", "down_all", 379.0),
        ("imagenet", "down_all", 372.2),
        ("paper", "down_last", 378.6),
        ("imagenet", "down_last", 372.1),
        ("paper", "all_five", 379.5),
        ("imagenet", "all_five", 372.2),
    ],
)
def test_presets_have_the_published_sizes(preset, first_stage, published):
    model = on_meta(preset, first_stage=first_stage, last_up_attention=first_stage == "all_five")
    assert millions(model) == pytest.approx(published, abs=0.05)


@pytest.mark.parametrize(("text_width", "total"), [(768, 376.6), (1024, 377.8), (2048, 382.5), (2304, 383.7)])
def test_dreamlite_layout_has_its_derived_sizes(text_width, total):
    assert millions(on_meta(cross_attention_dim=text_width, **DREAMLITE)) == pytest.approx(total, abs=0.05)


def test_dreamlite_layout_agrees_part_by_part():
    model = on_meta(**DREAMLITE)
    parts = [model.time_embedding, *model.down_stages, model.mid_layers, *model.up_stages]
    wanted = [1.31, 4.48, 20.25, 100.02, 55.20, 166.24, 32.76, 3.38]
    assert [millions(part) for part in parts] == pytest.approx(wanted, abs=0.011)
    first = model.down_stages[0]
    assert sum(millions(layer.resnet) for layer in first.layers) == pytest.approx(1.59, abs=0.006)
    assert sum(millions(layer.attention) for layer in first.layers) == pytest.approx(2.30, abs=0.006)
    up = model.up_stages[0]
    assert sum(millions(layer.attention) for layer in up.layers) == pytest.approx(135.15, abs=0.006)
    assert sum(millions(layer.resnet) for layer in up.layers) == pytest.approx(23.86, abs=0.006)


def test_nano_fits_a_repository_of_eight_megabytes():
    assert 1.9 < millions(on_meta("nano")) < 2.1
    assert on_meta("nano").config.sample_size == 8


def test_nano_sees_every_latent_from_every_latent():
    model = on_meta("nano")
    transformers = [m for m in model.modules() if isinstance(m, Transformer2D)]
    assert len(transformers) == 5 and all(b.attn1 is not None for t in transformers for b in t.transformer_blocks)
    assert all(stage.sampler is None for stage in [*model.down_stages, *model.up_stages])


# --- layout ---


def test_self_attention_acts_at_the_lowest_resolution_only():
    model = on_meta()
    stages = [*model.down_stages, *model.up_stages]
    for stage, width in zip(stages, (256, 512, 896, 896, 512, 256), strict=True):
        blocks = [m for m in stage.modules() if isinstance(m, Transformer2D)]
        assert all((b.attn1 is not None) == (width == 896) for m in blocks for b in m.transformer_blocks)
        assert all(b.norm1 is not None or b.attn1 is None for m in blocks for b in m.transformer_blocks)
    assert [sum(isinstance(m, Transformer2D) for m in stage.modules()) for stage in stages] == [2, 2, 2, 3, 3, 0]
    assert all(m.to_k.out_features == 64 for m in model.modules() if isinstance(m, MultiQueryAttention))


def test_first_stage_replaces_the_blocks_it_says():
    def residual_blocks(mode):
        model = tiny(first_stage=mode, last_up_attention=mode == "all_five")
        stages = (model.down_stages[0], model.up_stages[-1])
        return [[layer.resnet is not None for layer in stage.layers] for stage in stages]

    assert residual_blocks("down_all") == [[False, False], [True, True, True]]
    assert residual_blocks("down_last") == [[True, False], [True, True, True]]
    assert residual_blocks("all_five") == [[False, False], [False, False, False]]
    assert residual_blocks("dreamlite") == [[True, True], [True, True, True]]


# --- computation ---


@pytest.mark.parametrize("layout", LAYOUTS)
def test_forward_is_finite_backward_reaches_every_parameter_and_attention_forms_agree(layout):
    model = tiny(**LAYOUTS[layout])
    given = inputs()
    velocity = model(**given).sample
    assert velocity.shape == given["sample"].shape and velocity.isfinite().all()
    velocity.square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    model.set_attention_form("explicit")
    torch.testing.assert_close(model(**given).sample, velocity, atol=1e-5, rtol=1e-5)


def test_gradients_of_both_attention_forms_agree():
    model, given = tiny(), inputs()
    gradients = []
    for form in ("fused", "explicit"):
        model.set_attention_form(form)
        model.zero_grad()
        model(**given).sample.square().mean().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for fused, explicit in zip(*gradients, strict=True):
        torch.testing.assert_close(explicit, fused, atol=1e-5, rtol=1e-4)


def test_gradient_checkpointing_gives_the_same_gradients():
    gradients = []
    for checkpointing in (False, True):
        model = tiny()
        if checkpointing:
            model.enable_gradient_checkpointing()
        model(**inputs()).sample.square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain)


def test_masked_tokens_have_no_influence():
    model, given = tiny(), inputs()
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 0, 0]])
    masked = model(**given, encoder_attention_mask=mask).sample
    cut = {**given, "encoder_hidden_states": given["encoder_hidden_states"][:, :3]}
    torch.testing.assert_close(masked, model(**cut).sample, atol=1e-5, rtol=1e-5)
    assert torch.equal(masked, model(**given, encoder_attention_mask=mask.bool()).sample)
    assert not torch.allclose(masked, model(**given).sample, atol=1e-5)


@pytest.mark.parametrize("condition", ["timestep", "encoder_hidden_states"])
def test_every_condition_has_influence(condition):
    model, given = tiny(), inputs()
    other = given | {condition: given[condition].roll(1, 0)}
    assert (model(**given).sample - model(**other).sample).abs().max() > 1e-4


def test_a_sample_does_not_depend_on_its_batch_and_timesteps_broadcast():
    model, given = tiny(), inputs(batch=3)
    together = model(**{**given, "timestep": 500}).sample
    alone = model(**{**given, "timestep": torch.tensor([500.0])} | {k: given[k][1:2] for k in given if k != "timestep"})
    torch.testing.assert_close(alone.sample, together[1:2], atol=1e-5, rtol=1e-5)
    assert torch.equal(model(**{**given, "timestep": torch.full((3,), 500.0)}, return_dict=False)[0], together)


def test_channels_last_agrees():
    model, given = tiny().eval(), inputs()
    wanted = model(**given).sample
    model = model.to(memory_format=torch.channels_last)
    given["sample"] = given["sample"].to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(**given).sample, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", ["fused", "explicit"])
def test_half_precision_agrees(form):
    model, given = tiny().eval(), inputs()
    model.set_attention_form(form)
    with torch.no_grad():
        wanted = model(**given).sample
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(**given).sample
        half = model.to(torch.bfloat16)(**inputs(dtype=torch.bfloat16)).sample
    assert half.dtype == torch.bfloat16
    for other in (half, mixed):
        assert (other.float() - wanted).abs().mean() < 0.05 * wanted.abs().mean()


@pytest.mark.parametrize("form", ["fused", "explicit"])
def test_compiles_as_one_graph(form):
    model, given = tiny(block_out_channels=(16, 32), transformer_layers_per_block=(1, 1), layers_per_block=1), inputs()
    model.set_attention_form(form)
    mask = torch.ones(2, 5, dtype=torch.bool)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    actual = compiled(**given, encoder_attention_mask=mask).sample
    torch.testing.assert_close(actual, model(**given, encoder_attention_mask=mask).sample)


def test_copies_are_independent():
    model, given = tiny(), inputs()
    twin = copy.deepcopy(model)
    assert torch.equal(twin(**given).sample, model(**given).sample)
    twin.set_attention_form("explicit")
    twin.conv_out.bias.data += 1
    assert not torch.equal(twin(**given).sample, model(**given).sample)
    assert {m.form for m in model.modules() if isinstance(m, MultiQueryAttention)} == {"fused"}


# --- files and adapters ---


def test_saved_model_is_bit_exact(tmp_path):
    model, given = tiny(**LAYOUTS["all_five"]).eval(), inputs()
    model.save_pretrained(tmp_path)
    loaded = SnapGenUNet2DConditionModel.from_pretrained(tmp_path)
    assert torch.equal(loaded(**given).sample, model(**given).sample)
    assert loaded.config.first_stage == "all_five" and loaded.config.num_kv_heads == 2


def test_a_model_saved_with_options_that_are_gone_still_loads(tmp_path):
    model, given = tiny().eval(), inputs()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    older = config | {"pooled_text_cond": False, "pooled_text_dim": 2048}
    (tmp_path / "config.json").write_text(json.dumps(older))
    loaded = SnapGenUNet2DConditionModel.from_pretrained(tmp_path)
    assert torch.equal(loaded(**given).sample, model(**given).sample)


def test_lora_starts_without_effect_and_learns_alone(tmp_path):
    model, given = tiny(), inputs()
    wanted = model(**given).sample
    model.requires_grad_(False)
    model.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v", "to_out"]))
    torch.testing.assert_close(model(**given).sample, wanted)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    attentions = sum(isinstance(module, MultiQueryAttention) for module in model.modules())
    assert len(trained) == attentions * 4 * 2 and all("lora" in name for name in trained)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    tuned = model(**given).sample
    assert not torch.allclose(tuned, wanted, atol=1e-4)
    model.save_lora_adapter(tmp_path)
    fresh = tiny()
    fresh.load_lora_adapter(tmp_path, prefix=None, weight_name="pytorch_lora_weights.safetensors", use_safetensors=True)
    torch.testing.assert_close(fresh(**given).sample, tuned)


# --- bad input ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample": torch.zeros(2, 4, 8, 6)}, r"8 x 6 latents \(height x width\): both must be multiples of 4"),
        ({"sample": torch.zeros(2, 3, 8, 8)}, r"sample must be \[batch, 4, height, width\], not \[2, 3, 8, 8\]"),
        ({"sample": torch.zeros(4, 8, 8)}, r"sample must be \[batch, 4, height, width\]"),
        ({"encoder_hidden_states": torch.zeros(2, 5, 13)}, r"must be \[2, tokens, 12\], not \[2, 5, 13\]"),
        ({"encoder_hidden_states": torch.zeros(1, 5, 12)}, r"must be \[2, tokens, 12\], not \[1, 5, 12\]"),
        ({"encoder_attention_mask": torch.ones(2, 4)}, r"encoder_attention_mask must be \[2, 5\], not \[2, 4\]"),
        ({"timestep": torch.zeros(3)}, r"timestep must be one number or \[2\], not \[3\]"),
    ],
)
def test_input_it_cannot_take_raises(change, message):
    with pytest.raises(ValueError, match=message):
        tiny()(**inputs() | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first_stage": "none"}, "first_stage must be one of down_all, down_last, all_five, dreamlite, not 'none'"),
        ({"sampler_conv": "5x5"}, "sampler_conv must be one of full3x3, separable, no_up_conv, not '5x5'"),
        ({"expansion_mode": "wide"}, "expansion_mode must be one of per_conv, block_out, block_in, not 'wide'"),
        ({"rope": "half"}, "rope must be one of none, self_attention, all, not 'half'"),
        ({"transformer_layers_per_block": (1, 2)}, "one entry for each stage"),
        ({"transformer_layers_per_block": (0, 1, 1)}, "must begin with 1 or more"),
        ({"first_stage": "all_five"}, "set last_up_attention=True"),
        ({"num_kv_heads": 3}, "num_kv_heads must divide"),
    ],
)
def test_config_it_cannot_build_raises(change, message):
    with pytest.raises(ValueError, match=message):
        tiny(**change)


def test_unknown_attention_form_raises():
    with pytest.raises(ValueError, match="form must be one of fused, explicit, not 'flash'"):
        tiny().set_attention_form("flash")
