"""BitsFusion's pipeline with the parts of Stable Diffusion, tiny and real, and its UNet."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from contract_cases import ImageSamplerCase, ModelCase
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from little_texts import make_clip, make_tokenizer
from torch import Tensor

from pocket_diffusers.hub_models.quantizer_bitsfusion import BitsFusionConfig, pack_model, prepare_training
from pocket_diffusers.hub_models.unet_bitsfusion import BitsFusionUNet2DConditionModel
from pocket_diffusers.pipelines.pipeline_bitsfusion import BitsFusionPipeline

WIDTH, TOKENS = 16, 8
OPTIONS = {
    "sample_size": 4, "in_channels": 4, "out_channels": 4, "block_out_channels": (16, 32), "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "attention_head_dim": 2, "cross_attention_dim": WIDTH, "norm_num_groups": 8,
}  # fmt: skip
MIXED_BITS = BitsFusionConfig({"conv_in": 8, "mid_block.resnets.0.conv1": 1}, 3, cached_timesteps=range(1000))


def make_components() -> dict[str, Any]:
    """Every component by name, as Stable Diffusion has them, in full precision."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        latent_channels=4, block_out_channels=(8, 16), norm_num_groups=4, sample_size=8, scaling_factor=0.6,
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
    ).eval()  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    return {
        "unet": UNet2DConditionModel(**OPTIONS).eval(),
        "vae": vae,
        "scheduler": scheduler,
        "text_encoder": make_clip(WIDTH),
        "tokenizer": make_tokenizer(),
    }


def packed(unet: UNet2DConditionModel, config: BitsFusionConfig = MIXED_BITS) -> UNet2DConditionModel:
    """The same UNet with layers of few bits and a cache of time embeddings, in place."""
    return pack_model(prepare_training(unet, config))


def make_pipeline(**components: Any) -> BitsFusionPipeline:
    """In full precision; 8 x 8 pixels, multiples of 2."""
    pipeline = BitsFusionPipeline(**{**make_components(), **components})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make_packed_pipeline(**components: Any) -> BitsFusionPipeline:
    pipeline = make_pipeline(**components)
    packed(pipeline.unet)
    return pipeline


EMBEDS = torch.zeros(1, TOKENS, WIDTH)
REFUSED_CALLS = [
    ({"prompt": ""}, "prompt is empty"),
    ({"prompt": []}, "prompt must be a string or a list"),
    ({"prompt": ["a", " "]}, r"prompt \(entry 1\) is empty"),
    ({"prompt": None}, "either prompt or prompt_embeds"),
    ({"prompt_embeds": EMBEDS}, "not both"),
    ({"negative_prompt": ["a", "b"]}, "negative_prompt is a list of 2, but there are 1"),
    ({"negative_prompt": "a", "negative_prompt_embeds": EMBEDS}, "not both"),
    ({"negative_prompt_embeds": EMBEDS.repeat(2, 1, 1)}, "holds 2 prompts"),
    ({"negative_prompt_embeds": EMBEDS[..., :7]}, r"must be \[prompts, tokens, 16\], not \[1, 8, 7\]"),
    ({"negative_prompt_embeds": EMBEDS[:, :5]}, "must have equally many tokens, not 8 and 5"),
    ({"prompt": None, "prompt_embeds": EMBEDS[:, :5]}, "must have equally many tokens, not 5 and 8"),
    ({"num_inference_steps": 1001}, "num_inference_steps must be at most 1000, .* not 1001"),
]
PIPELINES = {
    "text-to-image": ImageSamplerCase(
        make=make_packed_pipeline,
        argument="prompt",
        values=("a red cube", "two green cone", "the blue sphere right of a cube"),
        copies="num_images_per_prompt",
        watched={"latents": 1, "prompt_embeds": 2},
        refused=REFUSED_CALLS,
        misfits=[
            ({"tokenizer": None}, "text_encoder needs its tokenizer"),
            ({"text_encoder": make_clip(8)}, "text_encoder is 8 wide, but the UNet attends to features 16 wide"),
            (
                {"unet": UNet2DConditionModel(**{**OPTIONS, "in_channels": 9})},
                "the UNet takes 9 latent channels, but the vae has 4",
            ),
            (
                {"unet": UNet2DConditionModel(**OPTIONS, num_class_embeds=3)},
                "conditioned on text alone, not by num_class_embeds=3 too",
            ),
        ],
    )
}


def unet_inputs(model: UNet2DConditionModel, samples: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    side = model.config.sample_size
    return {
        "sample": torch.randn(samples, model.config.in_channels, side, side, generator=generator),
        "timestep": torch.rand(samples, generator=generator) * 1000,
        "encoder_hidden_states": torch.randn(samples, 5, model.config.cross_attention_dim, generator=generator),
    }


def unet_outputs(model: UNet2DConditionModel, **inputs: Any) -> list[Tensor]:
    return [model(**inputs).sample]


MODELS = {
    "unet": ModelCase(
        cls=BitsFusionUNet2DConditionModel,
        options={**OPTIONS, "sample_size": 8},
        inputs=unet_inputs,
        outputs=unet_outputs,
        presets={"sd15": 859_520_964, "nano": 2_682_672},
    )
}

# What its benchmark measures in the contract: how much less than it does by itself, and what not at all

MEASURED = {"picture_size": 16, "shape": "nano", "latent_size": 8, "repeats": 2, "threads": 1}
NOT_MEASURED = {
    "size": "a process of its own packs the folder: tests/eval/claims/bitsfusion/test_size.py measures a small one",
    "rivals": "they need an environment of their own: tests/eval/claims/bitsfusion/test_rivals.py has none",
    "pictures": "it draws every prompt of a list: tests/eval/claims/bitsfusion/test_pictures.py rates fakes",
    "ladder": "it trains seven models: tests/eval/claims/bitsfusion/test_ladder.py trains none, and a tiny one",
    "exported": "exports take minutes: tests/eval/claims/bitsfusion/test_exported.py measures a bundle",
}
ENVIRONMENT = {"POCKET_RIVALS_PYTHON": sys.executable}
"""Variables for contests in which every contender fails."""
_RESULTS = Path(__file__).parents[2] / "eval" / "results" / "bitsfusion.json"
LACKING = {
    "rivals": {row["id"] for row in json.loads(_RESULTS.read_text()) if row["id"].startswith("rival-bytes-")},
    "size": {"quantization-memory", "folder-bytes", "folder-ratio", "saved-again"},  # where packing fails
}
"""Measurement -> rows that `MEASURED` leaves out."""
