"""The nano field beside a teacher, tiny ones in their places."""

from contextlib import chdir
from dataclasses import replace
from math import log10

import pytest
import torch

from pocket_diffusers.eval.claims.lightspeed import teacher as module
from pocket_diffusers.eval.claims.lightspeed.benchmark import BENCHMARK
from pocket_diffusers.eval.claims.lightspeed.nano import NANO
from pocket_diffusers.eval.timing.contender_process import build_work
from pocket_diffusers.hub_models.field_lightspeed import LightSpeedField
from pocket_diffusers.pipelines.fitting.teacher_lightspeed import SceneBall, TeacherFit, fit_teacher
from pocket_diffusers.pipelines.pipeline_lightspeed import LightSpeedPipeline
from pocket_diffusers.pipelines.repository import save_repository
from pocket_diffusers.training.recipe_lightspeed import FIELD

TEACHER = TeacherFit(steps=3, rays=64, samples=2048, options={"bins": 16, "occupancy_resolution": 8})


@pytest.fixture
def settings(tmp_path):
    torch.manual_seed(0)
    field = LightSpeedField(grid_resolutions=(3,), width=8, blocks=1, tail_channels=(4, 4, 4))
    save_repository(LightSpeedPipeline(field), tmp_path / "checkpoints" / NANO)
    orbit = replace(FIELD["nano"], scene=0, image_size=16, num_pictures=5, held_out=2)
    return replace(BENCHMARK.settings, checkpoints=tmp_path / "checkpoints", world=orbit, teacher=TEACHER, repeats=2)


def test_both_are_compared_and_timed_at_the_same_camera(settings, contest, tmp_path):
    def seconds(one):
        with chdir(one.folder):
            pictures.append(build_work(one.build, one.arguments).call())
        return (0.1, 0.2) if one.name == "LightSpeed" else (1.0, 4.0)

    pictures = []
    asked = contest(seconds)
    rows = {row.id: row for row in BENCHMARK.measure("teacher", tmp_path, settings)}
    assert list(rows) == [f"teacher-{name}" for name in ("psnr", "ssim", "seconds", "speedup", "memory")]
    seen, held_out = (one.posed for one in settings.world.captures())
    teacher = fit_teacher(seen, SceneBall.all_around(seen), TEACHER, progress=False)
    drawn, _ = teacher.eval().render(held_out.viewmats, held_out.Ks, 16, 16)
    psnr = rows["teacher-psnr"]
    assert psnr.rival_measured == pytest.approx(-10 * log10((drawn - held_out.images).square().mean()), abs=0.01)
    assert psnr.measured != psnr.rival_measured and "after 3 steps of 64 rays" in psnr.claim
    assert rows["teacher-speedup"].measured == 15 and {row.size for row in rows.values()} == {"nano"}
    ours, theirs = pictures
    assert torch.allclose(theirs, drawn[:1], atol=1e-5) and ours.shape == theirs.shape
    assert asked[0][0][0].arguments["side"] == 16
    assert not [entry for entry in (tmp_path / ".lightspeed.partial").iterdir() if entry.is_dir()], "the fit is gone"


def test_an_interrupted_measurement_goes_on_with_its_fit(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "rendered_likeness", lambda teacher, posed: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        BENCHMARK.measure("teacher", tmp_path, settings)
    (folder,) = (tmp_path / ".lightspeed.partial").iterdir()
    assert (folder / "checkpoints" / "step_00000003").is_dir()
