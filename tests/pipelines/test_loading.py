"""Weights are found by folder, by name or on the Hub."""

import pytest
from tiny_ascan import make_classifier, make_detector, make_generator

from pocket_diffusers.pipelines.loading import find_model, load_pipeline
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
