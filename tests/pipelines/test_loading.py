"""Weights are found by folder, by name or on the Hub."""

import json
import os

import pytest
from tiny_ascan import make_classifier, make_detector, make_generator

from pocket_diffusers import checkpoint, cli
from pocket_diffusers.pipelines import METHODS
from pocket_diffusers.pipelines.loading import find_model, load_pipeline
from pocket_diffusers.pipelines.pipeline_snapgen import SnapGenPipeline
from pocket_diffusers.pipelines.repository import save_repository


def test_what_a_model_may_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert find_model("here") == "here"
    assert find_model("owner/name") == "owner/name"
    with pytest.raises(ValueError, match="checkpoint 'nowhere' is unknown"):
        find_model("nowhere")


def test_weights_say_which_of_a_methods_pipelines_they_are_for(tmp_path):
    for pipeline in (make_generator(), make_classifier(), make_detector()):
        folder = save_repository(pipeline, tmp_path / type(pipeline).__name__)
        assert type(load_pipeline("ascan", str(folder))) is type(pipeline)
    (folder / "model_index.json").write_text("{")
    with pytest.raises(ValueError, match=r"model_index\.json is truncated or no JSON file"):
        load_pipeline("ascan", str(folder))
    with pytest.raises(FileNotFoundError, match="no checkpoint folder at ./nowhere"):
        load_pipeline("ascan", "./nowhere")


FOREIGN = [
    pytest.param(slug, target.split(":"), f"holds weights of {owner} ({target.split(':')[1]}), not of {slug}.")
    for slug in METHODS
    for owner in METHODS
    if owner != slug
    for target in METHODS[owner].values()
] + [
    pytest.param(slug, name, f"holds weights of another package's {name}, not of {slug}.")
    for slug in METHODS
    for name in ("StableDiffusionPipeline", "DiTPipeline")
]


@pytest.mark.parametrize(("slug", "class_name", "sentence"), FOREIGN)
def test_weights_of_another_method_or_package_are_named(slug, class_name, sentence, tmp_path, capsys):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": class_name, "unet": ["diffusers", "X"]}))
    for command in (["generate", slug, "-p", "x"], ["export", slug, "--to", "onnx"]):
        assert cli.main([*command, "--model", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
        assert capsys.readouterr().err.strip().endswith(f"model {str(tmp_path)!r} {sentence}")


def test_a_folder_called_like_the_owner_does_not_hide_the_hub(tmp_path, monkeypatch):
    """The Hub is not asked: its cache holds the repository."""
    commit, cache = "0" * 40, tmp_path / "cache" / "models--owner--name"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    (cache / "snapshots").mkdir()
    os.symlink(checkpoint("snapgen-nano"), cache / "snapshots" / commit)
    (tmp_path / "owner").mkdir()
    monkeypatch.chdir(tmp_path)
    pipeline = SnapGenPipeline.from_pretrained("owner/name", cache_dir=tmp_path / "cache", local_files_only=True)
    assert pipeline.unet.config.sample_size


def test_a_name_that_is_nowhere_says_where_was_looked(tmp_path, monkeypatch):
    (tmp_path / "owner").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="model 'owner/none' is no folder here and cannot be fetched from the Hub"):
        load_pipeline("snapgen", "owner/none")
