"""The pipeline of LPGS: what it shows is what its files hold, and what it was fitted to."""

import pytest
import torch
from tiny_lpgs import CIRCLE, make_pipeline, make_scene

from pocket_diffusers.hub_models.rendering.cameras import orbit
from pocket_diffusers.hub_models.rendering.gaussian_rasterizer import rasterize_gaussians
from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.splat_files import read_splats
from pocket_diffusers.pipelines import pipeline_lpgs
from pocket_diffusers.pipelines.inputs import PosedImages
from pocket_diffusers.pipelines.pipeline_lpgs import LPGSPipeline
from pocket_diffusers.pipelines.scene_cameras import turntable
from pocket_diffusers.pipelines.splat_conversion import convert_splats


def same(ours: Gaussians, theirs: Gaussians, **tolerance) -> None:
    for name, value in ours.tensors().items():
        torch.testing.assert_close(value, theirs.tensors()[name], **tolerance)


def psnr(one, other):
    return -10 * float((one - other).square().mean().log10())


@pytest.fixture(scope="module")
def pipeline():
    return make_pipeline(position_step=0.01, circle=CIRCLE)


def test_pictures_are_those_of_the_unpacked_scene(pipeline):
    splats = pipeline.scene.expand().detach()
    cameras = turntable(splats, 2, 20, 16)
    shown = pipeline(cameras, background="#ff0000", output_type="pt")
    red = torch.tensor([1.0, 0, 0])
    drawn = rasterize_gaussians(splats, cameras.viewmats, cameras.Ks, 20, 16, red, near=cameras.near)
    assert torch.equal(shown.images, drawn.rgb.clamp(0, 1))
    assert torch.equal(shown.depths, drawn.depth) and torch.equal(shown.alphas, drawn.alpha)


def test_a_circle_stands_upright_as_the_scene_does():
    circles = [{**CIRCLE, "up": axis} for axis in "xz"]
    one, other = (make_pipeline(circle=c)(num_frames=4, height=16, width=16, output_type="pt").images for c in circles)
    assert (one - other).abs().max() > 0.01


def test_a_container_comes_back_as_it_was_rounded(pipeline, tmp_path):
    parts = pipeline.to_container(tmp_path / "ball.lpgs")
    assert sum(parts.values()) == (tmp_path / "ball.lpgs").stat().st_size == len(pipeline.container())
    assert parts == pipeline.storage_report()
    again = LPGSPipeline.from_container(tmp_path / "ball.lpgs")
    assert again.config.position_step == 0.01 and again.config.circle == {**CIRCLE, "center": (0.0, 0.0, 0.0)}
    lengths = (again.scene.parent_means[:, None] - pipeline.scene.parent_means[None]).abs().amax(2).min(1).values
    assert lengths.max() <= 0.005 + 1e-6
    assert again.container() == pipeline.container(), "what is rounded once stays"


def test_files_for_viewers_hold_the_unpacked_scene(pipeline, tmp_path):
    pipeline.to_ply(tmp_path / "ball.ply")
    same(read_splats(tmp_path / "ball.ply"), pipeline.gaussians(), atol=0, rtol=0)
    for save, name in ((pipeline.to_ply, "ball.compressed.ply"), (pipeline.to_spz, "ball.spz")):
        save(tmp_path / name)
        found = read_splats(tmp_path / name)
        assert len(found) == len(pipeline.gaussians()) == 360
        assert (found.means.mean(0) - pipeline.gaussians().means.mean(0)).abs().max() < 0.01
    pipeline.to_sog(tmp_path / "ball.sog")
    assert len(read_splats(tmp_path / "ball.sog")) == 360


@pytest.mark.parametrize(
    ("method", "name", "error", "message"),
    [
        (
            "to_ply",
            "ball.spz",
            ValueError,
            r"path must be a name that ends in .ply or .compressed.ply, not ",
        ),
        ("to_spz", "ball", ValueError, "path must be a name that ends in .spz"),
        ("to_sog", "ball.ply", ValueError, "path must be a name that ends in .sog"),
        ("to_container", "ball.ply", ValueError, "path must be a name that ends in .lpgs"),
        ("to_container", "there.lpgs", FileExistsError, "there.lpgs exists already"),
        ("to_ply", "there.ply", FileExistsError, "there.ply exists already"),
    ],
)
def test_names_that_are_not_taken(pipeline, tmp_path, method, name, error, message):
    for there in ("there.lpgs", "there.ply"):
        (tmp_path / there).write_text("mine")
    with pytest.raises(error, match=message):
        getattr(pipeline, method)(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.lpgs", "there.ply"]
    assert all((tmp_path / there).read_text() == "mine" for there in ("there.lpgs", "there.ply"))


def test_a_damaged_container_is_refused(pipeline, tmp_path):
    pipeline.to_container(tmp_path / "ball.lpgs")
    (tmp_path / "cut.lpgs").write_bytes((tmp_path / "ball.lpgs").read_bytes()[:-20])
    with pytest.raises(ValueError, match="LPGS file must be"):
        LPGSPipeline.from_container(tmp_path / "cut.lpgs")
    with pytest.raises(FileNotFoundError):
        LPGSPipeline.from_container(tmp_path / "none.lpgs")


def test_parents_keep_their_places_in_half_precision(tmp_path):
    scene = make_scene()
    with torch.no_grad():
        scene.parent_means += 1000  # where half precision tells only whole units apart
    exact = scene.parent_means.clone()
    pipeline = LPGSPipeline(scene)
    pipeline.to(torch.float16)
    assert torch.equal(scene.parent_means, exact) and scene.color_head[0].weight.dtype == torch.float16
    pipeline.save_pretrained(tmp_path)
    again = LPGSPipeline.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert torch.equal(again.scene.parent_means, exact) and again.scene.dtype == torch.bfloat16


def test_every_reader_of_splats_takes_a_scene(pipeline, tmp_path):
    pipeline.to_container(tmp_path / "ball.lpgs")
    pipeline.save_pretrained(tmp_path / "saved")
    for source in ("ball.lpgs", "saved"):
        done = convert_splats(tmp_path / source, tmp_path / f"{source}.ply")
        assert done.gaussians == 360 and done.bytes_before > 0
    same(read_splats(tmp_path / "saved.ply"), pipeline.gaussians(), atol=0, rtol=0)
    held = LPGSPipeline.from_container(tmp_path / "ball.lpgs").gaussians()
    same(read_splats(tmp_path / "ball.lpgs.ply"), held, atol=0, rtol=0)
    with pytest.raises(ValueError, match=r"level must be 0, not 1: .*ball.lpgs has one level of detail"):
        convert_splats(tmp_path / "ball.lpgs", tmp_path / "other.ply", level=1)


FEW = {"budget_mb": 0.03, "steps": 60, "children_per_parent": 1, "progress": False}


@pytest.fixture(scope="module")
def source() -> Gaussians:
    draw = torch.Generator().manual_seed(0)
    count = 600
    means = torch.nn.functional.normalize(torch.randn(count, 3, generator=draw), dim=1)
    sh = torch.zeros(count, 1, 3)
    sh[:, 0] = means
    upright = torch.tensor([1.0, 0, 0, 0]).expand(count, 4)
    return Gaussians(means, torch.full((count, 3), -2.3), upright, torch.full((count,), 3.0), sh)


def test_a_scene_is_fitted_to_splats_or_their_file(source, tmp_path):
    cameras = turntable(source, 8, 32, 32)
    settings = {**FEW, "cameras": cameras, "regression_steps": 60}
    fitted = LPGSPipeline.fit(source, **settings)
    assert len(fitted.container()) <= 30_000
    views = turntable(source, 3, 32, 32, elevation=-20)
    shown = fitted(views, output_type="pt").images
    truth = torch.cat([views.draw(source, view).rgb for view in range(3)])
    assert psnr(shown, truth.clamp(0, 1)) > psnr(torch.zeros_like(truth), truth.clamp(0, 1)) + 3
    LPGSPipeline(fitted.scene).to_ply(tmp_path / "ball.ply")
    with pytest.raises(ValueError, match="budget_mb must be a number of at least 0, not -1"):
        LPGSPipeline.fit(tmp_path / "ball.ply", budget_mb=-1)


def test_a_scene_is_fitted_to_pictures(source):
    viewmats = orbit((0.0, 0.0, 0.0), 4.0, 6, 20.0, (0.0, -1.0, 0.0))
    K = torch.tensor([[40.0, 0, 16], [0, 40, 16], [0, 0, 1]]).expand(6, 3, 3)
    drawn = rasterize_gaussians(source, viewmats, K, 32, 32).rgb.clamp(0, 1)
    pictures = PosedImages(drawn, viewmats, K)
    fitted = LPGSPipeline.fit(pictures, points=source.means, **FEW)
    assert len(fitted.container()) <= 30_000
    assert fitted.scene.config.contraction == "mipnerf360"
    circle = fitted.config.circle
    assert circle["distance"] == pytest.approx(4, rel=1e-3) and circle["elevation"] == pytest.approx(20, abs=0.1)
    assert torch.tensor(circle["center"]).abs().max() < 1e-3 and circle["up"] == "-y"
    with pytest.raises(ValueError, match="points are needed with pictures"):
        LPGSPipeline.fit(pictures, **FEW)
    with pytest.raises(ValueError, match="cameras are for splats, and must be left out with pictures"):
        LPGSPipeline.fit(pictures, points=source.means, cameras=turntable(source, 2, 8, 8), **FEW)
    with pytest.raises(ValueError, match="points are for pictures, and must be left out with splats"):
        LPGSPipeline.fit(source, points=source.means, **FEW)


def test_a_direction_that_is_none_is_refused_before_the_fit(source, monkeypatch):
    monkeypatch.setattr(pipeline_lpgs, "fit_scene_to_pictures", lambda *given, **options: pytest.fail("it was fitted"))
    K = torch.tensor([[40.0, 0, 16], [0, 40, 16], [0, 0, 1]]).expand(2, 3, 3)
    pictures = PosedImages(torch.zeros(2, 3, 32, 32), orbit((0.0, 0.0, 0.0), 4.0, 2), K)
    with pytest.raises(ValueError, match="up must be one of x, y, z, -x, -y, -z, not 'w'"):
        LPGSPipeline.fit(pictures, points=source.means, up="w", **FEW)
