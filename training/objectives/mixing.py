"""Pictures mixed in pairs: mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899)."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

Pictures = Float[Tensor, "batch channels height width"]
Shares = Float[Tensor, "batch classes"]


def mix(
    pictures: Pictures,
    labels: Int[Tensor, " batch"],
    classes: int,
    generator: torch.Generator,
    mixup: float,
    cutmix: float,
) -> tuple[Pictures, Shares]:
    """A batch mixed with itself in another order, by mixup or CutMix, and what share of each class it shows.

    Args:
        pictures: of one size.
        labels: their classes.
        classes: how many there are.
        generator: decides which of the two, how much, and with which partner.
        mixup, cutmix: concentration of the Beta distribution of the share, 0 or more; 0 leaves that one out. With both,
            each takes half of the batches.
    """
    shares = torch.nn.functional.one_hot(labels, classes).float()
    kinds = [kind for kind, alpha in (("mixup", mixup), ("cutmix", cutmix)) if alpha > 0]
    if not kinds:
        return pictures, shares
    kind = kinds[int(torch.randint(len(kinds), (), generator=generator))]
    share = _beta(mixup if kind == "mixup" else cutmix, generator)
    partner = torch.randperm(len(pictures), generator=generator)
    if kind == "mixup":
        mixed = share * pictures + (1 - share) * pictures[partner]
    else:
        rows, columns = _box(pictures.shape[2:], 1 - share, generator)
        mixed = pictures.clone()
        mixed[:, :, rows, columns] = pictures[partner][:, :, rows, columns]
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        share = 1 - area / math.prod(pictures.shape[2:])
    return mixed, share * shares + (1 - share) * shares[partner]


def _beta(alpha: float, generator: torch.Generator) -> float:
    """A draw of Beta(alpha, alpha): the share of one of two Gamma draws, each -log of uniforms in the limit of 1."""
    seed = int(torch.randint(2**62, (), generator=generator))
    gamma = torch.distributions.Gamma(alpha, 1.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        a, b = gamma.sample((2,)).double().tolist()
    return a / (a + b) if a + b > 0 else 0.5


def _box(size: tuple[int, int], area: float, generator: torch.Generator) -> tuple[slice, slice]:
    """Rows and columns of a box of about this share of a picture, its centre anywhere, cut at the border."""
    made = []
    for side in size:
        half = side * math.sqrt(area) / 2
        center = side * float(torch.rand((), generator=generator))
        made.append(slice(max(0, round(center - half)), min(side, round(center + half))))
    return made[0], made[1]
