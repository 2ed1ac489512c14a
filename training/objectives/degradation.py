"""What happens to pictures on their way out of a generator or through a network: blur, noise, JPEG and more.

A judge of generated pictures learns from pictures that are spoilt like this, and is measured on them.
"""

import io
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

Pictures = Float[Tensor, "batch 3 height width"]
Strengths = Float[Tensor, " batch"]

MAX_BLUR = 1.3  # standard deviation in pixels, at 64 pixels a side
MAX_NOISE = 0.08
MIN_QUALITY, MAX_QUALITY = 25, 90  # of JPEG
MAX_SHIFT = 0.15  # of gain, offset and each colour channel
MAX_REDUCTION = 2.2  # of the side, on the way down and up again


def degrade(pictures: Pictures, generator: torch.Generator, chance: float = 0.5) -> Pictures:
    """Pictures in [0, 1], each spoilt by every degradation with this chance, at a random strength.

    Args:
        pictures: in [0, 1].
        generator: decides what happens to which picture, and how much; the same seed spoils the same way.
        chance: of each degradation, in [0, 1]; 0 returns the pictures as they are.
    """
    pictures = pictures.clone()
    for spoil in DEGRADATIONS.values():
        chosen = torch.rand(len(pictures), generator=generator) < chance
        strengths = torch.rand(len(pictures), generator=generator)
        inputs = [strengths[chosen]]
        if spoil is add_noise:
            inputs.append(torch.randn(pictures.shape, generator=generator)[chosen])
        if chosen.any():
            with torch.autocast(pictures.device.type, enabled=False):
                pictures[chosen] = spoil(pictures[chosen], *inputs).clamp(0, 1)
    return pictures


def shift_colors(pictures: Pictures, strengths: Strengths) -> Pictures:
    """Brighter and warmer, or darker and colder: gain and offset of each channel by up to `MAX_SHIFT`."""
    amount = MAX_SHIFT * (2 * strengths - 1)[:, None, None, None]
    warm = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1)
    return pictures * (1 + amount) + 0.3 * amount * warm


def blur(pictures: Pictures, strengths: Strengths) -> Pictures:
    """A Gaussian of up to `MAX_BLUR` pixels at 64 pixels a side, each picture its own."""
    scale = pictures.shape[-1] / 64
    sigma = (0.3 + (MAX_BLUR - 0.3) * strengths) * scale
    reach = int(np.ceil(3 * MAX_BLUR * scale))
    at = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-(at**2) / (2 * sigma[:, None] ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, dim=0)
    flat = F.pad(pictures, (reach,) * 4, mode="reflect").flatten(0, 1)[None]
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=len(kernel))
    return F.conv2d(flat, kernel[:, None, None], groups=len(kernel))[0].unflatten(0, (-1, 3))


def resample(pictures: Pictures, strengths: Strengths) -> Pictures:
    """Down by up to `MAX_REDUCTION` and up again, bilinear."""
    size, made = pictures.shape[-2:], []
    for picture, strength in zip(pictures, strengths.tolist(), strict=True):
        factor = 1 + (MAX_REDUCTION - 1) * strength
        small = [max(8, round(side / factor)) for side in size]
        down = F.interpolate(picture[None], small, mode="bilinear", antialias=True)
        made.append(F.interpolate(down, size, mode="bilinear"))
    return torch.cat(made)


def compress(pictures: Pictures, strengths: Strengths) -> Pictures:
    """JPEG at a quality from `MAX_QUALITY` down to `MIN_QUALITY`."""
    made = []
    for picture, strength in zip(pictures, strengths.tolist(), strict=True):
        pixels = (picture.permute(1, 2, 0) * 255).round().byte().numpy()
        file = io.BytesIO()
        quality = round(MAX_QUALITY - (MAX_QUALITY - MIN_QUALITY) * strength)
        Image.fromarray(pixels).save(file, "jpeg", quality=quality)
        made.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float() / 255)
    return torch.stack(made)


def add_noise(pictures: Pictures, strengths: Strengths, noise: Pictures) -> Pictures:
    """White noise of a deviation up to `MAX_NOISE`."""
    return pictures + MAX_NOISE * strengths[:, None, None, None] * noise


DEGRADATIONS: dict[str, Callable[..., Pictures]] = {
    "color_shift": shift_colors,
    "blur": blur,
    "resample": resample,
    "noise": add_noise,
    "jpeg": compress,
}
"""In the order in which they act."""
