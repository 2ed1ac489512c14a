"""A model in low-bit training goes to a folder and comes back bit for bit, and what is damaged is refused."""

import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from pocket_diffusers.hub_models.layers.time_embedding_cache import replaced_layers
from pocket_diffusers.hub_models.quantizer_bitsfusion import (
    BitsFusionConfig,
    low_bit_layers,
    pack_model,
    prepare_training,
)
from pocket_diffusers.training.shadow_weights_bitsfusion import QUANTIZATION, SCALES, load_shadow, save_shadow

WEIGHTS = "diffusion_pytorch_model.safetensors"
CONFIG = BitsFusionConfig(
    {"conv_in": 8, "mid_block.resnets.0.conv1": 1}, 3, modules_to_not_convert=["proj_in"], cached_timesteps=[7, 250.5]
)


def make_unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=4, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2, cross_attention_dim=8, norm_num_groups=4,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    """Its weights and scales have moved away from where rounding alone would put them."""
    model = prepare_training(make_unet(), CONFIG)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 0.1 * torch.rand(parameter.shape, generator=generator))
    return model


@pytest.fixture
def folder(trained, tmp_path):
    return save_shadow(trained, tmp_path / "model")


def test_weights_scales_and_bits_come_back(trained, folder):
    read = load_shadow(UNet2DConditionModel, folder)
    stored, again = trained.state_dict(), read.state_dict()
    assert list(stored) == list(again) and sum(key.endswith(".scales") for key in stored) > 20
    assert all(torch.equal(stored[key], again[key]) for key in stored)
    assert read.config["quantization_config"].to_dict() == CONFIG.to_dict()
    bits = {name: layer.levels.bits for name, layer in low_bit_layers(trained).items()}
    assert {name: layer.levels.bits for name, layer in low_bit_layers(read).items()} == bits
    assert {bits["conv_in"], bits["conv_out"], bits["mid_block.resnets.0.conv1"]} == {8, 1}
    assert all(parameter.requires_grad for parameter in read.parameters())
    assert not set(bits) & set(replaced_layers(make_unet()))


def test_what_comes_back_packs_to_the_same_and_learns_on(folder, trained, tmp_path):
    read = load_shadow(UNet2DConditionModel, folder)
    read(torch.randn(1, 4, 4, 4), 3, torch.randn(1, 5, 8)).sample.sum().backward()
    assert all(layer.scales.grad is not None for layer in low_bit_layers(read).values())
    pack_model(read).save_pretrained(tmp_path / "read")
    other = load_shadow(UNet2DConditionModel, save_shadow(trained, tmp_path / "again"))
    pack_model(other).save_pretrained(tmp_path / "other")
    assert (tmp_path / "read" / WEIGHTS).read_bytes() == (tmp_path / "other" / WEIGHTS).read_bytes()
    layer, source = read.conv_in, trained.conv_in
    assert torch.equal(layer.scales, source.scales.detach().half())


def test_saving_changes_nothing_and_saving_again_gives_the_same_files(trained, folder, tmp_path):
    save_shadow(load_shadow(UNet2DConditionModel, folder), tmp_path / "again")
    for name in (WEIGHTS, SCALES, QUANTIZATION):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert trained.conv_in.scales.requires_grad and not trained.conv_in.is_frozen
    assert "quantization_config" in trained.config


def test_diffusers_alone_reads_the_weights_behind_the_rounded_ones(trained, folder):
    plain = UNet2DConditionModel.from_pretrained(folder)
    assert not low_bit_layers(plain) and "quantization_config" not in json.loads((folder / "config.json").read_text())
    assert torch.equal(plain.conv_in.weight, trained.conv_in.weight)
    assert torch.equal(plain.conv_in.bias, trained.conv_in.bias)


@pytest.mark.parametrize("name", [QUANTIZATION, SCALES, WEIGHTS])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(OSError if name == WEIGHTS else FileNotFoundError, match=name.removesuffix(".safetensors")):
        load_shadow(UNet2DConditionModel, folder)


@pytest.mark.parametrize("name", [QUANTIZATION, SCALES, WEIGHTS])
def test_a_cut_file_is_named(folder, name):
    (folder / name).write_bytes((folder / name).read_bytes()[:-50])
    with pytest.raises(OSError if name == WEIGHTS else ValueError, match=name):
        load_shadow(UNet2DConditionModel, folder)


def with_scales(folder, change):
    scales = load_file(folder / SCALES)
    change(scales)
    save_file(scales, folder / SCALES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("conv_in"), "must hold scales of each low-bit layer and no others, unlike 'conv_in'"),
        (lambda s: s.update(other=torch.ones(2)), "must hold scales of each low-bit layer and no others, unlike 'oth"),
        (lambda s: s.update(conv_in=torch.ones(7)), rf"{SCALES}: conv_in must be \[8\], not \[7\]"),
        (lambda s: s.update(conv_in=torch.ones(8, 1)), r"conv_in must be \[8\], not \[8, 1\]"),
    ],
)
def test_scales_of_another_model_are_refused(folder, change, message):
    with_scales(folder, change)
    with pytest.raises(ValueError, match=message):
        load_shadow(UNet2DConditionModel, folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"default_bits": 9}', "bits must be a whole number from 1 to 8, not 9"),
        ('{"default_bitz": 2}', "must not hold 'default_bitz'"),
        ('{"bits": {"conv_inn": 2}}', r"not 'conv_inn' \(nearest: 'conv_in'\)"),
        ("[]", f"{QUANTIZATION} must hold a JSON object"),
    ],
)
def test_bits_that_mean_nothing_are_refused(folder, content, message):
    (folder / QUANTIZATION).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_shadow(UNet2DConditionModel, folder)
