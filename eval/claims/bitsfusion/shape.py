"""Folders of a UNet with random weights, of the shape that costs are measured at: in float16, and packed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from diffusers import PNDMScheduler, UNet2DConditionModel

from ....hub_models.quantizer_bitsfusion import BitsFusionConfig
from ....hub_models.unet_bitsfusion import BitsFusionUNet2DConditionModel
from ....pipelines.files import write_json
from ....pipelines.quantization_bitsfusion import PUBLISHED_BITS
from ....pipelines.repository import INDEX
from ....pipelines.sharded_weights import ShardWriter

FULL, PACKED = "full", "packed"
CACHE_STEPS = 50
ONE_FILE = 4_000_000_000  # bytes, more than any shape takes: such folders are published as one file
BITS = {"sd15": PUBLISHED_BITS, "nano": 2}
"""With which a preset of `BitsFusionUNet2DConditionModel` is packed: the published recipe where there is one."""


def empty_unet(preset: str) -> UNet2DConditionModel:
    """The UNet of a preset on the meta device."""
    with torch.device("meta"):
        return BitsFusionUNet2DConditionModel.from_preset(preset)


def recipe(preset: str) -> BitsFusionConfig:
    """How the layers of a preset's UNet are packed, with no timesteps in its cache."""
    return BitsFusionConfig.published() if BITS[preset] == PUBLISHED_BITS else BitsFusionConfig(None, BITS[preset])


@contextmanager
def shape_folder(preset: str) -> Iterator[Path]:
    """A folder that lasts for a measurement, in which `FULL` is a pipeline of random weights (see `write_shape`)."""
    with TemporaryDirectory(prefix="bitsfusion-") as folder:
        write_shape(Path(folder) / FULL, preset)
        yield Path(folder)


def write_shape(folder: Path, preset: str, seed: int = 0) -> None:
    """A folder of a pipeline with Stable Diffusion's scheduler and a UNet of random weights in float16.

    A weight of n inputs has the deviation n^-1/2, a scale of a norm is 1 and a bias 0, so that activations keep theirs.
    """
    unet, random = empty_unet(preset), torch.Generator().manual_seed(seed)
    unet.save_config(folder / "unet")
    writer = ShardWriter(folder / "unet", shard_bytes=ONE_FILE)
    for name, value in unet.state_dict().items():
        if value.ndim < 2:
            weight = torch.full(value.shape, float(name.endswith("weight")))
        else:
            weight = torch.randn(value.shape, generator=random).mul_(value[0].numel() ** -0.5)
        writer.add(name, weight.half())
    writer.finish()
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )
    scheduler.save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "scheduler": ["diffusers", "PNDMScheduler"],
        "unet": ["diffusers", "UNet2DConditionModel"],
    }
    write_json(folder / INDEX, index)
