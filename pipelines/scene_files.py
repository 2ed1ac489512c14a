"""Scenes of methods as plain splats: a file of one, such as scene.lpgs, a pipeline's folder, or an exported bundle."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from ..hub_models.rendering.gaussians import Gaussians
from ..hub_models.rendering.splat_files import suffix_of
from . import METHODS
from .export.contract import CONTRACT
from .export.runtime import load_bundle
from .loading import load_pipeline
from .repository import INDEX
from .scene_cameras import Circle, circle_of

HUB_MODELS = f"{__package__.partition('.')[0]}.hub_models"


@dataclass(frozen=True)
class UnpackedScene:
    """What a method's scene unpacks to.

    Attributes:
        gaussians: its splats.
        circle: from where it is best looked at; None where it does not say.
    """

    gaussians: Gaussians
    circle: Circle | None


@torch.no_grad()
def unpacked_scene(source: Path) -> UnpackedScene | None:
    """Unpacks the scene of a method.

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
        return _unpacked(load_bundle(source), source)
    slug = suffix_of(source)[1:]
    name = f"{HUB_MODELS}.container_{slug}"
    if slug not in METHODS or find_spec(name) is None:
        return None
    container, data = import_module(name), source.read_bytes()
    return UnpackedScene(container.decode_scene(data).expand(), _circle(container.stored_circle(data)))


def _saved_scene(folder: Path) -> UnpackedScene:
    name = DiffusionPipeline.load_config(folder).get("_class_name")
    name = name[-1] if isinstance(name, list) else name
    owner = next((s for s, tasks in METHODS.items() if any(t.endswith(f":{name}") for t in tasks.values())), None)
    pipeline = None if owner is None else load_pipeline(owner, str(folder), on_cpu=True)
    if pipeline is None:
        raise ValueError(f"{folder} must hold splats, but its pipeline {name} has none.")
    return _unpacked(pipeline, folder)


def _unpacked(pipeline: DiffusionPipeline, folder: Path) -> UnpackedScene:
    if not hasattr(pipeline, "gaussians"):
        raise ValueError(f"{folder} must hold splats, but its pipeline {type(pipeline).__name__} has none.")
    return UnpackedScene(pipeline.gaussians(), _circle(pipeline.config.circle))


def _circle(stored: Mapping[str, Any] | None) -> Circle | None:
    return None if stored is None else circle_of(stored)
