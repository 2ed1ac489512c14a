"""What `pocket fit lightspeed` leaves."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_lightspeed import TEACHER

from pocket_diffusers.hub_models.field_lightspeed import LightSpeedField
from pocket_diffusers.hub_models.radiance_lightspeed import LightSpeedRadianceField
from pocket_diffusers.hub_models.rendering.cameras import intrinsics, orbit
from pocket_diffusers.pipelines.fitting.scene_folder_lightspeed import (
    PICTURE_OPTIONS,
    SUB_SCENES,
    pictures_to_folder,
    run_folder,
)
from pocket_diffusers.pipelines.inputs import Captures, PosedImages
from pocket_diffusers.pipelines.pipeline_lightspeed import LightSpeedPipeline
from pocket_diffusers.pipelines.scene_cameras import Cameras

HEIGHT, WIDTH = 16, 24
WISHES = {**PICTURE_OPTIONS, "steps": 4, "preset": "tiny", "seed": 3}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """A preset whose fit takes no time."""
    options = {"grid_resolutions": (4,), "width": 8, "blocks": 1, "tail_channels": (4, 4, 4)}
    monkeypatch.setitem(LightSpeedField.presets, "tiny", options)


def capture(viewmats: torch.Tensor, seed: int) -> Captures:
    draw = torch.Generator().manual_seed(seed)
    images = torch.rand(len(viewmats), 3, HEIGHT, WIDTH, generator=draw) * torch.tensor([0.2, 0.9, 0.5])[:, None, None]
    posed = PosedImages(images, viewmats, intrinsics(40.0, HEIGHT, WIDTH).expand(len(viewmats), 3, 3))
    return Captures(posed, torch.zeros(0, 3), torch.zeros(0, 3), tuple(map(str, range(len(viewmats)))))


def on_a_plane(places: list[tuple[float, float]], seed: int) -> Captures:
    viewmats = torch.eye(4).repeat(len(places), 1, 1)
    viewmats[:, :2, 3] = -torch.tensor(places)
    return capture(viewmats, seed)


SEEN = on_a_plane([(x, y) for y in (-1.0, 0.0, 1.0) for x in (-1.0, 0.0, 1.0) if x or y], 0)
HELD_OUT = on_a_plane([(0.0, 0.0), (0.5, 0.5)], 1)


def test_the_report_is_of_the_repository_that_is_left(tmp_path):
    out = tmp_path / "field"
    report = pictures_to_folder(SEEN, HELD_OUT, out, WISHES, True)
    pipeline = LightSpeedPipeline.from_pretrained(out)
    pipeline.set_progress_bar_config(disable=True)
    posed = HELD_OUT.posed
    shown = pipeline(Cameras(posed.viewmats, posed.Ks, WIDTH, HEIGHT), output_type="np").images
    errors = np.square(shown - posed.images.movedim(1, -1).numpy()).mean((1, 2, 3))
    assert report.psnr == pytest.approx(float((-10 * np.log10(errors)).mean()), abs=1e-3)
    weights = out / "field" / "diffusion_pytorch_model.safetensors"
    learned = {name for name, _ in pipeline.field.named_parameters()}
    assert report.parameters == sum(value.numel() for name, value in load_file(weights).items() if name in learned)
    assert report.bytes == weights.stat().st_size and (report.held_out, report.sub_scenes) == (2, 1)
    assert pipeline.view_range.kind == "grid" and pipeline.view_range.half_width == 1
    assert Image.open(out / "sheet.png").size[0] > 2 * 240
    told = report.told(out)
    assert told.startswith(f"Fitted a light field of {report.parameters:,} parameters: {report.bytes:,} bytes; ")
    assert told.endswith(f" {report.psnr:.2f} dB on 2 views that it never saw: look at {out / 'sheet.png'}")


def test_a_fit_goes_on_and_its_result_is_replaced(tmp_path):
    out = tmp_path / "field"
    report = pictures_to_folder(SEEN, HELD_OUT, out, WISHES, True)
    data = (out / "field" / "diffusion_pytorch_model.safetensors").read_bytes()
    (out / "README.md").write_text("Mine.")
    assert [path.name for path in (run_folder(out) / "previews").iterdir()] == ["step_00000004.png"]
    assert pictures_to_folder(SEEN, HELD_OUT, out, WISHES, True) == report
    assert (out / "field" / "diffusion_pytorch_model.safetensors").read_bytes() == data
    assert (out / "README.md").read_text() == "Mine."
    with pytest.raises(ValueError, match="field-fit' holds a run already"):
        pictures_to_folder(SEEN, HELD_OUT, out, WISHES, False)
    with pytest.raises(ValueError, match="was made with"):
        pictures_to_folder(HELD_OUT, SEEN, out, WISHES, True)


def test_another_folder_is_refused_before_the_fit(tmp_path):
    (tmp_path / "field").mkdir()
    (tmp_path / "field" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="field exists and is no checkpoint repository"):
        pictures_to_folder(SEEN, HELD_OUT, tmp_path / "field", WISHES, True)
    assert [path.name for path in tmp_path.rglob("*")] == ["field", "notes.txt"]


@pytest.mark.parametrize(("wished", "made"), [(None, SUB_SCENES), (4, 4)])
def test_cameras_from_all_around_are_divided(tmp_path, wished, made):
    around = capture(orbit((0, 0, 0), 4.0, 12, 20.0, (0, 0, 1)), 0)
    wishes = {**WISHES, "sub_scenes": wished, "up": "z", "steps": 2}
    report = pictures_to_folder(around, around, tmp_path / "field", wishes, True)
    assert report.sub_scenes == made and f"parameters in {made} sub-scenes: " in report.told(tmp_path)
    seen = LightSpeedPipeline.from_pretrained(tmp_path / "field").view_range
    assert (seen.kind, seen.up) == ("orbit", "z") and seen.low == pytest.approx(20, abs=0.01)


def test_a_wish_for_a_teacher_is_fulfilled_within_the_run(tmp_path, monkeypatch):
    monkeypatch.setitem(LightSpeedField.presets, "nano", LightSpeedField.presets["tiny"])
    monkeypatch.setitem(LightSpeedRadianceField.presets, "nano", TEACHER)
    out, seen = tmp_path / "field", replace(SEEN, bounds=torch.tensor([[2.0, 9.0]]).expand(8, 2))
    wishes = {**WISHES, "preset": "nano", "teacher_steps": 2, "pseudo_views": 3}
    pictures_to_folder(seen, HELD_OUT, out, wishes, True)
    (pictures,) = (run_folder(out) / "teacher" / "pseudo_3").iterdir()
    assert load_file(pictures)["images"].shape == (3, 3, HEIGHT, WIDTH)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["field", "field-fit"]
