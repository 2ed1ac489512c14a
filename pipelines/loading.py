"""Finds weights - in a folder, among those that come with the package, on the Hub - and loads their pipeline."""

import os

import torch
from diffusers import DiffusionPipeline

from .. import checkpoint
from . import METHODS, pipeline_class
from .export.contract import CONTRACT
from .hub_files import unfetched
from .repository import INDEX, is_local_path


def load_pipeline(slug: str, model: str | None = None, on_cpu: bool = False) -> DiffusionPipeline:
    """Loads the pipeline of a method, on the GPU in half precision if there is one, else on the CPU in float32.

    A method with several tasks has a pipeline for each; which one weights are for is what their repository says.

    Args:
        slug: a key of `METHODS`.
        model: a folder, the name of weights that come with the package, or a repository id "owner/name" of the
            Hub; None takes the package's own `<slug>-nano`.
        on_cpu: in float32 on the CPU, whatever there is.

    Raises:
        ValueError: for an unknown method or name of weights, weights of another method, or an exported bundle.
        OSError: when the weights cannot be read or fetched.
    """
    on_gpu = torch.cuda.is_available() and not on_cpu
    model = model or f"{slug}-nano"
    if os.path.isfile(os.path.join(model, CONTRACT)) and not os.path.isfile(os.path.join(model, INDEX)):
        raise ValueError(f"model {model!r} is an exported bundle: say which runtime it is for, such as --runtime onnx.")
    try:
        path = find_model(model)
        dtype = torch.float16 if on_gpu else torch.float32
        pipeline = stored_pipeline_class(slug, path).from_pretrained(path, dtype=dtype)
    except OSError as error:
        if is_local_path(model):
            raise
        raise unfetched(model) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cuda" if on_gpu else "cpu")


def stored_pipeline_class(slug: str, path: str) -> type[DiffusionPipeline]:
    """The pipeline of a method that a repository (folder or Hub id) names; see `stored_task`."""
    return pipeline_class(slug, stored_task(slug, path))


def stored_task(slug: str, path: str) -> str:
    """The task of the class that a repository (folder or Hub id) names; the method's first where nothing can be read.

    Raises:
        ValueError: when the weights are of another method or another package, naming it.
    """
    tasks = {target.split(":")[1]: task for task, target in METHODS[slug].items()}
    name = _stored_class_name(path)
    if name is None:
        return next(iter(METHODS[slug]))  # `from_pretrained` says what is wrong
    if name in tasks:
        return tasks[name]
    owners = {target.split(":")[1]: owner for owner in METHODS for target in METHODS[owner].values()}
    whose = f"{owners[name]} ({name})" if name in owners else f"another package's {name}"
    raise ValueError(f"model {path!r} holds weights of {whose}, not of {slug}.")


def _stored_class_name(path: str) -> str | None:
    if is_local_path(path) and not os.path.isfile(os.path.join(path, INDEX)):
        return None
    try:
        name = DiffusionPipeline.load_config(path).get("_class_name")
    except OSError:
        return None
    return name[-1] if isinstance(name, list) else name


def find_model(model: str) -> str:
    """Returns the folder of weights that come with the package if `model` is a bare word, else `model` itself.

    Raises:
        ValueError: for a word that is neither a folder nor the name of such weights.
    """
    return model if "/" in model or os.path.isdir(model) else str(checkpoint(model))
