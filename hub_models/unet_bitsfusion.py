"""UNets of Stable Diffusion's shape, which BitsFusion (arXiv 2406.04333) quantises: diffusers' own class by presets."""

from typing import Any, ClassVar

from diffusers import UNet2DConditionModel

from .presets import PresetMixin


class BitsFusionUNet2DConditionModel(PresetMixin):
    """Makes `diffusers.UNet2DConditionModel`s, for folders of weights that plain diffusers is to load.

    Presets: "sd15" is the network of Stable Diffusion 1.5, with 859,520,964 parameters; "nano" has its kinds of blocks
    at two resolutions, for latents of 16 channels and 8 x 8.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "nano": {
            "sample_size": 8,
            "in_channels": 16,
            "out_channels": 16,
            "block_out_channels": (64, 112),
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "layers_per_block": 1,
            "attention_head_dim": 4,  # heads, as diffusers reads it
            "cross_attention_dim": 128,
            "norm_num_groups": 16,
        },
        "sd15": {"sample_size": 64, "cross_attention_dim": 768},
    }

    def __new__(cls, **config: Any) -> UNet2DConditionModel:
        return UNet2DConditionModel(**config)

    from_config = UNet2DConditionModel.from_config
    from_pretrained = UNet2DConditionModel.from_pretrained
