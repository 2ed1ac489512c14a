"""How the benchmark draws with SnapGen: the committed pipeline, its steps and guidance, the prompts and their seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ....pipelines.pipeline_snapgen import SnapGenPipeline
from ...scores.naming import Pair, pair_prompt

NANO = "snapgen-nano"
STEPS, GUIDANCE = SnapGenPipeline.defaults.num_inference_steps, SnapGenPipeline.defaults.guidance_scale


class DrawingSettings(Protocol):
    """What drawing reads of the benchmark's settings.

    Attributes:
        checkpoints: folder with snapgen-nano.
    """

    checkpoints: Path


def load_nano(settings: DrawingSettings) -> SnapGenPipeline:
    """The committed text-to-image pipeline in float32 on the CPU."""
    pipeline = SnapGenPipeline.from_pretrained(settings.checkpoints / NANO)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw_pairs(
    pipeline: SnapGenPipeline, pairs: Sequence[Pair], count: int
) -> Float[Tensor, "count pairs 3 height width"]:
    """Pictures in [0, 1] of "a photo of a COLOR SHAPE", `count` of each pair; picture i has seed i."""
    prompts = [pair_prompt(pair) for pair in pairs]
    rounds = []
    for seed in range(count):
        seeds = [torch.Generator().manual_seed(seed) for _ in prompts]
        made = pipeline(prompts, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=seeds, output_type="pt")
        rounds.append(made.images)
    return torch.stack(rounds)
