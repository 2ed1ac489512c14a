"""A folder that diffusers loads, of one model or of a pipeline: which of its models is meant, and what else it has."""

import shutil
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import diffusers
from diffusers import ModelMixin, SchedulerMixin

from .files import read_json
from .inputs import require
from .repository import INDEX, PACKAGE

DENOISERS = ("unet", "transformer")
WEIGHTS = {".bin", ".ckpt", ".gguf", ".msgpack", ".pt", ".pth", ".safetensors"}


class DiffusersFolder:
    """A model's folder, or a pipeline's with one of its models.

    Args:
        place: the folder.
        component: the model of a pipeline; None is its unet or else its transformer.

    Raises:
        FileNotFoundError: there is no model.
        ValueError: the pipeline has no such component.
    """

    def __init__(self, place: Path, component: str | None = None) -> None:
        self.place, self.is_pipeline = place, (place / INDEX).is_file()
        if self.is_pipeline:
            self.index: dict[str, Any] = read_json(place / INDEX, dict)
            self.component: str | None = self._chosen(component)
            self.model_folder = place / self.component
            return
        if not (place / "config.json").is_file():
            raise FileNotFoundError(
                f"{place} holds no model: neither {INDEX} of a pipeline nor config.json of a model."
            )
        require(component is None, "component", component, "left out for a model without pipeline")
        self.component, self.model_folder = None, place

    def _chosen(self, component: str | None) -> str:
        models = self._models()
        if component is not None:
            require(component in models, "component", component, f"one of {', '.join(models) or 'none'}")
            return component
        for name in DENOISERS:
            if isinstance(self.index.get(name), list) and self.index[name] != [None, None]:
                return name
        what = f"{' or a '.join(DENOISERS)}, which it does not"
        hint = f": choose a component of {', '.join(models)}" if models else ""
        raise ValueError(f"{self.place / INDEX} must name a {what}{hint}.")

    def _models(self) -> list[str]:
        """Names of the components that are models of diffusers or of this package."""
        return [
            name
            for name, stored in self.index.items()
            if Path(name).name == name and isinstance(stored, list) and stored and _model_class(stored[-1])
        ]

    @property
    def other_models(self) -> list[str]:
        """Those that are not meant."""
        return [name for name in self._models() if name != self.component] if self.is_pipeline else []

    @cached_property
    def config(self) -> dict[str, Any]:
        """The model's own.

        Raises:
            FileNotFoundError: it is missing.
            ValueError: it is damaged, or that of a quantised model.
        """
        stored: dict[str, Any] = read_json(self.model_folder / "config.json", dict)
        if "quantization_config" in stored:
            given = stored["quantization_config"]
            by = f", by {given['quant_method']}" if isinstance(given, Mapping) and "quant_method" in given else ""
            raise ValueError(f"{self.model_folder} is quantised already{by}: give the folder that it was made of.")
        return stored

    @property
    def model_class(self) -> type[ModelMixin]:
        """The class that config.json names, of diffusers or of this package; ValueError if it is none."""
        name = self.config.get("_class_name")
        found = _model_class(name)
        if found is None:
            path = self.model_folder / "config.json"
            raise ValueError(
                f"{path} must name a model of diffusers or of {PACKAGE} as _class_name, not {str(name)!r}."
            )
        return found

    @property
    def loader(self) -> str:
        """Name of the class whose `from_pretrained` loads the folder; that of any pipeline for another package's."""
        if not self.is_pipeline:
            return self.model_class.__name__
        stored = self.index.get("_class_name")
        name = str(stored[-1] if isinstance(stored, list) and stored else stored)
        return name if _class(name) is not None else "DiffusionPipeline"

    @property
    def scheduler(self) -> SchedulerMixin | None:
        """That of the pipeline, if it is one; ValueError if it is not of diffusers."""
        if not self.is_pipeline:
            return None
        stored = self.index.get("scheduler")
        name = str(stored[-1] if isinstance(stored, list) and stored else stored)
        found = getattr(diffusers, name, None)
        if not (isinstance(found, type) and issubclass(found, SchedulerMixin)):
            what = f"must name a scheduler of diffusers for a cache of its steps, not {name!r}"
            raise ValueError(f"{self.place / INDEX} {what}.")
        return found.from_config(read_json(self.place / "scheduler" / "scheduler_config.json", dict))

    def copy_rest(self, target: Path) -> None:
        """Copies all of a pipeline but the model, and files of weights beside the index, a second copy of it."""
        if not self.is_pipeline:
            return
        for path in sorted(self.place.rglob("*")):
            inside = path.relative_to(self.place)
            second_copy = len(inside.parts) == 1 and path.suffix.lower() in WEIGHTS
            hidden = inside.parts[0].startswith(".")
            if inside.parts[0] == self.component or hidden or second_copy or not path.is_file():
                continue
            (target / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / inside)


def _class(name: Any) -> Any:
    """What diffusers or this package calls so."""
    return getattr(diffusers, str(name), None) or getattr(import_module(PACKAGE), str(name), None)


def _model_class(name: Any) -> type[ModelMixin] | None:
    found = _class(name)
    return found if isinstance(found, type) and issubclass(found, ModelMixin) else None
