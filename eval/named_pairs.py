"""Pictures of PocketWorld's (color, shape) pairs, drawn by a pipeline and named by a CLIP that taught no generator."""

from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from jaxtyping import Float
from torch import Tensor

from ..training.datasets.pocketworld.scene import SEEN_PAIRS
from .drawing import draw_rounds
from .exported import ExportedTask, Score
from .instruments.clip import ImageTextEncoder
from .scores.naming import PairNamer, count_right, pair_prompt

NAMER = "clip-nano-judge"


def load_namer(checkpoints: Path) -> PairNamer:
    """The CLIP that names pairs: a training apart from everything that generates."""
    return PairNamer(ImageTextEncoder.from_folder(checkpoints / NAMER))


def draw_pairs(pipeline: DiffusionPipeline, pairs: list, count: int) -> Float[Tensor, "count pairs 3 height width"]:
    """Pictures in [0, 1] of "a photo of a COLOR SHAPE", `count` of each pair; picture i has seed i."""
    return torch.stack(draw_rounds(pipeline, list(map(pair_prompt, pairs)), count, "pt"))


def seen_pairs_task(weights: str, checkpoints: Path, count: int) -> ExportedTask:
    """What bundles of a text-to-image model must do: draw `count` of each pair seen in training, to be named as asked.

    Args:
        weights: name of the checkpoint.
        checkpoints: folder of it and of the CLIP.
        count: of each pair.
    """
    namer = load_namer(checkpoints)
    return ExportedTask(
        "seen-pairs", weights,
        f"the nano model draws the colour and shape asked for, as {NAMER} names them among all fifty, pairs seen in "
        "training.",
        lambda pipeline: named_right(namer, pipeline, count),
    )  # fmt: skip


def named_right(namer: PairNamer, pipeline: DiffusionPipeline, count: int) -> Score:
    """Share of pictures that are named as asked, `count` of each seen pair."""
    drawn = draw_pairs(pipeline, SEEN_PAIRS, count)
    return Score.of(*count_right(namer.name(drawn.flatten(0, 1)), list(SEEN_PAIRS) * count))
