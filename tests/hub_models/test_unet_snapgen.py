"""What SnapGen's UNet is and computes; what all models promise is in `tests/contracts`."""

import copy
import json

import pytest
import torch
from peft import LoraConfig
from tiny_snapgen import UNET, unet_inputs

from pocket_diffusers.hub_models.layers.attention import MultiQueryAttention, Transformer2D
from pocket_diffusers.hub_models.unet_snapgen import SnapGenUNet2DConditionModel

DREAMLITE = {"in_channels": 4, "out_channels": 4, **UNET.layouts["dreamlite"]}


def millions(module):
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def on_meta(preset="paper", **overrides):
    with torch.device("meta"):
        return SnapGenUNet2DConditionModel.from_preset(preset, **overrides)


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


def test_nano_sees_every_latent_from_every_latent():
    model = on_meta("nano")
    transformers = [m for m in model.modules() if isinstance(m, Transformer2D)]
    assert len(transformers) == 5 and all(b.attn1 is not None for t in transformers for b in t.transformer_blocks)
    assert all(stage.sampler is None for stage in [*model.down_stages, *model.up_stages])


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
        model = UNET.make(first_stage=mode, last_up_attention=mode == "all_five")
        stages = (model.down_stages[0], model.up_stages[-1])
        return [[layer.resnet is not None for layer in stage.layers] for stage in stages]

    assert residual_blocks("down_all") == [[False, False], [True, True, True]]
    assert residual_blocks("down_last") == [[True, False], [True, True, True]]
    assert residual_blocks("all_five") == [[False, False], [False, False, False]]
    assert residual_blocks("dreamlite") == [[True, True], [True, True, True]]


def test_gradients_of_both_attention_forms_agree():
    model = UNET.make()
    given = unet_inputs(model, 2)
    gradients = []
    for form in ("fused", "explicit"):
        model.set_attention_form(form)
        model.zero_grad()
        model(**given).sample.square().mean().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for fused, explicit in zip(*gradients, strict=True):
        torch.testing.assert_close(explicit, fused, atol=1e-5, rtol=1e-4)


def test_masked_tokens_have_no_influence():
    model = UNET.make()
    given = unet_inputs(model, 2)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 0, 0]])
    masked = model(**given, encoder_attention_mask=mask).sample
    cut = {**given, "encoder_hidden_states": given["encoder_hidden_states"][:, :3]}
    torch.testing.assert_close(masked, model(**cut).sample, atol=1e-5, rtol=1e-5)
    assert torch.equal(masked, model(**given, encoder_attention_mask=mask.bool()).sample)
    assert not torch.allclose(masked, model(**given).sample, atol=1e-5)


@pytest.mark.parametrize("condition", ["timestep", "encoder_hidden_states"])
def test_every_condition_has_influence(condition):
    model = UNET.make()
    given = unet_inputs(model, 2)
    other = given | {condition: given[condition].roll(1, 0)}
    assert (model(**given).sample - model(**other).sample).abs().max() > 1e-4


@pytest.mark.parametrize("form", ["fused", "explicit"])
def test_compiles_as_one_graph(form):
    model = UNET.make(**UNET.layouts["two_stages"])
    given = unet_inputs(model, 2)
    model.set_attention_form(form)
    mask = torch.ones(2, 5, dtype=torch.bool)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    actual = compiled(**given, encoder_attention_mask=mask).sample
    torch.testing.assert_close(actual, model(**given, encoder_attention_mask=mask).sample)


def test_copies_are_independent():
    model = UNET.make()
    given = unet_inputs(model, 2)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(**given).sample, model(**given).sample)
    twin.set_attention_form("explicit")
    twin.conv_out.bias.data += 1
    assert not torch.equal(twin(**given).sample, model(**given).sample)
    assert {m.form for m in model.modules() if isinstance(m, MultiQueryAttention)} == {"fused"}


def test_a_model_saved_with_options_that_are_gone_still_loads(tmp_path):
    model = UNET.make()
    given = unet_inputs(model, 2)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    older = config | {"pooled_text_cond": False, "pooled_text_dim": 2048}
    (tmp_path / "config.json").write_text(json.dumps(older))
    loaded = SnapGenUNet2DConditionModel.from_pretrained(tmp_path)
    assert torch.equal(loaded(**given).sample, model(**given).sample)


def test_lora_starts_without_effect_and_learns_alone(tmp_path):
    model = UNET.make()
    given = unet_inputs(model, 2)
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
    fresh = UNET.make()
    fresh.load_lora_adapter(tmp_path, prefix=None, weight_name="pytorch_lora_weights.safetensors", use_safetensors=True)
    torch.testing.assert_close(fresh(**given).sample, tuned)


def test_one_timestep_serves_all_samples():
    model = UNET.make()
    given = unet_inputs(model, 3)
    together = model(**{**given, "timestep": 500}).sample
    assert torch.equal(model(**{**given, "timestep": torch.full((3,), 500.0)}, return_dict=False)[0], together)


def test_unknown_attention_form_raises():
    with pytest.raises(ValueError, match="form must be one of fused, explicit, not 'flash'"):
        UNET.make().set_attention_form("flash")
