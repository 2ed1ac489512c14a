"""LPGS's recipe: a scene is fitted to its pictures and leaves what it promises."""

import json

import datasets
import pytest
import torch

from pocket_diffusers.hub_models.gaussians_lpgs import LPGSGaussians
from pocket_diffusers.pipelines.pipeline_lpgs import LPGSPipeline
from pocket_diffusers.pipelines.weights import weights_digest
from pocket_diffusers.training.recipe_lpgs import SCENE, STAGES, ScenePreset, run

FEW = {"steps": "12", "image_size": "32", "max_bytes": "30000"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        assert run("scene", "nano", folder, overrides=FEW) == folder / "scene" / "model"
        yield folder / "scene"


def test_the_scene_is_a_pipeline_that_shows_it_and_keeps_to_its_bytes(folder):
    pipeline = LPGSPipeline.from_pretrained(folder / "model")
    assert len(pipeline.container()) <= 30_000 and pipeline.config.circle["up"] == "y"
    images = pipeline(num_frames=2, height=16, width=16, output_type="pt").images
    assert images.isfinite().all() and images.std() > 0.01


def test_the_record_replays_it(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (record,) = json.loads((folder / "training.json").read_text())
    assert record["command"] == (
        "pocket train lpgs --stage scene --preset nano --set steps=12 --set image_size=32 --set max_bytes=30000"
    )
    assert record["data"] == "pocketworld, scene 2 of split test, size 32"
    assert record["digest_out"] == weights_digest(folder / "model")
    again = run("scene", "nano", tmp_path / "again", overrides=FEW)
    assert weights_digest(again) == record["digest_out"]


def test_the_paper_s_preset_is_the_paper_s(tmp_path):
    paper = SCENE["paper"]
    how = paper.fit()
    assert (how.steps, how.children_per_parent, how.hash_log2_size(how.parents)) == (30_000, 2, 18)
    with torch.device("meta"):
        scene = LPGSGaussians(hash_log2_size=18, **how.model)
    assert scene.config.grid_dim == 64 and scene.config.hash_levels == 16
    with pytest.raises(ValueError, match="source must be your capture: a folder of COLMAP"):
        run("scene", "paper", tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 2}, "batch_size must be 1: a step looks at one view, not 2"),
        ({"scene": -1}, "scene must be at least 0, not -1"),
        ({"up": "up"}, "up must be one of x, y, z"),
        ({"model": "C4"}, "preset must be one of nano, C1, C2, C3, not 'C4'"),
        ({"max_bytes": 100}, "max_bytes must be"),
        ({"children_per_parent": 3}, "children_per_parent must be 0, 1 or 2, not 3"),
    ],
)
def test_numbers_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ScenePreset(**{"model": "", "max_bytes": 30_000, **changes})


def test_stages_say_what_may_stand_for_their_source():
    assert "COLMAP" in STAGES["scene"].data
