"""Fields of configs: those that the weights were saved with, and those that a preset builds."""

import json

import pytest
import torch

from pocket_diffusers import AsCANModel, AsCANUNet2DModel, checkpoint
from pocket_diffusers.model_cards.configs import model_configs, recipe_configs, weight_configs


def test_configs_of_weights_are_those_of_their_files(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text('{"rope": "all", "widths": [8, 16], "pw_bias": false, "head": null}')
    (tmp_path / "samples").mkdir()
    (tmp_path / "config.json").write_text("{}")
    assert weight_configs(tmp_path) == {
        "unet": {"rope": '"all"', "widths": "[8, 16]", "pw_bias": "false", "head": "null"}
    }
    assert weight_configs(checkpoint("snapgen-nano")).keys() == {"text_encoder", "unet", "vae"}


@pytest.mark.parametrize("model", [AsCANModel, AsCANUNet2DModel])
def test_configs_of_presets_are_those_of_the_models_that_they_build(model):
    known = model_configs("ascan")
    assert known.keys() == {"AsCANModel", "AsCANUNet2DModel"} and known[model.__name__].keys() == model.presets.keys()
    for name, fields in known[model.__name__].items():
        with torch.device("meta"):
            config = model.from_preset(name).config
        built = {field: value for field, value in config.items() if not field.startswith("_")}
        assert {field: json.loads(value) for field, value in fields.items()} == json.loads(json.dumps(built))


def test_configs_of_a_recipe_are_the_numbers_of_its_stages():
    recipe = recipe_configs("snapgen")
    assert recipe["base"].keys() == {"nano", "paper"}
    base = {field: json.loads(value) for field, value in recipe["base"]["paper"].items()}
    assert (base["learning_rate"], base["steps"], base["text_drop"]) == (1e-4, 400_000, 0.464)


def test_what_is_no_method_has_neither_models_nor_a_recipe():
    assert model_configs("clip") == recipe_configs("clip") == {}
