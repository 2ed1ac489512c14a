"""The digest of weights: of these tensors in this place, and of nothing else."""

import hashlib

import numpy as np
import pytest
from safetensors.numpy import save_file

from pocket_diffusers.pipelines.weights import part_digests, weight_files, weights_digest


@pytest.fixture
def repository(tmp_path):
    for part, value in (("unet", 1), ("vae", 2)):
        (tmp_path / part).mkdir()
        save_file({"bias": np.full(3, value, np.float32)}, tmp_path / part / "model.safetensors")
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "config.json").write_text("{}")
    return tmp_path


def test_digest_is_one_sha256_over_paths_and_files(repository):
    lines = [
        f"{part}/model.safetensors {hashlib.sha256((repository / part / 'model.safetensors').read_bytes()).hexdigest()}"
        for part in ("unet", "vae")
    ]
    expected = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
    assert weights_digest(repository) == expected
    (repository / "README.md").write_text("other words")
    assert weights_digest(repository) == expected
    save_file({"bias": np.zeros(3, np.float32)}, repository / "vae" / "model.safetensors")
    assert weights_digest(repository) != expected


def test_parts_are_those_with_weights_each_as_if_alone(repository):
    parts = part_digests(repository)
    assert parts == {part: weights_digest(repository / part) for part in ("unet", "vae")}
    assert part_digests(repository / "unet") == {}


def test_a_folder_without_weights_is_named(tmp_path):
    for ask in (weight_files, weights_digest, part_digests):
        with pytest.raises(FileNotFoundError, match=f"{tmp_path} has no safetensors weights"):
            ask(tmp_path)
