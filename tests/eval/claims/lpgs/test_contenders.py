import pytest
import torch

from pocket_diffusers.eval.benchmark import MissingData
from pocket_diffusers.eval.claims.lpgs import contenders
from pocket_diffusers.eval.claims.lpgs.contenders import build_cloud, build_scene, random_cloud
from pocket_diffusers.hub_models.rendering.gaussian_rasterizer import rasterize_gaussians
from pocket_diffusers.hub_models.rendering.splat_files import write_splats
from pocket_diffusers.pipelines.scene_cameras import scene_ball


@pytest.fixture
def asked(monkeypatch):
    """What the rasteriser is asked for."""
    calls = []

    def rasterize(gaussians, viewmats, Ks, width, height, **options):
        drawn = rasterize_gaussians(gaussians, viewmats, Ks, width, height, **{**options, "form": "torch"})
        calls.append((gaussians, drawn, options))
        return drawn

    monkeypatch.setattr(contenders, "rasterize_gaussians", rasterize)
    return calls


def test_a_cloud_is_drawn_whole_without_gradients(asked):
    work = build_cloud("compiled", 300, 32)
    assert work.call() is None and work.facts == {"gaussians": 300}
    ((gaussians, drawn, options),) = asked
    assert options["form"] == "compiled" and drawn.rgb.shape == (1, 3, 32, 32) and not drawn.rgb.requires_grad
    edge = drawn.alpha[0].clone()
    edge[1:-1, 1:-1] = 0
    assert drawn.alpha.max() > 0.1 and edge.max() < 0.5
    assert len(gaussians) == 300 and float(scene_ball(gaussians)[1]) == pytest.approx(1, abs=0.1)


def test_clouds_are_the_same_every_time_and_of_the_size_of_real_splats():
    one, again, more = random_cloud(500), random_cloud(500), random_cloud(5000)
    assert all(torch.equal(value, again.tensors()[name]) for name, value in one.tensors().items())
    assert float(more.log_scales.exp().median()) == pytest.approx(0.0018, rel=0.05)
    assert more.means.norm(dim=1).max() <= 1 and float(more.opacity_logits.sigmoid().median()) < 0.3


def test_a_scene_is_differentiated_by_everything(asked, tmp_path, monkeypatch):
    monkeypatch.setenv("POCKET_DATA", str(tmp_path))
    with pytest.raises(MissingData, match="biker.compressed.ply"):
        build_scene("torch", True, 32)
    (tmp_path / "splats" / "playcanvas_engine").mkdir(parents=True)
    write_splats(random_cloud(200), tmp_path / "splats" / "playcanvas_engine" / "biker.compressed.ply")
    gradients = []
    grad = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *given: gradients.extend(grad(*given)))
    build_scene("torch", False, 32).call()
    assert not gradients and not asked[0][1].rgb.requires_grad
    build_scene("torch", True, 32).call()
    assert [len(gradient) for gradient in gradients] == [200] * 5 and all(bool(g.any()) for g in gradients)
