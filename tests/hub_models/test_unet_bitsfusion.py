"""UNets of Stable Diffusion's shape; what all models promise is in `tests/contracts`."""

import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from tiny_bitsfusion import OPTIONS

from pocket_diffusers.hub_models.quantizer_bitsfusion import BitsFusionConfig
from pocket_diffusers.hub_models.unet_bitsfusion import BitsFusionUNet2DConditionModel


def test_it_makes_models_of_plain_diffusers(tmp_path):
    made = BitsFusionUNet2DConditionModel(**OPTIONS)
    assert type(made) is UNet2DConditionModel
    made.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["_class_name"] == "UNet2DConditionModel"
    for loaded in (kind.from_pretrained(tmp_path) for kind in (UNet2DConditionModel, BitsFusionUNet2DConditionModel)):
        assert type(loaded) is UNet2DConditionModel
        assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in made.state_dict().items())


def test_a_config_of_another_preset_may_be_changed():
    with torch.device("meta"):
        made = BitsFusionUNet2DConditionModel.from_preset("nano", sample_size=16)
    assert made.config.sample_size == 16 and made.config.block_out_channels == (64, 112)
    with pytest.raises(ValueError, match="preset of BitsFusionUNet2DConditionModel 'sd14' is unknown: .*'sd15'"):
        BitsFusionUNet2DConditionModel.from_preset("sd14")


def test_the_large_one_has_the_layers_of_the_published_recipe():
    with torch.device("meta"):
        made = BitsFusionUNet2DConditionModel.from_preset("sd15")
    assert len(BitsFusionConfig.published().layer_bits(made)) == 258


@torch.no_grad()
def test_the_nano_one_attends_at_both_resolutions_where_stable_diffusion_does():
    torch.manual_seed(0)
    nano = BitsFusionUNet2DConditionModel.from_preset("nano").eval()
    where = {name.partition(".attentions")[0] for name, _ in nano.named_modules() if name.endswith("attn2")}
    assert where == {"down_blocks.0", "mid_block", "up_blocks.1"}
    x, text = torch.randn(2, 16, 8, 8), torch.randn(2, 77, 128)
    answer = nano(x, 500, text).sample
    assert answer.shape == x.shape and (answer - nano(x, 500, text.flip(0)).sample).abs().max() > 1e-4
