"""A packed pipeline that is exported within seconds, and its bundle: exported once for tests of several folders."""

from pathlib import Path

import pytest
import torch
from bundles import made_once, need_back_end
from diffusers import AutoencoderKL, UNet2DConditionModel
from tiny_bitsfusion import OPTIONS, make_pipeline, packed

from pocket_diffusers.hub_models.quantizer_bitsfusion import BitsFusionConfig
from pocket_diffusers.pipelines.export import export_bundle
from pocket_diffusers.pipelines.export.export_bundle import export_pipeline
from pocket_diffusers.pipelines.pipeline_bitsfusion import BitsFusionPipeline
from pocket_diffusers.pipelines.repository import save_repository

CACHED = [20 * step + 1 for step in reversed(range(50))]
"""Timesteps of 50, 25, 10, 5, 2 and 1 steps."""


def make_shallow() -> BitsFusionPipeline:
    """Of one block each, for exporters take their time for every operator; pictures have 4 x 4 pixels."""
    torch.manual_seed(0)
    names = {"down_block_types": ("DownBlock2D",), "up_block_types": ("CrossAttnUpBlock2D",), "mid_block_type": None}
    unet = UNet2DConditionModel(**{**OPTIONS, **names, "block_out_channels": (16,)}).eval()
    vae = AutoencoderKL(latent_channels=4, block_out_channels=(8,), norm_num_groups=4, mid_block_add_attention=False)
    bits = BitsFusionConfig({"conv_in": 8}, 2, cached_timesteps=CACHED)
    pipeline = make_pipeline(unet=packed(unet, bits), vae=vae.eval())
    encoder = pipeline.text_encoder
    encoder.encoder.layers = encoder.encoder.layers[:1]
    encoder.config.num_hidden_layers = 1
    return pipeline


def save_shallow(folder: Path) -> Path:
    """The pipeline as a user's own folder."""
    return save_repository(make_shallow(), folder)


def shallow_bundle(folder: Path, factory: pytest.TempPathFactory) -> Path:
    """The bundle of what `save_shallow` saved, in fp32 for ONNX; tests leave it as it is.

    Its costs are not measured, which takes a process for each component.
    """
    need_back_end("onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_bundle, "measure", lambda *given: {})
        return made_once(
            "bitsfusion-shallow-onnx", factory, lambda place: export_pipeline("bitsfusion", str(folder), output=place)
        )
