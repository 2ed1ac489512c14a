"""Scenes of methods as plain splats: a file of one, such as scene.lpgs, a pipeline's folder, or an exported bundle."""

from importlib import import_module
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

from ..hub_models.rendering.gaussians import Gaussians
from ..hub_models.rendering.splat_files import suffix_of
from . import METHODS
from .export.contract import CONTRACT
from .export.runtime import load_bundle
from .loading import load_pipeline
from .repository import INDEX


@torch.no_grad()
def unpacked_scene(source: Path) -> Gaussians | None:
    """What a method's scene unpacks to.

    Args:
        source: a file that ends in a method's slug, a folder that a pipeline saved, or an exported bundle; None is
            returned for all else.

    Raises:
        FileNotFoundError: there is no such file, or a bundle lacks one.
        ValueError: it is damaged, or holds no splats.
    """
    if (source / INDEX).is_file():
        return _saved_scene(source)
    if (source / CONTRACT).is_file():
        return _splats_of(load_bundle(source), source)
    slug = suffix_of(source)[1:]
    if slug not in METHODS:
        return None
    container = import_module(f"...hub_models.container_{slug}", __name__)
    splats: Gaussians = container.decode_scene(source.read_bytes()).expand()
    return splats


def _saved_scene(folder: Path) -> Gaussians:
    name = DiffusionPipeline.load_config(folder).get("_class_name")
    name = name[-1] if isinstance(name, list) else name
    owner = next((s for s, tasks in METHODS.items() if any(t.endswith(f":{name}") for t in tasks.values())), None)
    pipeline = None if owner is None else load_pipeline(owner, str(folder), on_cpu=True)
    if pipeline is None:
        raise ValueError(f"{folder} must hold splats, but its pipeline {name} has none.")
    return _splats_of(pipeline, folder)


def _splats_of(pipeline: DiffusionPipeline, folder: Path) -> Gaussians:
    if not hasattr(pipeline, "gaussians"):
        raise ValueError(f"{folder} must hold splats, but its pipeline {type(pipeline).__name__} has none.")
    splats: Gaussians = pipeline.gaussians()
    return splats
