"""Facts: counted from the weights themselves, read from results, bound to the weights that they describe."""

import json

import pytest
import torch

from pocket_diffusers import checkpoint
from pocket_diffusers.hub_models.autoencoder_snapgen import AutoencoderSnapGen
from pocket_diffusers.hub_models.unet_snapgen import SnapGenUNet2DConditionModel
from pocket_diffusers.model_cards.facts import (
    count_weights,
    gather_facts,
    read_results,
)
from pocket_diffusers.model_cards.template import read_template
from pocket_diffusers.pipelines import METHODS


def facts_of(world):
    template = read_template(world.template)
    return gather_facts(template, "snapgen-nano", world.weights, "me/snapgen", world.sources)


def test_parameters_are_those_of_the_models():
    folder = checkpoint("snapgen-nano")
    counted = count_weights(folder)
    for name, cls in (("unet", SnapGenUNet2DConditionModel), ("vae", AutoencoderSnapGen)):
        with torch.device("meta"):
            model = cls.from_config(json.loads((folder / name / "config.json").read_text()))
        assert counted[name]["parameters"] == sum(tensor.numel() for tensor in model.parameters())
        children = sum(
            counted[name][child]["parameters"] for child, _ in model.named_children() if child in counted[name]
        )
        assert children <= counted[name]["parameters"]
    assert counted["vae"]["decoder"]["parameters"] == sum(tensor.numel() for tensor in model.decoder.parameters())
    assert counted["bytes"] == sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    assert counted["parameters"] == sum(counted[part]["parameters"] for part in ("unet", "vae", "text_encoder"))


def test_rows_by_id_and_by_file(world):
    facts = facts_of(world)
    assert facts["named-right"] is facts["snapgen/named-right"]
    assert (facts["named-right"]["low"], facts["named-right"]["high"]) == (0.75, 0.875)
    assert facts["named-right"]["verdict"] == "missed" and facts["unet-parameters"]["verdict"] == "met"
    assert facts["pipeline"] == {"name": "SnapGenPipeline", "task": "text-to-image"}
    assert facts["weights"]["unet"]["conv"]["parameters"] == 4 * 3 * 2 + 1000
    assert facts["model"]["SnapGenUNet2DConditionModel"]["paper"]["rope"] == '"self_attention"'
    assert facts["recipe"]["base"]["nano"]["image_size"] == "64"


def test_pipeline_is_the_one_that_the_repository_names(world, monkeypatch):
    tasks = {"text-to-image": "pipeline_snapgen:SnapGenPipeline", "object-detection": "pipeline_other:Finder"}
    monkeypatch.setitem(METHODS, "snapgen", tasks)
    (world.weights / "model_index.json").write_text('{"_class_name": ["pipeline_other", "Finder"]}')
    assert facts_of(world)["pipeline"] == {"name": "Finder", "task": "object-detection"}
    (world.weights / "model_index.json").write_text('{"_class_name": "Unknown"}')
    with pytest.raises(ValueError, match="holds weights of another package's Unknown, not of snapgen"):
        facts_of(world)


def test_tables_show_every_row_once_and_say_what_is_missed(world):
    tables = facts_of(world)["results"]
    assert "The judge names" in tables["main"] and "**missed**" in tables["main"]
    assert "0.8125 (0.75 to 0.875) share" in tables["main"] and "(n = 1,600)" in tables["main"]
    assert "true pictures: 0.975, ratio 0.833" in tables["main"]
    assert "378.96" in tables["paper"] and "≤ 380.14, met" in tables["paper"] and "379 |" in tables["paper"]
    assert tables["nano"] == "Nothing was measured yet."


def test_training_record_is_bound_to_its_weights(world):
    assert facts_of(world)["training"]["commands"] == "pocket train snapgen --stage base"
    world.set_weights(1.0)
    with pytest.raises(ValueError, match=f"describes other weights than those here, whose digest is {'[0-9a-f]' * 64}"):
        facts_of(world)


def test_damaged_files_are_named(world):
    (world.sources.cards / "training" / "snapgen-nano.json").write_text("{")
    with pytest.raises(ValueError, match="snapgen-nano.json is truncated or no JSON"):
        facts_of(world)
    (world.sources.results / "snapgen.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match="must hold a JSON list of rows"):
        read_results(world.sources.results)
    (world.weights / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"short")
    with pytest.raises(ValueError, match="diffusion_pytorch_model.safetensors is truncated"):
        count_weights(world.weights)
    with pytest.raises(FileNotFoundError, match="no safetensors weights"):
        count_weights(world.sources.cards)
