"""Tiny real components of a SnapGen pipeline."""

from collections.abc import Callable

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    PreTrainedTokenizerFast,
)

from pocket_diffusers.hub_models.autoencoder_snapgen import AutoencoderSnapGen
from pocket_diffusers.hub_models.unet_snapgen import SnapGenUNet2DConditionModel
from pocket_diffusers.pipelines.pipeline_snapgen import SnapGenPipeline

WORDS = [
    "<pad>",
    "<s>",
    "</s>",
    "<unk>",
    "a",
    "the",
    "red",
    "green",
    "blue",
    "cube",
    "sphere",
    "cone",
    "of",
    "left",
    "right",
    "and",
    "two",
]
CLIP_L, CLIP_G, WIDTH = 16, 16, 32  # channels of CLIP-L and CLIP-G; of Gemma and the UNet


def make_tokenizer(max_length: int = 8, padding_side: str = "right") -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=max_length,
        padding_side=padding_side,
    )


def make_clip(width: int, projected: bool = False) -> CLIPTextModel | CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=8,
        projection_dim=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        initializer_factor=5.0,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


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


@pytest.fixture(scope="session")
def components() -> Callable[..., dict]:
    return make_components


@pytest.fixture
def pipeline() -> SnapGenPipeline:
    """All three text encoders; 8 x 8 pixels, multiples of 4."""
    pipeline = SnapGenPipeline(**make_components())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def one_encoder() -> SnapGenPipeline:
    """CLIP-L alone, as the nano checkpoint has it."""
    pipeline = SnapGenPipeline(**make_components("l"))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
