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
from .export.contract import CONTRACT, read_contract
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
    if (source / INDEX).is_file() or (source / CONTRACT).is_file():
        return _unpacked(source)
    slug = suffix_of(source)[1:]
    name = f"{HUB_MODELS}.container_{slug}"
    if slug not in METHODS or find_spec(name) is None:
        return None
    container, data = import_module(name), source.read_bytes()
    return UnpackedScene(container.decode_scene(data).expand(), _circle(container.stored_circle(data)))


def scene_slug(source: Path) -> str | None:
    """The method of this package whose pipeline a folder holds, saved or exported; None for all else.

    Raises:
        ValueError: the contract of an exported bundle is damaged.
    """
    if (source / INDEX).is_file():
        ending = f":{_stored_name(source)}"
        return next((slug for slug, tasks in METHODS.items() if any(t.endswith(ending) for t in tasks.values())), None)
    return read_contract(source).slug if (source / CONTRACT).is_file() else None


def scene_pipeline(source: Path, slug: str) -> DiffusionPipeline:
    """The pipeline of a folder whose `scene_slug` is given, on the CPU.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: one is damaged.
    """
    return load_pipeline(slug, str(source), on_cpu=True) if (source / INDEX).is_file() else load_bundle(source)


def _unpacked(folder: Path) -> UnpackedScene:
    slug = scene_slug(folder)
    pipeline = None if slug is None else scene_pipeline(folder, slug)
    if not hasattr(pipeline, "gaussians"):
        name = _stored_name(folder) if pipeline is None else type(pipeline).__name__
        raise ValueError(f"{folder} must hold splats, but its pipeline {name} has none.")
    return UnpackedScene(pipeline.gaussians(), _circle(pipeline.config.circle))


def _stored_name(folder: Path) -> str | None:
    name = DiffusionPipeline.load_config(folder).get("_class_name")
    return name[-1] if isinstance(name, list) else name


def _circle(stored: Mapping[str, Any] | None) -> Circle | None:
    return None if stored is None else circle_of(stored)
