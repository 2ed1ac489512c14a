"""What BitsFusion's costs are measured of: UNets out of folders in the contender's own, and layers of a whole UNet."""

from typing import Any, Literal

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from ....hub_models.layers.low_bit_levels import Levels
from ....hub_models.layers.low_bit_packing import decode_weight, pack_weight
from ....hub_models.layers.low_bit_scales import alternating_scales
from ....pipelines.quantization_bitsfusion import quantize_folder
from ...timing.contender_process import Work, held_memory_mb
from ...timing.cost_rows import IMPORTS
from .shape import BITS, CACHE_STEPS, FULL, PACKED, empty_unet, recipe

BATCH, TEXT_TOKENS = 2, 77  # guidance, and CLIP's tokens
TIMESTEP = 501  # one of the 50 that Stable Diffusion's scheduler takes
RANDOM_WEIGHTS = 2**28  # of which layers take one part after the other: 1 GB, far more than a processor's caches hold

Task = Literal["initialise", "pack", "decode"]


def load_float32(folder: str) -> UNet2DConditionModel:
    """A UNet as plain diffusers loads it, which reads packed ones since `quantization_bitsfusion` is imported."""
    return UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32).eval().requires_grad_(False)


def step_inputs(unet: UNet2DConditionModel, size: int) -> dict[str, Tensor | int]:
    """Arguments of a denoising step of one picture of `size` x `size` latents with guidance."""
    random = torch.Generator().manual_seed(0)
    return {
        "sample": torch.randn(BATCH, unet.config.in_channels, size, size, generator=random),
        "timestep": TIMESTEP,
        "encoder_hidden_states": torch.randn(BATCH, TEXT_TOKENS, unet.config.cross_attention_dim, generator=random),
    }


def build_step(folder: str, size: int) -> Work:
    """A denoising step by the UNet in a folder, in float32."""
    imports = held_memory_mb()
    unet = load_float32(folder)
    inputs = step_inputs(unet, size)
    return Work(torch.inference_mode()(lambda: unet(**inputs)), {IMPORTS: imports})


def build_loading(folder: str) -> Work:
    """Loading the UNet of a folder in float32, packed weights as they are."""
    imports = held_memory_mb()
    return Work(lambda: load_float32(folder), {IMPORTS: imports})


def build_quantization(preset: str) -> Work:
    """`quantize_folder` of the whole `FULL` to `PACKED`, with a cache of 50 timesteps."""
    imports = held_memory_mb()
    return Work(
        lambda: quantize_folder(FULL, PACKED, BITS[preset], overwrite=True, cache_steps=CACHE_STEPS),
        {IMPORTS: imports},
    )


def packed_layers(preset: str) -> list[tuple[torch.Size, Levels]]:
    """Shape and levels of each layer that the recipe of a preset packs."""
    unet = empty_unet(preset)
    return [
        (unet.get_submodule(name).weight.shape, Levels(bits)) for name, bits in recipe(preset).layer_bits(unet).items()
    ]


def build_layers(preset: str, task: Task) -> Work:
    """One task for all layers that the recipe of a preset packs, one after the other, with random weights."""
    layers = packed_layers(preset)
    needed = sum(shape.numel() for shape, _ in layers)
    random = torch.randn(min(RANDOM_WEIGHTS, needed), generator=torch.Generator().manual_seed(0))
    weights, start = [], 0
    for shape, _ in layers:
        start = 0 if start + shape.numel() > len(random) else start
        weights.append(random[start : start + shape.numel()].view(shape))
        start += shape.numel()
    jobs: list[tuple[Any, ...]] = [(weight, levels) for weight, (_, levels) in zip(weights, layers, strict=True)]
    if task == "initialise":
        return Work(lambda: [alternating_scales(*job) for job in jobs])
    jobs = [(weight, alternating_scales(weight, levels, 1), levels) for weight, levels in jobs]
    if task == "pack":
        return Work(lambda: _each(pack_weight, jobs))
    out = torch.empty(max(shape.numel() for shape, _ in layers))
    jobs = [(pack_weight(*job), job[1], job[0].shape, job[2], out) for job in jobs]
    return Work(lambda: _each(decode_weight, jobs))


def _each(function: Any, jobs: list[tuple[Any, ...]]) -> None:
    for job in jobs:
        function(*job)
