"""The error of an output: streamed weights against whole models, and models whose inputs are others."""

from pathlib import Path

import pytest
import torch
from diffusers import (
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    UNet2DModel,
)

from pocket_diffusers.pipelines.output_error import noise_inputs, output_error
from pocket_diffusers.pipelines.sharded_weights import read_tensors

BLOCKS = {"block_out_channels": (8,), "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 8}
HEADS = {"num_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2, "sample_size": 8, "in_channels": 4}
MODELS = {
    "unet": lambda: UNet2DModel(
        **BLOCKS, add_attention=False, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",)
    ),
    "conditional": lambda: UNet2DConditionModel(
        **BLOCKS, cross_attention_dim=12, attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("UpBlock2D",), mid_block_type=None,
    ),
    "sd3": lambda: SD3Transformer2DModel(
        **HEADS, joint_attention_dim=12, caption_projection_dim=16, pooled_projection_dim=10, out_channels=4,
        pos_embed_max_size=8,
    ),
    "pixart": lambda: PixArtTransformer2DModel(**HEADS, out_channels=8, cross_attention_dim=16, caption_channels=12),
}  # fmt: skip


def measured(model, folder: Path, packed: Path) -> tuple[float | None, list[int]]:
    """The error, and how many tensors were read at once."""
    counts = []

    def read(names):
        counts.append(len(names))
        return dict(read_tensors([folder / "diffusion_pytorch_model.safetensors"], names))

    return output_error(dict(model.config), type(model), read, packed, None), counts


@pytest.mark.parametrize("name", MODELS)
def test_streamed_weights_answer_as_the_whole_model_does(name, tmp_path):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    model.save_pretrained(tmp_path / "plain")
    inputs = noise_inputs(model)
    with torch.no_grad():
        expected = model(**inputs).sample
        for parameter in model.parameters():
            parameter.mul_(1.01)
        found = model(**inputs).sample
    model.save_pretrained(tmp_path / "other")
    error, counts = measured(model, tmp_path / "plain", tmp_path / "other")
    assert error == pytest.approx(float((found - expected).norm() / expected.norm()), rel=1e-4) and error > 0.01
    assert measured(model, tmp_path / "other", tmp_path / "other")[0] == 0
    assert len(counts) > 10 and max(counts) <= 2


def test_models_of_other_inputs_and_of_zeros_have_none(tmp_path):
    assert noise_inputs(FluxTransformer2DModel(num_layers=0, num_single_layers=0)) is None
    classes = UNet2DModel(
        **BLOCKS, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), num_class_embeds=3
    )
    assert noise_inputs(classes) is None
    torch.manual_seed(0)
    model = MODELS["unet"]()
    torch.nn.init.zeros_(model.conv_out.weight)
    torch.nn.init.zeros_(model.conv_out.bias)
    model.save_pretrained(tmp_path)
    assert measured(model, tmp_path, tmp_path)[0] is None
    for parameter in model.parameters():
        parameter.data.fill_(0.1)
    needs_lists = UNet2DConditionModel(
        **BLOCKS, cross_attention_dim=12, attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("UpBlock2D",), mid_block_type=None, encoder_hid_dim=7, encoder_hid_dim_type="image_proj",
    )  # fmt: skip
    needs_lists.save_pretrained(tmp_path / "image")
    assert measured(needs_lists, tmp_path / "image", tmp_path / "image")[0] is None
