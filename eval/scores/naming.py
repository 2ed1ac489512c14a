"""Which colour and shape does a picture show? A CLIP names one of PocketWorld's fifty pairs."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ...training.datasets.pocketworld.captions import caption
from ...training.datasets.pocketworld.descriptions import colors
from ...training.datasets.pocketworld.records import Picture
from ...training.datasets.pocketworld.scene import ALL_PAIRS
from ..instruments.clip import Encoder

Pair = tuple[str, str]
"""(color, shape)."""


def pair_prompt(pair: Pair) -> str:
    """GenEval's wording: "a photo of a red cube"."""
    return caption(colors(*pair), paraphrase=False)


def bare_prompt(pair: Pair) -> str:
    """The same without "a photo of": "a red cube"."""
    return pair_prompt(pair).removeprefix("a photo of ")


class PairNamer:
    """Zero-shot classification of pictures among the fifty pairs.

    A pair's vector is the mean of the unit vectors of its two wordings, "a photo of a red cube" and "a red cube"
    (prompt ensembling, arXiv 2103.00020, section 3.1.4); the nearest pair is the answer.
    """

    def __init__(self, encoder: Encoder):
        self.encoder = encoder
        wordings = [[word(pair) for pair in ALL_PAIRS] for word in (pair_prompt, bare_prompt)]
        self.pairs = F.normalize(torch.stack([encoder.encode_texts(texts) for texts in wordings]).mean(0), dim=-1)

    def name(self, pictures: Float[Tensor, "count 3 height width"]) -> list[Pair]:
        """The pair that each picture shows; pictures in [0, 1]."""
        nearest = (self.encoder.encode_images(pictures) @ self.pairs.T).argmax(dim=1)
        return [ALL_PAIRS[index] for index in nearest.tolist()]


def count_right(named: Sequence[Pair], wanted: Sequence[Pair], among: Iterable[Pair] = ALL_PAIRS) -> tuple[int, int]:
    """Pictures named as wanted, and all pictures, counting only those whose wanted pair is `among` these.

    Raises:
        ValueError: when names and wishes are not equally many.
    """
    if len(named) != len(wanted):
        raise ValueError(f"named has {len(named)} entries and wanted {len(wanted)}; they must be equally many.")
    among = frozenset(among)
    counted = [one == other for one, other in zip(named, wanted, strict=True) if other in among]
    return sum(counted), len(counted)


def single_colored(records: Iterable[Picture], count: int) -> Iterator[tuple[Picture, Pair]]:
    """The first `count` records of tag `colors` and the pair that each shows: what a perfect namer names."""
    chosen = (record for record in records if record.description.tag == "colors")
    for record in islice(chosen, count):
        (shown,) = record.scene.objects
        yield record, (shown.color, shown.shape)
