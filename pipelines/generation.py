"""`pocket generate`: texts or classes in, a folder of pictures with a captioned sheet and a record out."""

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from diffusers import DiffusionPipeline
from PIL import Image

from .contact_sheet import contact_sheet
from .export.runtime import load_bundle, own_bundle
from .loading import load_pipeline
from .result_folder import write_record


@dataclass(frozen=True)
class ImageRequest:
    """What to draw. A field that is None keeps the pipeline's own default.

    Attributes:
        prompts: texts, one or more; for a pipeline of classes, names or numbers of classes.
        negative_prompt: what the pictures should not show; not for a pipeline of classes.
        num_inference_steps: steps of the sampler, at least 1.
        guidance_scale: weight of classifier-free guidance; 1 is none.
        num_images_per_prompt: pictures for each text, at least 1.
        height: rows in pixels.
        width: columns in pixels.
        seed: of the first picture; each further picture has the next one, so that every picture can be made alone.
    """

    prompts: tuple[str, ...]
    negative_prompt: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    num_images_per_prompt: int = 1
    height: int | None = None
    width: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Picture:
    """One result: the picture with the text and the seed that make it again."""

    image: Image.Image
    prompt: str
    seed: int


def generate_images(
    pipeline: DiffusionPipeline, request: ImageRequest, progress: Callable[[float], Any] = lambda fraction: None
) -> Iterator[Picture]:
    """Draws the request, one text or class after the other.

    Args:
        pipeline: any text-to-image pipeline with the arguments that `ImageRequest` names, or a class-to-image one with
            those of diffusers' DiT and `num_images_per_class`.
        request: what to draw.
        progress: called after each step with the part of a prompt's work that the step was, in (0, 1].

    Raises:
        ValueError: for a pipeline that makes no pictures, or from its own checks of its inputs.
    """

    def on_step_end(pipe: DiffusionPipeline, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        progress(1 / pipe.num_timesteps)
        return tensors

    count = request.num_images_per_prompt
    what, given = _arguments(pipeline, request)
    for index, prompt in enumerate(request.prompts):
        seeds = [request.seed + index * count + offset for offset in range(count)]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        wanted = {what: _label(pipeline, prompt) if what == "class_labels" else prompt}
        images = pipeline(**wanted, generator=generators, callback_on_step_end=on_step_end, **given).images
        for image, seed in zip(images, seeds, strict=True):
            yield Picture(image, prompt, seed)


def _arguments(pipeline: DiffusionPipeline, request: ImageRequest) -> tuple[str, dict[str, Any]]:
    """Name of the argument that says what to draw, and the others that the request gives."""
    given = {key: value for key, value in asdict(request).items() if key not in ("prompts", "seed")}
    given = {key: value for key, value in given.items() if value is not None}
    parameters = inspect.signature(type(pipeline).__call__).parameters
    if "class_labels" not in parameters:
        if "images" in parameters:
            raise ValueError(f"{type(pipeline).__name__} makes no pictures, it looks at them: use other weights.")
        return "prompt", given
    if "negative_prompt" in given:
        raise ValueError(f"negative_prompt cannot be used: {type(pipeline).__name__} draws classes, not texts.")
    count = given.pop("num_images_per_prompt")
    return "class_labels", {**given, "num_images_per_class": count}


def _label(pipeline: DiffusionPipeline, prompt: str) -> str | int:
    """A class by its number, unless that is a name."""
    return int(prompt) if prompt.isdecimal() and prompt not in pipeline.labels else prompt


def generate_into(
    folder: Path,
    slug: str,
    request: ImageRequest,
    model: str | None = None,
    progress: Callable[[float], Any] = lambda fraction: None,
    runtime: str | None = None,
) -> list[Picture]:
    """Loads, draws and writes: one PNG a picture, `sheet.png` with captions, `run.json`.

    `model` is that of `load_pipeline`. With a `runtime`, "onnx" or "executorch", it is an exported bundle; None then
    takes an export of `<slug>-nano` in `outputs/`, which is made first unless one of these weights is there already.

    Raises:
        ValueError: for an unknown method, unknown weights, or inputs that the pipeline refuses.
        OSError: when the weights cannot be read or the results not be written.
    """
    if runtime is None:
        pipeline = load_pipeline(slug, model)
    else:
        pipeline = load_bundle(model or own_bundle(slug, runtime), runtime, slug=slug)
    start = perf_counter()
    pictures = list(generate_images(pipeline, request, progress))
    seconds = perf_counter() - start
    made = []
    for index, picture in enumerate(pictures):
        name = f"{index:03d}-{_words(picture.prompt)}.png".replace("-.", ".")
        picture.image.save(folder / name)
        made.append({"file": name, "prompt": picture.prompt, "seed": picture.seed})
    contact_sheet([p.image for p in pictures], [p.prompt for p in pictures]).save(folder / "sheet.png")
    inputs = {"method": slug, "model": model or f"{slug}-nano", "runtime": runtime, **asdict(request), "pictures": made}
    write_record(folder, f"pocket generate {slug}", inputs, request.seed, seconds)
    return pictures


def _words(prompt: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:48]
