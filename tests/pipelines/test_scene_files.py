"""Scenes of methods as plain splats."""

import pytest
import torch
from tiny_ascan import make_generator
from tiny_lpgs import make_pipeline

from pocket_diffusers.hub_models.container_lpgs import decode_scene
from pocket_diffusers.pipelines.scene_files import unpacked_scene


def test_what_is_no_scene_is_left_to_others(tmp_path):
    assert unpacked_scene(tmp_path / "scene.ply") is None
    assert unpacked_scene(tmp_path) is None
    assert unpacked_scene(tmp_path / "scene.ascan") is None, "a method whose scenes have no file"


def test_a_file_and_a_folder_of_a_scene(tmp_path):
    pipeline = make_pipeline()
    data = pipeline.container()
    (tmp_path / "scene.lpgs").write_bytes(data)
    assert torch.equal(unpacked_scene(tmp_path / "scene.lpgs").gaussians.means, decode_scene(data).expand().means)
    pipeline.save_pretrained(tmp_path / "saved")
    found = unpacked_scene(tmp_path / "saved").gaussians
    assert torch.equal(found.sh, pipeline.gaussians().sh) and not found.means.requires_grad


def test_a_pipeline_without_splats_is_refused(tmp_path):
    make_generator().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"must hold splats, but its pipeline AsCANPipeline has none"):
        unpacked_scene(tmp_path)


def test_damaged_and_missing_files_are_refused(tmp_path):
    (tmp_path / "scene.lpgs").write_bytes(b"no scene")
    with pytest.raises(ValueError, match="An LPGS file must be in the safetensors format"):
        unpacked_scene(tmp_path / "scene.lpgs")
    with pytest.raises(FileNotFoundError):
        unpacked_scene(tmp_path / "none.lpgs")
