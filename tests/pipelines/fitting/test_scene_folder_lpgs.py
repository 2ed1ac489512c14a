"""What `pocket fit lpgs` leaves."""

import math

import pytest
import torch

from pocket_diffusers.hub_models.container_lpgs import decode_scene
from pocket_diffusers.hub_models.rendering.cameras import intrinsics, orbit
from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.splat_files import read_splats, write_splats
from pocket_diffusers.pipelines.fitting import scene_folder_lpgs
from pocket_diffusers.pipelines.fitting.scene_folder_lpgs import (
    PICTURE_OPTIONS,
    SPLAT_OPTIONS,
    fit_pictures,
    fit_splat_file,
    pictures_to_folder,
    splats_to_folder,
)
from pocket_diffusers.pipelines.fitting.scene_lpgs import LPGSFit
from pocket_diffusers.pipelines.inputs import Captures, PosedImages
from pocket_diffusers.pipelines.scene_cameras import Cameras

HOW = LPGSFit(max_bytes=18_000, steps=12, regression_steps=25, sh_degree=3)
SIDE = 24


@pytest.fixture(scope="module")
def ball() -> Gaussians:
    draw = torch.Generator().manual_seed(0)
    means = torch.nn.functional.normalize(torch.randn(300, 3, generator=draw), dim=1)
    upright = torch.tensor([1.0, 0, 0, 0]).expand(300, 4)
    return Gaussians(means, torch.full((300, 3), -2.0), upright, torch.full((300,), 3.0), means[:, None])


def test_a_file_of_splats_becomes_a_small_scene_that_any_viewer_opens(ball, tmp_path):
    write_splats(ball, tmp_path / "ball.ply")
    out = tmp_path / "out"
    report = fit_splat_file(tmp_path / "ball.ply", out, HOW, SIDE)
    data = (out / "scene.lpgs").read_bytes()
    assert report.bytes_after == len(data) == sum(report.parts.values()) <= HOW.max_bytes
    assert report.bytes_before == (tmp_path / "ball.ply").stat().st_size and report.held_out == 30
    opened, unpacked = read_splats(out / "scene.ply"), decode_scene(data).expand()
    assert len(opened) == report.gaussians == 3 * report.parents and opened.sh_degree == ball.sh_degree
    assert all(torch.equal(opened.tensors()[name], value) for name, value in unpacked.tensors().items())
    again = fit_splat_file(tmp_path / "ball.ply", out, HOW, SIDE)
    assert again == report and (out / "scene.lpgs").read_bytes() == data, "the run that is there is finished"


def test_photographs_become_a_scene_measured_on_others(ball, tmp_path):
    views = orbit((0, 0, 0), 4.0, 8, 20.0)
    cameras = Cameras(views, intrinsics(40.0, SIDE, SIDE).expand(8, 3, 3), SIDE, SIDE)
    pictures = torch.cat([cameras.draw(ball, camera).rgb for camera in range(8)]).clamp(0, 1)
    posed = PosedImages(pictures, cameras.viewmats, cameras.Ks)
    report = fit_pictures(
        posed.select([1, 2, 3, 5, 6, 7]), posed.select([0, 4]), ball.means[::6], tmp_path / "out", HOW
    )
    assert report.bytes_before is None and report.held_out == 2 and math.isfinite(report.psnr)
    unpacked = decode_scene((tmp_path / "out" / "scene.lpgs").read_bytes()).expand()
    errors = [
        float((cameras.draw(unpacked, camera).rgb[0].clamp(0, 1) - pictures[camera]).square().mean().detach())
        for camera in (0, 4)
    ]
    assert report.psnr == pytest.approx(-10 * math.log10(sum(errors) / 2), abs=1e-3)


def test_what_the_command_is_told_decides_the_fit(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(scene_folder_lpgs, "fit_splat_file", lambda *given: asked.append(given))
    wishes = {**SPLAT_OPTIONS, "budget_mb": 0.05, "steps": 7, "children": 1, "seed": 2, "up": "z", "size": 20}
    splats_to_folder(tmp_path / "a.ply", None, tmp_path, wishes, False)
    how = LPGSFit(max_bytes=50_000, steps=7, children_per_parent=1, seed=2)
    assert asked == [(tmp_path / "a.ply", tmp_path, how, 20, None, "z", 0, False)]


def test_a_capture_without_points_is_refused(tmp_path):
    views = PosedImages(torch.zeros(2, 3, 8, 8), orbit((0, 0, 0), 4.0, 2), intrinsics(40.0, 8, 8).expand(2, 3, 3))
    capture = Captures(views, torch.zeros(1, 3), torch.zeros(1, 3), ("a", "b"))
    with pytest.raises(ValueError, match="the capture's sparse points must be at least 2, as COLMAP finds them, not 1"):
        pictures_to_folder(capture, capture, tmp_path / "out", PICTURE_OPTIONS, True)
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_missing_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.ply"):
        fit_splat_file(tmp_path / "none.ply", tmp_path / "out", HOW, SIDE)
    assert list(tmp_path.iterdir()) == []
