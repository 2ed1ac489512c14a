"""Scenes within a number of bytes: what is kept, what it cost by pictures drawn apart, and what is refused."""

import math

import pytest
import torch

from pocket_diffusers.hub_models.rendering.cameras import intrinsics, orbit
from pocket_diffusers.hub_models.rendering.gaussian_rasterizer import rasterize_gaussians
from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.splat_files import read_splats, write_splats
from pocket_diffusers.pipelines import splat_compression
from pocket_diffusers.pipelines.scene_cameras import Cameras, scene_ball
from pocket_diffusers.pipelines.splat_compression import compress_splats, covered_psnr


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr(splat_compression, "SIDE", 40)


def cloud(count=400, degree=0):
    draw = torch.Generator().manual_seed(0)
    return Gaussians(
        torch.randn(count, 3, generator=draw),
        torch.rand(count, 3, generator=draw) * 2 - 3.5,
        torch.randn(count, 4, generator=draw),
        torch.randn(count, generator=draw),
        torch.randn(count, (degree + 1) ** 2, 3, generator=draw),
    )


def ring(count=16, distance=6.0, side=40):
    K = intrinsics(45, side, side)
    return Cameras(orbit((0, 0, 0), distance, count, 10), K.expand(count, 3, 3), side, side)


def psnr_by_hand(source, other, cameras, alpha=0.01):
    squares = []
    for view, K in zip(cameras.viewmats, cameras.Ks, strict=True):
        one, two = (rasterize_gaussians(s, view[None], K[None], 40, 40, form="torch") for s in (source, other))
        differences = (one.rgb[0].clamp(0, 1) - two.rgb[0].clamp(0, 1)).square().permute(1, 2, 0)
        squares += differences[one.alpha[0] > alpha].flatten().tolist()
    return -10 * math.log10(sum(squares) / len(squares))


def test_the_file_fits_and_the_psnr_is_that_of_cameras_held_out(tmp_path):
    write_splats(cloud(), tmp_path / "a.ply")
    done = compress_splats(tmp_path / "a.ply", tmp_path / "b.splatz", 0.003, ring())
    kept = read_splats(tmp_path / "b.splatz")
    assert done.bytes_after == (tmp_path / "b.splatz").stat().st_size <= 3000
    assert done.bytes_before == (tmp_path / "a.ply").stat().st_size
    assert done.gaussians == len(kept) < done.gaussians_before == 400 and done.held_out == 2
    held_out = ring().select(torch.tensor([0, 8]))
    assert done.psnr == pytest.approx(psnr_by_hand(cloud(), kept, held_out), abs=0.01)


def test_a_larger_budget_looks_better(tmp_path):
    write_splats(cloud(), tmp_path / "a.ply")
    done = [compress_splats(tmp_path / "a.ply", tmp_path / f"{mb}.splatz", mb) for mb in (0.002, 0.004, 0.02)]
    psnrs, kept = [one.psnr for one in done], [one.gaussians for one in done]
    assert psnrs == sorted(psnrs) and psnrs[2] > psnrs[0] + 6 and kept == sorted(kept)
    assert {one.held_out for one in done} == {30}


def test_what_no_camera_sees_goes_first(tmp_path):
    far = cloud(300)
    far = Gaussians(**{**far.tensors(), "means": far.means + torch.tensor([0.0, 100, 0])})
    write_splats(Gaussians.concatenate([cloud(), far]), tmp_path / "a.ply")
    compress_splats(tmp_path / "a.ply", tmp_path / "b.splatz", 1, ring())
    assert read_splats(tmp_path / "b.splatz").means[:, 1].max() < 50


def test_scenes_are_looked_at_from_far_and_near_and_compared_from_elsewhere():
    center, _ = scene_ball(cloud())
    weighed, held_out = splat_compression.cameras_around(cloud(), "z")

    def places(circles):
        """Distances from the centre, and heights above it in degrees."""
        eyes = torch.cat([torch.linalg.inv(circle.viewmats)[:, :3, 3] for circle in circles]) - center
        distances = eyes.norm(dim=1)
        return distances, torch.asin(eyes[:, 2] / distances).rad2deg()

    (far, heights), (others, apart) = places(weighed), places(held_out)
    counts = torch.tensor([circle.share for circle in weighed for _ in range(len(circle))])
    torch.testing.assert_close(counts, far / far.max(), rtol=1e-4, atol=0)
    for distances in (far, others):
        steps = distances.sort(descending=True).values
        torch.testing.assert_close(steps[0] / steps[-1], torch.tensor(2.5), rtol=1e-4, atol=0)
        assert (distances > 0.99 * steps[0]).sum() * 2 == len(distances)
    assert (heights[:, None] - apart).abs().min() > 10, "no camera is compared from where Gaussians were weighed"


def test_degrees_are_cut(tmp_path):
    write_splats(cloud(degree=2), tmp_path / "a.ply")
    assert compress_splats(tmp_path / "a.ply", tmp_path / "b.splatz", 1, ring(), sh_degree=1).sh_degree == 1
    assert read_splats(tmp_path / "b.splatz").sh_degree == 1


def test_progress_ends_at_the_whole(tmp_path):
    write_splats(cloud(), tmp_path / "a.ply")
    shares = []
    compress_splats(tmp_path / "a.ply", tmp_path / "b.splatz", 0.003, ring(), progress=shares.append)
    assert 0.9 < sum(shares) <= 1 + 1e-9 and len(shares) > 20


def test_the_same_scene_has_no_error():
    assert covered_psnr(cloud(), cloud(), [ring(2)]) == math.inf


def test_one_gaussian_is_kept_and_none_to_be_seen_is_refused(tmp_path):
    write_splats(cloud(1), tmp_path / "a.ply")
    assert compress_splats(tmp_path / "a.ply", tmp_path / "b.splatz", 1).gaussians == 1
    clear = Gaussians(**{**cloud(5).tensors(), "opacity_logits": torch.full((5,), -200.0)})
    write_splats(clear, tmp_path / "clear.ply")
    with pytest.raises(ValueError, match="number of cameras that see the scene must be at least 1, not 0"):
        compress_splats(tmp_path / "clear.ply", tmp_path / "c.splatz", 1)
    aside = ring(2)
    aside.viewmats[0, 2, 3] = -100.0  # the held-out one has the scene behind it
    with pytest.raises(ValueError, match="number of held-out cameras that see the scene must be at least 1, not 0"):
        compress_splats(tmp_path / "a.ply", tmp_path / "c.splatz", 1, aside)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ply", "b.splatz", "clear.ply"]


def test_tiny_scenes_are_seen(tmp_path):
    """All of it is nearer to its cameras than what is drawn in a scene of common size."""
    tiny = cloud()
    tiny = Gaussians(**{**tiny.tensors(), "means": tiny.means / 4096, "log_scales": tiny.log_scales - math.log(4096)})
    for name, scene in (("small", tiny), ("common", cloud())):
        write_splats(scene, tmp_path / f"{name}.ply")
    small, common = (
        compress_splats(tmp_path / f"{name}.ply", tmp_path / f"{name}.splatz", 0.003) for name in ("small", "common")
    )
    assert small.psnr == pytest.approx(common.psnr, abs=1.5) and small.gaussians == pytest.approx(
        common.gaussians, abs=8
    )


@pytest.mark.parametrize(
    ("target", "budget", "message"),
    [
        ("b.spz", 1, r"target must be a file that ends in \.splatz, not .*b\.spz"),
        ("b.splatz", 0, "budget_mb must be a number from 0.001"),
        ("b.splatz", math.nan, "budget_mb must be a number from 0.001"),
        ("b.splatz", 0.001, r"max_bytes must be at least \d+ for these Gaussians, not 1000"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_left(tmp_path, target, budget, message):
    write_splats(cloud(degree=3), tmp_path / "a.ply")
    with pytest.raises(ValueError, match=message):
        compress_splats(tmp_path / "a.ply", tmp_path / target, budget, ring())
    assert [path.name for path in tmp_path.iterdir()] == ["a.ply"]


def test_one_camera_is_too_few(tmp_path):
    write_splats(cloud(), tmp_path / "a.ply")
    with pytest.raises(ValueError, match="the number of cameras must be at least 2, not 1"):
        compress_splats(tmp_path / "a.ply", tmp_path / "b.splatz", 1, ring(1))


def test_a_target_is_replaced_only_when_asked_and_kept_when_the_disk_is_full(tmp_path, monkeypatch):
    write_splats(cloud(), tmp_path / "a.ply")
    (tmp_path / "b.splatz").write_text("mine")
    with pytest.raises(FileExistsError, match=r"exists already: .* --overwrite"):
        compress_splats(tmp_path / "a.ply", tmp_path / "b.splatz", 1, ring())

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match=r"cannot write .*b\.splatz: No space left"):
        patch.setattr(splat_compression.Path, "write_bytes", full)
        compress_splats(tmp_path / "a.ply", tmp_path / "b.splatz", 1, ring(), overwrite=True)
    assert (tmp_path / "b.splatz").read_text() == "mine" and len(list(tmp_path.iterdir())) == 2
    compress_splats(tmp_path / "a.ply", tmp_path / "b.splatz", 1, ring(), overwrite=True)
    assert len(read_splats(tmp_path / "b.splatz")) > 300
