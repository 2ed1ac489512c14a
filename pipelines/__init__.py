"""Pipelines: what turns a user's inputs into a result. Importing this package imports no torch."""

from importlib import import_module
from typing import Any

from .. import unknown_name

METHODS: dict[str, dict[str, str]] = {
    "snapgen": {"text-to-image": "pipeline_snapgen:SnapGenPipeline"},
    "ascan": {
        "class-to-image": "pipeline_ascan:AsCANPipeline",
        "image-classification": "pipeline_ascan_classification:AsCANImageClassificationPipeline",
        "object-detection": "pipeline_ascan_detection:AsCANDetectionPipeline",
    },
    "lpgs": {"image-to-3d": "pipeline_lpgs:LPGSPipeline"},
    "bitsfusion": {"text-to-image": "pipeline_bitsfusion:BitsFusionPipeline"},
    "controlmm": {"text-to-motion": "pipeline_controlmm:ControlMMPipeline"},
    "lightspeed": {"image-to-3d": "pipeline_lightspeed:LightSpeedPipeline"},
}
"""slug -> task -> "module:class" of the pipeline; a method's first task is its default."""


def pipeline_class(slug: str, task: str | None = None) -> type[Any]:
    """Imports and returns the pipeline of a method.

    Args:
        slug: a key of `METHODS`.
        task: a task of that method; None takes its first.

    Raises:
        ValueError: for a method or a task that is not in `METHODS`, naming the nearest one.
    """
    if slug not in METHODS:
        raise unknown_name("method", slug, METHODS)
    tasks = METHODS[slug]
    if task is not None and task not in tasks:
        raise unknown_name(f"task of {slug}", task, tasks)
    module, name = tasks[task or next(iter(tasks))].split(":")
    return getattr(import_module(f".{module}", __name__), name)


def __getattr__(name: str) -> Any:
    for slug, tasks in METHODS.items():
        for task, target in tasks.items():
            if target.endswith(f":{name}"):
                return pipeline_class(slug, task)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
