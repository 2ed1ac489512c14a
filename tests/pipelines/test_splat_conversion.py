"""Splats saved and converted: whole or not at all, from every format that is read to every one that is written."""

import os
from pathlib import Path

import pytest
import torch

from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.splat_files import ply, read_splats, sog, spz
from pocket_diffusers.pipelines.splat_conversion import convert_splats, save_splats

SPLATS = Path(os.environ.get("POCKET_DATA", Path(__file__).parents[3] / "shared" / "data"), "splats")


def cloud(count=300, degree=1):
    draw = torch.Generator().manual_seed(0)
    means = torch.randn(count, 3, generator=draw)
    means[:, 0] = torch.linspace(-3, 3, count)[torch.randperm(count, generator=draw)]
    return Gaussians(
        means,
        torch.rand(count, 3, generator=draw) * 4 - 6,
        torch.randn(count, 4, generator=draw),
        torch.randn(count, generator=draw),
        torch.randn(count, (degree + 1) ** 2, 3, generator=draw) * 0.2,
    )


def by_position(scene):
    """Sorted along x, where the Gaussians of `cloud` lie further apart than any format rounds."""
    return scene.select(scene.means[:, 0].argsort())


@pytest.mark.parametrize("target", ["b.ply", "b.compressed.ply", "b.spz", "b.sog", "folder/meta.json"])
@pytest.mark.parametrize("source", ["a.ply", "a.compressed.ply", "a.spz", "a.sog", "scene/meta.json"])
def test_every_written_format_becomes_every_other(tmp_path, source, target):
    whole = by_position(cloud())
    save_splats(whole, tmp_path / source)
    done = convert_splats(tmp_path / source, tmp_path / target)
    assert done.gaussians == 300 and done.sh_degree == 1
    read = by_position(read_splats(tmp_path / target))
    step = 6 / 1023 if "compressed" in source + target else 8e-4
    torch.testing.assert_close(read.means, whole.means, rtol=0, atol=step)
    torch.testing.assert_close(read.log_scales, whole.log_scales, rtol=0, atol=0.1)
    torch.testing.assert_close(read.opacity_logits.sigmoid(), whole.opacity_logits.sigmoid(), rtol=0, atol=0.005)
    torch.testing.assert_close(read.rgb, whole.rgb, rtol=0, atol=0.02)
    assert torch.nn.functional.cosine_similarity(read.quaternions, whole.quaternions).abs().min() > 0.9998
    if target.endswith((".ply", ".spz")) and source.endswith((".ply", ".spz")):  # SOG has 256 vectors for 300 Gaussians
        torch.testing.assert_close(read.sh[:, 1:], whole.sh[:, 1:], rtol=0, atol=4.5 / 128 + 4 / 256)
    size = sum(
        f.stat().st_size for f in (tmp_path / target).parent.iterdir() if f.is_file() and not f.name.startswith("a.")
    )
    assert done.bytes_after == size


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("playcanvas_engine/biker.spz", 152_746),
        ("playcanvas_engine/biker.compressed.ply", 152_746),
        ("playcanvas_engine/playbot/6_0", 1873),
        ("splat_transform_fixtures/minimal.splat", 4),
        ("splat_transform_fixtures/minimal-v2.spz", 4),
    ],
)
def test_public_scenes_become_plys_to_the_bit(tmp_path, name, count):
    if not (SPLATS / name).exists():
        pytest.skip(f"{name} is not here: set POCKET_DATA to the folder that holds splats/{name}")
    done = convert_splats(SPLATS / name, tmp_path / "a.ply")
    before, after = read_splats(SPLATS / name), ply.read(tmp_path / "a.ply")
    assert done.gaussians == count and done.bytes_after == (tmp_path / "a.ply").stat().st_size
    assert all(torch.equal(value, after.tensors()[key]) for key, value in before.tensors().items())


def test_spz_of_an_spz_has_the_same_numbers(tmp_path):
    name = "playcanvas_engine/biker.spz"
    if not (SPLATS / name).exists():
        pytest.skip(f"{name} is not here: set POCKET_DATA to the folder that holds splats/{name}")
    done = convert_splats(SPLATS / name, tmp_path / "a.spz")
    assert done.bytes_before == 2_242_956 and done.bytes_after < 2_260_000

    def rows(path):
        tensors = read_splats(path).tensors()
        table = torch.cat(
            [tensors[key].reshape(152_746, -1) for key in ("means", "log_scales", "opacity_logits", "sh")], 1
        )
        return table.numpy().view([("", "f4")] * table.shape[1])[:, 0]

    before, after = rows(SPLATS / name), rows(tmp_path / "a.spz")
    before.sort()
    after.sort()
    assert (before == after).all(), "the same Gaussians, in another order"


def test_degrees_are_cut_and_never_added(tmp_path):
    save_splats(cloud(degree=2), tmp_path / "a.ply")
    assert convert_splats(tmp_path / "a.ply", tmp_path / "b.ply", sh_degree=1).sh_degree == 1
    assert torch.equal(ply.read(tmp_path / "b.ply").sh, cloud(degree=2).sh[:, :4])
    assert convert_splats(tmp_path / "a.ply", tmp_path / "c.ply", sh_degree=3).sh_degree == 2
    with pytest.raises(ValueError, match="sh_degree must be a whole number from 0 to 3, not 4"):
        convert_splats(tmp_path / "a.ply", tmp_path / "d.ply", sh_degree=4)


def test_options_go_to_the_format(tmp_path):
    save_splats(cloud(), tmp_path / "a.spz", version=3)
    assert (tmp_path / "a.spz").read_bytes()[:2] == b"\x1f\x8b"
    save_splats(cloud(), tmp_path / "a.ply", normals=False)
    assert b"nx" not in (tmp_path / "a.ply").read_bytes()[:500]


def test_a_target_is_replaced_only_when_asked(tmp_path):
    for name in ("a.ply", "a.sog", "folder/meta.json"):
        save_splats(cloud(5), tmp_path / name)
        with pytest.raises(FileExistsError, match=r"exists already: .* --overwrite"):
            save_splats(cloud(6), tmp_path / name)
        assert len(read_splats(tmp_path / name)) == 5
        save_splats(cloud(6), tmp_path / name, overwrite=True)
        assert len(read_splats(tmp_path / name)) == 6
    assert convert_splats(tmp_path / "a.ply", tmp_path / "a.ply", overwrite=True).gaussians == 6


def test_a_folder_with_other_things_is_never_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds notes\.txt, which is no part of a SOG scene"):
        save_splats(cloud(), tmp_path / "meta.json", overwrite=True)
    (tmp_path / "folder.ply").mkdir()
    with pytest.raises(FileExistsError, match="is a folder, which is never replaced"):
        save_splats(cloud(), tmp_path / "folder.ply", overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("target", ["a.ply", "a.compressed.ply", "a.spz", "a.sog", "folder/meta.json"])
def test_what_fails_leaves_nothing(tmp_path, monkeypatch, target):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    for module, name in ((ply.np, "concatenate"), (spz, "morton_order"), (sog, "morton_order")):
        monkeypatch.setattr(module, name, full)
    with pytest.raises(OSError, match=r"^cannot write .*: No space left on device\.$"):
        save_splats(cloud(), tmp_path / target)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("name", ["a.splat", "a.ksplat", "a.glb", "lod-meta.json", "a"])
def test_formats_that_are_not_written_are_refused_before_anything_is_read(tmp_path, name):
    with pytest.raises(
        ValueError,
        match=r"must be a file that is written, \.ply, \.compressed\.ply, \.spz, \.sog, meta\.json: .* is not",
    ):
        convert_splats(tmp_path / "none.ply", tmp_path / name)
