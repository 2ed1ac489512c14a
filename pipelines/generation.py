"""`pocket generate`: a request in, what the pipeline made of it out, in a folder with a record."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from inspect import signature
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from diffusers import DiffusionPipeline

from .. import unknown_name
from .export.runtime import load_bundle, own_bundle
from .loading import load_pipeline
from .outputs import Output
from .result_folder import write_record

SAID_HERE = {
    "self", "generator", "output_type", "return_dict", "callback_on_step_end", "callback_on_step_end_tensor_inputs",
}  # fmt: skip
"""Arguments of a pipeline's call that no request has."""


@dataclass(frozen=True)
class ImageRequest:
    """What to make: pictures, or what else the pipeline makes. A field that is None keeps the pipeline's own default.

    Attributes:
        prompts: texts, one or more; for a pipeline of classes, names or numbers of classes.
        negative_prompt: what the pictures should not show; not for a pipeline of classes.
        num_inference_steps: steps of the sampler, at least 1.
        guidance_scale: weight of classifier-free guidance; 1 is none.
        num_images_per_prompt: pictures (or motions) for each text, at least 1.
        height: rows in pixels.
        width: columns in pixels.
        seed: of the first sample; each further one has the next, so that every sample can be made alone.
        arguments: further ones of the pipeline's call, as JSON has them, such as the length and the controls of a
            motion; where another field says the same, that one counts.
    """

    prompts: tuple[str, ...]
    negative_prompt: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    num_images_per_prompt: int = 1
    height: int | None = None
    width: int | None = None
    seed: int = 0
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """What it asks for beside prompts and seeds, without fields that are None."""
        given = {name: value for name, value in vars(self).items() if name not in ("prompts", "seed", "arguments")}
        return {**self.arguments, **{name: value for name, value in given.items() if value is not None}}


@dataclass(frozen=True)
class Generated:
    """What was made of a request.

    Attributes:
        output: every sample, prompt after prompt.
        prompts: what was asked for, one a sample.
        seeds: with which each sample alone is made again.
    """

    output: Output
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]


def generate(
    pipeline: DiffusionPipeline, request: ImageRequest, progress: Callable[[float], Any] = lambda fraction: None
) -> Generated:
    """Makes what is requested, one text or class after the other.

    Args:
        pipeline: one of this package; its `prompt_arguments` say how a prompt becomes a call, or that none does.
        request: what to make.
        progress: called after each step with the part of a prompt's work that the step was, in (0, 1].

    Raises:
        ValueError: for a request that the pipeline refuses, or from its own checks of its inputs.
    """

    def on_step_end(pipe: DiffusionPipeline, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        progress(1 / pipe.num_timesteps)
        return tensors

    if not request.prompts:
        raise ValueError("there is no prompt: say what to draw.")
    count, outputs = request.num_images_per_prompt, []
    prompts = tuple(prompt for prompt in request.prompts for _ in range(count))
    seeds = tuple(range(request.seed, request.seed + len(prompts)))
    for index, prompt in enumerate(request.prompts):
        arguments = call_arguments(pipeline, prompt, request)
        own = [torch.Generator().manual_seed(seed) for seed in seeds[index * count : (index + 1) * count]]
        outputs.append(pipeline(**arguments, generator=own, callback_on_step_end=on_step_end))
    return Generated(outputs[0].joined(outputs), prompts, seeds)


def call_arguments(pipeline: DiffusionPipeline, prompt: str, request: ImageRequest) -> dict[str, Any]:
    """Arguments of a pipeline's call that makes one prompt of a request, without those of `SAID_HERE`.

    Raises:
        ValueError: the call has no such argument (with the nearest name), the request says it otherwise, or the
            pipeline refuses it.
    """
    name = type(pipeline).__name__
    said = pipeline.prompt_arguments(prompt, num_images_per_prompt=request.num_images_per_prompt).keys() | SAID_HERE
    further = [argument for argument in signature(type(pipeline).__call__).parameters if argument not in said]
    for argument in request.arguments:
        if argument not in further:
            raise unknown_name(f"argument of {name}", argument, further)
    arguments = pipeline.prompt_arguments(prompt, **request.options)
    for argument in arguments.keys() - said - set(further):
        raise ValueError(f"{argument} cannot be used: {name} has no such argument.")
    return arguments


def generate_into(
    folder: Path,
    slug: str,
    request: ImageRequest,
    model: str | None = None,
    progress: Callable[[float], Any] = lambda fraction: None,
    runtime: str | None = None,
) -> Generated:
    """Loads, makes and writes: what `Output.save` keeps, and `run.json`, which lists the samples under their noun.

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
    made = generate(pipeline, request, progress)
    seconds = perf_counter() - start
    rows = zip(made.output.save(folder, made.prompts), made.prompts, made.seeds, strict=True)
    samples = [{"file": file, "prompt": prompt, "seed": seed} for file, prompt, seed in rows]
    inputs = {"method": slug, "model": model or f"{slug}-nano", "runtime": runtime, **asdict(request)}
    inputs[f"{made.output.noun}s"] = samples
    write_record(folder, f"pocket generate {slug}", inputs, request.seed, seconds)
    return made
