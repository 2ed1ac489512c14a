"""What SnapGen's cost is measured against: networks of diffusers with random weights, given work of the same size."""

from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from torch import Tensor, nn

from ....hub_models.autoencoder_snapgen import AutoencoderSnapGen
from ....hub_models.unet_snapgen import SnapGenUNet2DConditionModel
from ...timing.contender_process import Work
from ...timing.network_work import network_work, with_random_weights

LATENT_SIZE = 128  # a picture of 1024 pixels a side
PIXELS = (512, 1024)
SD3_AUTOENCODER = {  # vae/config.json of stabilityai/stable-diffusion-3.5-large
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
SD15_UNET = {  # unet/config.json of stable-diffusion-v1-5; the rest are diffusers' defaults
    "sample_size": 64,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SDXL_UNET = {  # unet/config.json of stabilityai/stable-diffusion-xl-base-1.0
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 2048,
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "use_linear_projection": True,
}
TEXT_TOKENS = {"SnapGen": 377, "Stable Diffusion 1.5": 77, "SDXL": 77}  # SnapGen: 77 of CLIP and 300 of Gemma


def new_unet(name: str) -> nn.Module:
    """The UNet of "SnapGen" (the paper's size), "Stable Diffusion 1.5" or "SDXL", on torch's current device."""
    if name == "SnapGen":
        return SnapGenUNet2DConditionModel.from_preset("paper")
    return UNet2DConditionModel(**{"Stable Diffusion 1.5": SD15_UNET, "SDXL": SDXL_UNET}[name])


def unet_inputs(name: str, unet: nn.Module, size: int = LATENT_SIZE) -> dict[str, Any]:
    """Arguments of one denoising step of one picture of `size` x `size` latents, on torch's current device."""
    config = unet.config
    inputs = {
        "sample": torch.randn(1, config.in_channels, size, size),
        "timestep": torch.full((1,), 500.0),
        "encoder_hidden_states": torch.randn(1, TEXT_TOKENS[name], config.cross_attention_dim),
    }
    if name == "SDXL":
        size_and_crop = torch.tensor([[8.0 * size, 8.0 * size, 0, 0, 8.0 * size, 8.0 * size]])
        inputs["added_cond_kwargs"] = {"text_embeds": torch.randn(1, 1280), "time_ids": size_and_crop}
    return inputs


def new_decoder(name: str) -> nn.Module:
    """The decoder of "SnapGen" (the paper's size), "Stable Diffusion 3" or "AutoencoderTiny", for 16 channels."""
    if name == "SnapGen":
        return AutoencoderSnapGen.from_preset("paper").decoder
    if name == "AutoencoderTiny":
        return AutoencoderTiny(latent_channels=16).decoder
    return {"Stable Diffusion 3": AutoencoderKL}[name](**SD3_AUTOENCODER).decoder


def decoder_inputs(pixels: int) -> Tensor:
    """Latents of one picture of `pixels` x `pixels`."""
    return torch.randn(1, 16, pixels // 8, pixels // 8)


def build_unet_step(name: str, size: int = LATENT_SIZE) -> Work:
    """A denoising step of one picture by a UNet with random weights, in float32 and channels-last memory."""
    unet = with_random_weights(lambda: new_unet(name))
    torch.manual_seed(0)
    return network_work(unet, unet_inputs(name, unet, size), "eager")


def build_decoding(name: str, pixels: int) -> Work:
    """Decoding of one picture by a decoder with random weights, in float32 and ONNX Runtime, as on a device."""
    decoder = with_random_weights(lambda: new_decoder(name))
    torch.manual_seed(0)
    return network_work(decoder, decoder_inputs(pixels), "onnx")
