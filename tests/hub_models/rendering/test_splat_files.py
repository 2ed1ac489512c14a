"""Which reader and which writer a name stands for."""

import pytest
import torch

from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.splat_files import compressed_ply, read_splats, suffix_of, write_splats


def one():
    return Gaussians(
        torch.tensor([[1.0, 2, 3]]), torch.zeros(1, 3), torch.ones(1, 4), torch.zeros(1), torch.zeros(1, 1, 3)
    )


@pytest.mark.parametrize("name", ["a.ply", "A.PLY", "a.compressed.ply", "a.spz", "a.splatz", "a.sog", "meta.json"])
def test_a_scene_of_one_gaussian_comes_back_by_its_name(tmp_path, name):
    write_splats(one(), tmp_path / name)
    read = read_splats(tmp_path / name)
    torch.testing.assert_close(read.means, one().means)
    assert len(read) == 1


def test_a_folder_is_read_by_what_it_holds(tmp_path):
    write_splats(one(), tmp_path / "meta.json")
    assert len(read_splats(tmp_path)) == 1
    (tmp_path / "meta.json").unlink()
    with pytest.raises(
        ValueError, match=r"must be a file, or a folder with lod-meta\.json or meta\.json, but has neither"
    ):
        read_splats(tmp_path)


def test_compressed_plys_are_told_by_their_header(tmp_path, monkeypatch):
    monkeypatch.setattr(compressed_ply, "decode", lambda source, elements: list(elements))
    head = "ply\nformat binary_little_endian 1.0\nelement chunk 0\nend_header\n"
    for name in ("a.ply", "a.compressed.ply"):
        (tmp_path / name).write_text(head)
        assert read_splats(tmp_path / name) == ["chunk"]


@pytest.mark.parametrize("name", ["scene.ksplat", "scene.glb", "scene.txt", "scene", "ply"])
def test_other_formats_are_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"whatever")
    with pytest.raises(ValueError, match=rf"{name} must be a file that is read, \.ply, .*: .* is not\.$"):
        read_splats(tmp_path / name)


def test_levels_are_for_streamed_scenes(tmp_path):
    write_splats(one(), tmp_path / "a.ply")
    with pytest.raises(ValueError, match=r"level must be 0, not 2: .*a\.ply has one level of detail"):
        read_splats(tmp_path / "a.ply", 2)


def test_a_suffix_stands_in_for_the_name(tmp_path):
    write_splats(one(), tmp_path / "draft", ".spz")
    assert (tmp_path / "draft").read_bytes()[:4] == b"NGSP"
    assert [suffix_of(name) for name in ("b/a.compressed.ply", "x.SPZ", "c/meta.json", "my.json", "none")] == [
        ".compressed.ply", ".spz", "meta.json", ".json", ""
    ]  # fmt: skip
