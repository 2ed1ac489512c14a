"""Bits for each layer of a pipeline's UNet, from pictures of one's own prompts (BitsFusion, arXiv 2406.04333)."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import diffusers
import torch
from diffusers import DiffusionPipeline

from ..hub_models.assignment_bitsfusion import (
    FIRST_AND_LAST,
    FIXED_BITS,
    MEASURED_BITS,
    PUBLISHED_AVERAGE,
    Sensitivity,
    assign_bits,
    layers_of_time,
    measured_layers,
    weight_counts,
)
from ..hub_models.layers.time_embedding_cache import cached_widths, replaced_layers
from .files import read_json
from .inputs import require
from .repository import INDEX, PACKAGE
from .sensitivity_bitsfusion import Similarity, measure_sensitivity


def calibrated_bits(
    source: str | Path | DiffusionPipeline,
    prompts: Sequence[str],
    target: float = PUBLISHED_AVERAGE,
    cache_folder: str | Path = "outputs/sensitivity",
    *,
    cached_timesteps: Sequence[float] = (),
    iterations: int = 100,
    learning_rate: float = 1e-5,
    batch_size: int = 8,
    steps: int = 25,
    seed: int = 0,
    pictures_at_once: int = 8,
    image_text_similarity: Similarity | None = None,
    progress: Callable[[float], None] = lambda part: None,
) -> dict[str, int]:
    """Loads a pipeline, measures how sensitive each layer of its UNet is, and assigns bits.

    The whole model is in memory, on the GPU if there is one, and draws all prompts for each layer at 1, 2 and 3 bits.
    The paper leaves tuning open: by default its learning rate is that of the training and the rest is ours.

    Args:
        source: a text-to-image pipeline of diffusers or of this package, with a UNet, or the folder of one.
        prompts: what to draw; the paper took 100.
        target: average of bits a weight, which is not exceeded.
        cache_folder: where results are kept, so that what was interrupted goes on.
        cached_timesteps: of the table that is to stand in place of the UNet's layers of time, whose values count; with
            none those layers take 8 bits.
        iterations: of tuning a layer.
        learning_rate: of tuning.
        batch_size: rows of a step of tuning.
        steps: of sampling.
        seed: of noise and tuning.
        pictures_at_once: drawn in one call.
        image_text_similarity: of each picture with its prompt, for the refinement by CLIP score; None refines nothing.
        progress: called with the part of the work that is newly done, of 1 in all.

    Returns:
        Bits by name of every Linear and Conv2d layer that no cache replaces.

    Raises:
        FileNotFoundError: there is no pipeline.
        ValueError: an argument or the pipeline is not as it must be, or the target is less than all layers at 1 bit
            make, naming that.
        OSError: results cannot be written.
    """
    pipeline = source if isinstance(source, DiffusionPipeline) else _load(Path(source))
    weights = weight_counts(pipeline.unet)
    replaced = replaced_layers(pipeline.unet) if cached_timesteps else []
    cached_values = len(cached_timesteps) * cached_widths(pipeline.unet) if cached_timesteps else 0
    fixed = {name for name in weights if name in FIRST_AND_LAST} | set(layers_of_time(weights)) - set(replaced)
    layers = {
        "weights": weights, "target": target, "fixed": dict.fromkeys(fixed, FIXED_BITS), "cached": replaced,
        "cached_values": cached_values,
    }  # fmt: skip
    unharmed = [Sensitivity(layer, bits, 0.0) for layer in measured_layers(weights) for bits in MEASURED_BITS]
    assign_bits(unharmed, **layers)  # refuses a target that no measurement could meet
    sensitivities = measure_sensitivity(
        pipeline, prompts, cache_folder, iterations=iterations, learning_rate=learning_rate, batch_size=batch_size,
        steps=steps, seed=seed, pictures_at_once=pictures_at_once, image_text_similarity=image_text_similarity,
        progress=progress,
    )  # fmt: skip
    return assign_bits(sensitivities, **layers)


def _load(folder: Path) -> DiffusionPipeline:
    stored = read_json(folder / INDEX, dict).get("_class_name")
    name = str(stored[-1] if isinstance(stored, list) and stored else stored)
    found = getattr(import_module(PACKAGE), name, None) or getattr(diffusers, name, None)
    known = isinstance(found, type) and issubclass(found, DiffusionPipeline)
    require(known, f"_class_name of {folder / INDEX}", name, f"a pipeline of diffusers or of {PACKAGE}")
    pipeline = found.from_pretrained(folder)
    require(hasattr(pipeline, "unet"), f"the pipeline in {folder}", name, "one with a unet to be calibrated")
    return pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
