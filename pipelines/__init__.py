"""Pipelines: what turns a user's inputs into a result. Importing this package imports no torch."""

from difflib import get_close_matches
from importlib import import_module
from typing import Any

METHODS: dict[str, dict[str, str]] = {
    "snapgen": {"text-to-image": "pipeline_snapgen:SnapGenPipeline"},
    "ascan": {
        "class-to-image": "pipeline_ascan:AsCANPipeline",
        "image-classification": "pipeline_ascan_classification:AsCANImageClassificationPipeline",
        "object-detection": "pipeline_ascan_detection:AsCANDetectionPipeline",
    },
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
    tasks = METHODS[_known(slug, METHODS, "method")]
    module, name = tasks[_known(task, tasks, f"{slug} task") if task else next(iter(tasks))].split(":")
    return getattr(import_module(f".{module}", __name__), name)


def _known(name: str, names: dict[str, Any], kind: str) -> str:
    if name in names:
        return name
    near = get_close_matches(name, names, n=1, cutoff=0.4)
    guess = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"unknown {kind} {name!r}: {guess}Known: {', '.join(names)}.")


def __getattr__(name: str) -> Any:
    for slug, tasks in METHODS.items():
        for task, target in tasks.items():
            if target.endswith(f":{name}"):
                return pipeline_class(slug, task)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
