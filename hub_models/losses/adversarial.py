"""A patch discriminator and the hinge losses."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Judges overlapping patches of a picture (pix2pix, arXiv 1611.07004, section 6.1.2), with group norm.

    Args:
        in_channels: of the pictures.
        width: channels of the first layer; doubled in each of the `layers` strided layers, at most eightfold.
        layers: strided layers; a patch is 3 * 2^(layers + 1) - 2 pixels a side (46 for 3).
    """

    def __init__(self, in_channels: int = 3, width: int = 64, layers: int = 3):
        super().__init__()
        blocks: list[nn.Module] = [nn.Conv2d(in_channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for layer in range(1, layers):
            narrow, wide = width * min(2 ** (layer - 1), 8), width * min(2**layer, 8)
            blocks += [nn.Conv2d(narrow, wide, 4, 2, 1), nn.GroupNorm(8, wide), nn.LeakyReLU(0.2)]
        blocks.append(nn.Conv2d(width * min(2 ** (layers - 1), 8), 1, 4, 1, 1))
        self.layers = nn.Sequential(*blocks)

    def forward(self, pixels: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch 1 rows columns"]:
        """One number a patch: above 0 for a real picture."""
        return self.layers(pixels)


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Float[Tensor, ""]:
    """Mean hinge of the discriminator's words on real and made pictures."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def hinge_generator_loss(fake: Tensor) -> Float[Tensor, ""]:
    """What the generator pays for not being taken for real."""
    return -fake.mean()
