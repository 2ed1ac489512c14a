"""What AsCAN's UNet is and computes; what all models promise is in `tests/contracts`."""

import pytest
import torch
from peft import LoraConfig
from tiny_ascan import UNET, unet_inputs

from pocket_diffusers.eval.scores.operations import count_operations
from pocket_diffusers.hub_models.layers.mbconv import MBConv
from pocket_diffusers.hub_models.layers.relative_attention import RelativeTransformerBlock
from pocket_diffusers.hub_models.unet_ascan import AsCANUNet2DModel


def on_meta(preset, **overrides):
    with torch.device("meta"):
        return AsCANUNet2DModel.from_preset(preset, **overrides)


def test_imagenet_preset_costs_about_half_of_dit():
    """DiT-XL/2 takes 118.6 (multiply-adds, in 10^9) at 256 pixels, and AsCAN's paper claims half of it."""
    model = on_meta("imagenet256").eval()
    sample, label = torch.empty(1, 4, 32, 32, device="meta"), torch.zeros(1, dtype=torch.long, device="meta")
    gmacs = count_operations(model, sample, torch.zeros(1, device="meta"), label) / 2e9
    assert 50 < gmacs <= 60


def test_text_preset_takes_text_alone():
    model = on_meta("text")
    assert model.class_embedding is None and model.config.cross_attention_dim == 2816
    blocks = [block for block in model.modules() if isinstance(block, RelativeTransformerBlock)]
    assert blocks and all(block.cross_attention is not None for block in blocks)


def test_nano_draws_pocketworlds_pairs_in_its_own_latents():
    model = on_meta("nano")
    assert (model.config.sample_size, model.config.num_classes, model.config.in_channels) == (8, 50, 16)


def test_the_way_up_reflects_the_way_down():
    model = UNET.make(down_stages=("CC", "CCT", "TC"))
    kinds = {"C": MBConv, "T": RelativeTransformerBlock}
    down = [[type(block) for block in blocks] for blocks in model.down_blocks]
    assert down == [[kinds[letter] for letter in stage] for stage in ("CC", "CCT", "TC")]
    assert [[type(block) for block in blocks] for blocks in model.up_blocks] == [stage[::-1] for stage in down[::-1]]
    pooled = [[block.pool is not None for block in blocks] for blocks in model.down_blocks]
    assert pooled == [[False, False], [True, False, False], [True, False]]
    assert all(block.pool is None for blocks in model.up_blocks for block in blocks)


def test_each_block_of_the_way_up_sees_its_reflection():
    """What a block of the way down makes is what its mirror image gets beside its own input."""
    model, made, got = UNET.make(), [], []
    for blocks in model.down_blocks:
        for block in blocks:
            block.register_forward_hook(lambda module, given, output: made.append(output))
    for blocks in model.up_blocks:
        for block in blocks:
            block.register_forward_pre_hook(lambda module, given: got.append(given[0]))
    model(**unet_inputs(model, 2))
    assert len(made) == len(got) == 6
    for skip, x in zip(reversed(made), got, strict=True):
        assert torch.equal(x[:, -skip.shape[1] :], skip)


def test_a_new_model_predicts_nothing():
    model = AsCANUNet2DModel(**UNET.options)
    assert not model(**unet_inputs(model, 2)).sample.any()


def test_classes_time_and_text_matter():
    model = UNET.make(**UNET.layouts["both"])
    given = unet_inputs(model, 2)
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
    model = UNET.make(**UNET.layouts["text"])
    given, mask = unet_inputs(model, 2), torch.tensor([[1, 1, 0], [1, 0, 0]])
    base = model(**given, encoder_attention_mask=mask).sample
    text = given["encoder_hidden_states"] + 9 * (1 - mask)[..., None]
    changed = model(**{**given, "encoder_hidden_states": text}, encoder_attention_mask=mask.bool()).sample
    torch.testing.assert_close(base, changed, atol=1e-5, rtol=1e-5)
    every = model(**given, encoder_attention_mask=torch.ones(2, 3)).sample
    torch.testing.assert_close(every, model(**given).sample, atol=1e-5, rtol=1e-5)


def test_one_timestep_for_all_and_other_sizes():
    model = UNET.make()
    given = {**unet_inputs(model, 2), "sample": torch.randn(2, 4, 12, 12)}
    for timestep in (500.0, torch.tensor(500), torch.tensor([500])):
        expected = model(**{**given, "timestep": torch.tensor([500.0, 500.0])}).sample
        assert torch.equal(model(**{**given, "timestep": timestep}).sample, expected)
    assert model.size_multiple == 4
    (sample,) = model(given["sample"][..., :4], 3.0, given["class_labels"], return_dict=False)
    assert sample.shape == (2, 4, 12, 4)


def test_lora_attaches():
    model = UNET.make()
    model.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_kv"], init_lora_weights=False))
    given = unet_inputs(model, 2)
    adapted = model(**given).sample
    model.disable_adapters()
    assert not torch.equal(adapted, model(**given).sample)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_labels": torch.zeros(2, dtype=torch.long)}, "class_labels cannot be used"),
        ({"encoder_hidden_states": None}, "encoder_hidden_states are needed"),
        ({"encoder_hidden_states": torch.zeros(2, 3, 7)}, r"must be \[2, tokens, 6\], not \[2, 3, 7\]"),
        ({"encoder_hidden_states": torch.zeros(1, 3, 6)}, r"must be \[2, tokens, 6\]"),
        ({"encoder_attention_mask": torch.ones(2, 4)}, "one entry for each text token"),
    ],
)
def test_bad_texts(changes, message):
    model = UNET.make(**UNET.layouts["text"])
    with pytest.raises(ValueError, match=message) as caught:
        model(**{**unet_inputs(model, 2), **changes})
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("labels", [[0, 6], [-1, 0]])
def test_labels_out_of_range(labels):
    model = UNET.make()
    with pytest.raises((ValueError, IndexError)):
        model(**{**unet_inputs(model, 2), "class_labels": torch.tensor(labels)})


def test_an_exported_graph_takes_any_batch():
    unet = UNET.make(down_stages=("C", "T"), widths=(16, 24))
    unet.set_attention_form("explicit")  # as exports do
    batch = torch.export.Dim("batch", min=1, max=64)
    example = tuple(unet_inputs(unet, 2).values())
    program = torch.export.export(unet, example, dynamic_shapes=({0: batch},) * 3, strict=False)
    inputs = tuple(unet_inputs(unet, 3).values())
    with torch.no_grad():
        assert torch.allclose(program.module()(*inputs).sample, unet(*inputs).sample, atol=1e-4)
