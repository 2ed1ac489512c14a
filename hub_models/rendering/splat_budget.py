"""The best file of coded splats within a number of bytes: how coarse the steps, and how many Gaussians stay."""

from bisect import bisect_left
from collections.abc import Callable
from functools import cache

from jaxtyping import Float
from torch import Tensor

from .gaussians import Gaussians
from .pruning import prune
from .splat_codec import SplatCodecConfig, encode_splats

SIXTEENTHS = range(-32, 65)  # of octaves: steps from a quarter of the given ones to 16 times as long
# Of all that is painted. With steps 0.5, 0.7, 1 and 1.4 times the default, measured pictures of a scanned person were
# best for their bytes when 0.14 %, 0.5 %, 1.5 % and 4 % of what is painted was left out: about the cube.
SHARE_LEFT_OUT = 0.015
MOST_LEFT_OUT = 0.5
MOST_TRIALS = len(SIXTEENTHS).bit_length()  # files that are made to find the best


def encode_within(
    gaussians: Gaussians,
    importance: Float[Tensor, " gaussians"],
    max_bytes: int,
    config: SplatCodecConfig | None = None,
    progress: Callable[[float], None] = lambda more: None,
) -> bytes:
    """A file of `splat_codec` that is as fine as fits.

    Finer steps are of use only with more Gaussians, so that one number chooses both: with steps `factor` times as long,
    the least important Gaussians go that together paint no more than 1.5 % times the cube of `factor`, at most half.

    Args:
        gaussians: the scene.
        importance: what each paints, at least 0 (`pruning.blending_weights`).
        max_bytes: of the file; filled to a few percent in large scenes.
        config: steps that `factor` multiplies, by default `SplatCodecConfig()`.
        progress: called with 1 for each of at most `MOST_TRIALS` files that are tried.

    Raises:
        ValueError: when even the coarsest file is larger, or as `encode_splats` and `prune`.
    """
    config = config or SplatCodecConfig()
    painted = importance.double().sort().values.cumsum(0)

    @cache
    def encoded(sixteenths: int) -> bytes:
        factor = 2 ** (sixteenths / 16)
        left_out = int((painted <= min(MOST_LEFT_OUT, SHARE_LEFT_OUT * factor**3) * painted[-1:]).sum())
        data = encode_splats(prune(gaussians, importance, len(gaussians) - left_out), config.coarser(factor))
        progress(1)
        return data

    found = bisect_left(SIXTEENTHS, True, key=lambda sixteenths: len(encoded(sixteenths)) <= max_bytes)
    if found == len(SIXTEENTHS):
        smallest = len(encoded(SIXTEENTHS[-1]))
        raise ValueError(f"max_bytes must be at least {smallest} for these Gaussians, not {max_bytes}.")
    return encoded(SIXTEENTHS[found])
