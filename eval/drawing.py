"""How benchmarks draw: the committed pipeline in float32 on the CPU, its own steps and guidance, a seed a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from ..pipelines.loading import load_pipeline


def load_committed(slug: str, folder: Path) -> DiffusionPipeline:
    """The pipeline of committed weights, whatever task of the method they are for, as every machine can run it.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is damaged.
    """
    return load_pipeline(slug, str(folder.absolute()), on_cpu=True)


def draw(pipeline: DiffusionPipeline, prompts: Sequence[str], seeds: Sequence[int], output_type: str = "pil") -> Any:
    """One picture of each prompt (or class), each from the noise of its own seed.

    Returns:
        A list of PIL images; for "pt" a tensor [prompts, 3, height, width] in [0, 1].
    """
    noises = [torch.Generator().manual_seed(seed) for seed in seeds]
    return pipeline(list(prompts), generator=noises, output_type=output_type).images


def draw_rounds(pipeline: DiffusionPipeline, prompts: Sequence[str], count: int, output_type: str = "pil") -> list[Any]:
    """`count` rounds of pictures, one of each prompt in each; every picture of round i has seed i."""
    return [draw(pipeline, prompts, [seed] * len(prompts), output_type) for seed in range(count)]
