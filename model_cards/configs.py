"""Fields of configs as a card shows them: of the weights, and of the presets of a method's models and of its recipe."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from ..hub_models.presets import PresetMixin
from ..pipelines import METHODS
from ..pipelines.files import read_json

_MODELS = Path(__file__).parents[1] / "hub_models"
Fields = dict[str, str]


def weight_configs(folder: Path) -> dict[str, Fields]:
    """Component -> field -> value in JSON, of every `config.json` of a repository.

    Raises:
        ValueError: when one is damaged.
    """
    return {path.parent.name: _texts(read_json(path)) for path in sorted(folder.glob("*/config.json"))}


def model_configs(slug: str) -> dict[str, dict[str, Fields]]:
    """Class -> preset -> field -> value in JSON, of every model of a method, with its defaults."""
    return {
        model.__name__: {name: _texts(_defaults(model) | preset) for name, preset in model.presets.items()}
        for path in sorted(_MODELS.glob(f"*_{slug}.py"))
        for model in vars(import_module(f"..hub_models.{path.stem}", __package__)).values()
        if isinstance(model, type) and issubclass(model, PresetMixin) and model is not PresetMixin
    }


def recipe_configs(slug: str) -> dict[str, dict[str, Fields]]:
    """Stage -> preset -> field -> value in JSON, of a method's recipe; nothing for a name that is no method."""
    if slug not in METHODS:
        return {}
    stages = import_module(f"..training.recipe_{slug}", __package__).STAGES
    return {
        stage: {name: _texts(asdict(preset)) for name, preset in entry.presets.items()}
        for stage, entry in stages.items()
    }


def _defaults(model: type) -> dict[str, Any]:
    arguments = signature(model.__init__).parameters.items()
    return {name: entry.default for name, entry in arguments if entry.default is not entry.empty}


def _texts(fields: Mapping[str, Any]) -> Fields:
    return {name: json.dumps(value) for name, value in fields.items()}
