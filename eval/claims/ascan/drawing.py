"""How the benchmark draws with AsCAN: the committed pipeline, its steps and guidance, the classes and their seeds."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image

from ....pipelines.pipeline_ascan import AsCANPipeline
from ...scores.naming import Pair

NANO = "ascan-nano"
STEPS, GUIDANCE = AsCANPipeline.defaults.num_inference_steps, AsCANPipeline.defaults.guidance_scale


class DrawingSettings(Protocol):
    """What drawing reads of the benchmark's settings.

    Attributes:
        checkpoints: folder with ascan-nano.
    """

    checkpoints: Path


def load_nano(settings: DrawingSettings) -> AsCANPipeline:
    """The committed class-conditional pipeline in float32 on the CPU."""
    pipeline = AsCANPipeline.from_pretrained(settings.checkpoints / NANO)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw_classes(pipeline: AsCANPipeline, pairs: Sequence[Pair], count: int) -> Iterator[list[Image.Image]]:
    """Rounds of pictures, one of each (color, shape) in each of `count` rounds; every picture of round i has seed i."""
    labels = [" ".join(pair) for pair in pairs]
    for seed in range(count):
        seeds = [torch.Generator().manual_seed(seed) for _ in labels]
        yield pipeline(labels, guidance_scale=GUIDANCE, generator=seeds, num_inference_steps=STEPS).images
