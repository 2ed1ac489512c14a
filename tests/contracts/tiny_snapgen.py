"""SnapGen's models and pipeline, tiny and real."""

from typing import Any

import torch
from contract_cases import ImageSamplerCase, ModelCase
from diffusers import FlowMatchEulerDiscreteScheduler
from little_texts import WORDS, make_clip, make_tokenizer
from torch import Tensor
from transformers import Gemma2Config, Gemma2Model

from pocket_diffusers.hub_models.autoencoder_snapgen import AutoencoderSnapGen
from pocket_diffusers.hub_models.unet_snapgen import SnapGenUNet2DConditionModel
from pocket_diffusers.pipelines.pipeline_snapgen import SnapGenPipeline

CLIP_L, CLIP_G, WIDTH = 16, 16, 32  # channels of CLIP-L and CLIP-G; of Gemma and the UNet


def make_gemma(width: int) -> Gemma2Model:
    config = Gemma2Config(
        vocab_size=len(WORDS),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=12,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return Gemma2Model(config).eval()


def make_components(encoders: str = "lg3") -> dict:
    """Every component by name; `encoders` names those present of CLIP-L (l), CLIP-G (g) and Gemma (3)."""
    torch.manual_seed(0)
    unet = SnapGenUNet2DConditionModel(
        sample_size=4,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        transformer_layers_per_block=(1, 1),
        mid_transformer_depth=1,
        attention_head_dim=8,
        cross_attention_dim=WIDTH,
        temb_dim=32,
        norm_num_groups=8,
    ).eval()
    vae = AutoencoderSnapGen(
        latent_channels=4,
        encoder_channels=(8, 16),
        encoder_layers_per_block=1,
        encoder_mid_attention=False,
        decoder_channels=(16, 8),
        decoder_layers_per_stage=1,
        norm_num_groups=4,
        scaling_factor=0.8,
        latents_mean=(0.1, -0.2, 0.3, 0.0),
        latents_std=(1.0, 0.5, 2.0, 1.5),
        sample_size=8,
    ).eval()
    components = {"unet": unet, "vae": vae, "scheduler": FlowMatchEulerDiscreteScheduler(shift=1.5)}
    if "l" in encoders:
        components |= {"text_encoder": make_clip(CLIP_L), "tokenizer": make_tokenizer()}
    if "g" in encoders:
        components |= {"text_encoder_2": make_clip(CLIP_G, projected=True), "tokenizer_2": make_tokenizer()}
    if "3" in encoders:
        components |= {"text_encoder_3": make_gemma(WIDTH), "tokenizer_3": make_tokenizer(99, padding_side="left")}
    return components


def make_pipeline(encoders: str = "lg3", **components: Any) -> SnapGenPipeline:
    """8 x 8 pixels, multiples of 4."""
    pipeline = SnapGenPipeline(**{**make_components(encoders), **components})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


EMBEDS = torch.zeros(1, 3, WIDTH)
REFUSED_CALLS = [
    ({"prompt": ""}, "prompt is empty"),
    ({"prompt": " \n"}, "prompt is empty"),
    ({"prompt": []}, "prompt must be a string or a list"),
    ({"prompt": ["a", " "]}, r"prompt \(entry 1\) is empty"),
    ({"prompt": 3}, "prompt must be a string or a list.*not 3"),
    ({"prompt": ["a", None]}, "prompt must be a string or a list"),
    ({"prompt": None}, "either prompt or prompt_embeds"),
    ({"prompt_embeds": EMBEDS}, "not both"),
    ({"negative_prompt": ["a", "b"]}, "negative_prompt is a list of 2, but there are 1"),
    ({"negative_prompt": 5}, "negative_prompt must be"),
    ({"negative_prompt": "a", "negative_prompt_embeds": EMBEDS}, "not both"),
    ({"negative_prompt_embeds": EMBEDS.repeat(2, 1, 1)}, "holds 2 prompts"),
    ({"negative_prompt_embeds": EMBEDS[..., :7]}, r"must be \[prompts, tokens, 32\], not \[1, 3, 7\]"),
    ({"prompt": None, "prompt_embeds": EMBEDS[0]}, r"prompt_embeds must be \[prompts, tokens, 32\]"),
    ({"prompt": None, "prompt_embeds": EMBEDS, "prompt_attention_mask": torch.ones(1, 4)}, r"must be \[1, 3\]"),
    ({"prompt_attention_mask": torch.ones(1, 4)}, "prompt_attention_mask needs prompt_embeds"),
    ({"sigmas": []}, "sigmas must fall"),
    ({"sigmas": [0.5, 1.0]}, "sigmas must fall"),
    ({"sigmas": [1.5]}, "sigmas must be a number from 0 to 1"),
]
PIPELINES = {
    "text-to-image": ImageSamplerCase(
        make=make_pipeline,
        argument="prompt",
        values=("a red cube", "two green cone", "the blue sphere right of a cube"),
        copies="num_images_per_prompt",
        watched={"latents": 1, "prompt_embeds": 2, "prompt_attention_mask": 2},
        refused=REFUSED_CALLS,
        misfits=[
            ({"tokenizer": None}, "text_encoder needs its tokenizer"),
            ({"clip_l_width": 8}, "clip_l_width is 8, but text_encoder is 16 wide"),
            ({"clip_l_width": 24, "text_encoder": None}, r"24 \+ 16 \(CLIP\) and 32 \(Gemma\)"),
        ],
    )
}


def unet_inputs(model: SnapGenUNet2DConditionModel, samples: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    side = model.config.sample_size
    return {
        "sample": torch.randn(samples, model.config.in_channels, side, side, generator=generator),
        "timestep": torch.rand(samples, generator=generator) * 1000,
        "encoder_hidden_states": torch.randn(samples, 5, model.config.cross_attention_dim, generator=generator),
    }


def unet_outputs(model: SnapGenUNet2DConditionModel, **inputs: Any) -> list[Tensor]:
    return [model(**inputs).sample]


UNET = ModelCase(
    cls=SnapGenUNet2DConditionModel,
    options={
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": (16, 32, 48),
        "layers_per_block": 2, "transformer_layers_per_block": (1, 1, 2), "mid_transformer_depth": 1,
        "attention_head_dim": 8, "cross_attention_dim": 12, "temb_dim": 24, "norm_num_groups": 8,
    },
    inputs=unet_inputs,
    outputs=unet_outputs,
    presets={"paper": 378_959_888, "imagenet": 372_219_908, "nano": 1_931_792},
    layouts={
        "defaults": {},
        "dreamlite": {
            "first_stage": "dreamlite", "mid_transformer_depth": 4, "expansion_mode": "block_out",
            "skip_unused_norm": False,
        },
        "down_last": {"first_stage": "down_last", "expansion_mode": "block_in", "sampler_conv": "no_up_conv"},
        "all_five": {"first_stage": "all_five", "last_up_attention": True, "rope": "all", "num_kv_heads": 2},
        "toy-diffusion": {"first_stage": "dreamlite", "last_up_attention": True, "pw_bias": True, "rope": "all"},
        "plain": {"rope": "none", "cross_attn_qk_norm": False, "mid_transformer_depth": 0, "conv_expansion": 1},
        "two_stages": {
            "block_out_channels": (16, 32), "transformer_layers_per_block": (1, 1), "layers_per_block": 1
        },
        "separable": {"sampler_conv": "separable", "ff_mult": 2},
    },
    refused_inputs=[
        ({"sample": torch.zeros(2, 4, 8, 6)}, r"8 x 6 latents \(height x width\): both must be multiples of 4"),
        ({"sample": torch.zeros(2, 3, 8, 8)}, r"sample must be \[batch, 4, height, width\], not \[2, 3, 8, 8\]"),
        ({"sample": torch.zeros(4, 8, 8)}, r"sample must be \[batch, 4, height, width\]"),
        ({"encoder_hidden_states": torch.zeros(2, 5, 13)}, r"must be \[2, tokens, 12\], not \[2, 5, 13\]"),
        ({"encoder_hidden_states": torch.zeros(1, 5, 12)}, r"must be \[2, tokens, 12\], not \[1, 5, 12\]"),
        ({"encoder_attention_mask": torch.ones(2, 4)}, r"encoder_attention_mask must be \[2, 5\], not \[2, 4\]"),
        ({"timestep": torch.zeros(3)}, r"timestep must be one number or \[2\], not \[3\]"),
    ],
    refused_options=[
        ({"first_stage": "none"}, "first_stage must be one of down_all, down_last, all_five, dreamlite, not 'none'"),
        ({"sampler_conv": "5x5"}, "sampler_conv must be one of full3x3, separable, no_up_conv, not '5x5'"),
        ({"expansion_mode": "wide"}, "expansion_mode must be one of per_conv, block_out, block_in, not 'wide'"),
        ({"rope": "half"}, "rope must be one of none, self_attention, all, not 'half'"),
        ({"transformer_layers_per_block": (1, 2)}, "one entry for each stage"),
        ({"transformer_layers_per_block": (0, 1, 1)}, "must begin with 1 or more"),
        ({"first_stage": "all_five"}, "set last_up_attention=True"),
        ({"num_kv_heads": 3}, "num_kv_heads must divide"),
    ],
)  # fmt: skip


def autoencoder_inputs(model: AutoencoderSnapGen, samples: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"x": torch.rand(samples, 3, *[model.config.sample_size] * 2, generator=generator) * 2 - 1}


def autoencoder_outputs(model: AutoencoderSnapGen, x: Tensor) -> list[Tensor]:
    posterior = model.encode(x).latent_dist
    return [posterior.mean, posterior.std, model.decode(posterior.mode()).sample]


AUTOENCODER = ModelCase(
    cls=AutoencoderSnapGen,
    options={
        "latent_channels": 4, "encoder_channels": (8, 16, 16), "encoder_layers_per_block": 1,
        "decoder_channels": (16, 16, 8), "decoder_layers_per_stage": 1, "norm_num_groups": 4, "sample_size": 16,
    },
    inputs=autoencoder_inputs,
    outputs=autoencoder_outputs,
    presets={"paper": 35_653_859, "nano": 1_350_608},
    layouts={
        "defaults": {},
        "patches": {"patch_size": 2, "scaling_factor": 0.7, "shift_factor": 0.1},
        "statistics": {"latents_mean": [0.5] * 4, "latents_std": [2.0] * 4},
    },
    refused_inputs=[
        (
            {"x": torch.zeros(1, 3, 16, 18)},
            r"16 x 18 pixels \(height x width\): both must be multiples of 4",
        ),
        ({"x": torch.zeros(1, 4, 16, 16)}, r"x must be \[batch, 3, height, width\], not \[1, 4, 16, 16\]"),
        ({"x": torch.zeros(3, 16, 16)}, r"x must be \[batch, 3, height, width\], not \[3, 16, 16\]"),
    ],
    refused_options=[
        ({"decoder_channels": (16, 8)}, "encoder_channels has 3 stages and decoder_channels 2"),
        ({"latents_mean": [0.0] * 4}, "must hold 4 numbers"),
        ({"latents_mean": [0.0], "latents_std": [1.0]}, "must hold 4 numbers"),
    ],
)  # fmt: skip

MODELS = {"unet": UNET, "autoencoder": AUTOENCODER}

# What its benchmark measures in the contract: how much less than it does by itself, and what not at all

MEASURED = {
    "picture_size": 16, "pictures_a_pair": 1, "true_pictures": 4, "reconstructions": 4, "repeats": 2, "threads": 1,
}  # fmt: skip
NOT_MEASURED = {
    "exported": "exports take minutes: tests/eval/claims/snapgen/test_exported.py measures a bundle",
    "geneval": "it draws every prompt of a list: tests/eval/geneval/test_drawn.py measures pictures that cost nothing",
}
LACKING: dict[str, set[str]] = {}
"""Measurement -> rows that `MEASURED` leaves out."""
