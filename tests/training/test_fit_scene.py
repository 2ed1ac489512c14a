"""Which method and which kind of source `pocket fit` means, and what it may be told."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from pocket_diffusers.hub_models.rendering.cameras import intrinsics, orbit
from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.splat_files import write_splats
from pocket_diffusers.pipelines.fitting import scene_folder_lightspeed, scene_folder_lpgs
from pocket_diffusers.pipelines.inputs import PosedImages
from pocket_diffusers.training.datasets.sparse_points import SparsePoints
from pocket_diffusers.training.datasets.transforms_json import write_transforms
from pocket_diffusers.training.fit_scene import all_wishes, fit_scene

REPORTS = {
    scene_folder_lpgs: scene_folder_lpgs.FitReport(9, 3, None, 800, {}, 30.0, 2),
    scene_folder_lightspeed: scene_folder_lightspeed.FitReport(1, 50, 100, 30.0, 2),
}


@pytest.fixture
def asked(monkeypatch) -> dict[str, tuple]:
    """What a method's function was called with."""
    calls = {}

    def answer(name, report):
        return lambda *given: calls.update({name: given}) or report

    for method, report in REPORTS.items():
        for name in {"splats_to_folder", "pictures_to_folder"} & set(vars(method)):
            monkeypatch.setattr(method, name, answer(name, report))
    return calls


def fit(source: Path, slug: str = "lpgs", wishes: Mapping[str, Any] | None = None):
    return fit_scene(slug, source, source.parent / "out", {"size": 16, "steps": 5, **(wishes or {})})


def capture_in(folder: Path) -> Path:
    views, Ks = orbit((0, 0, 0), 4.0, 9), intrinsics(40.0, 20, 20).expand(9, 3, 3)
    posed = PosedImages(torch.rand(9, 3, 20, 20, generator=torch.Generator().manual_seed(0)), views, Ks)
    write_transforms(folder, posed, SparsePoints(torch.randn(30, 3), torch.rand(30, 3)))
    return folder


def splats_in(folder: Path) -> Path:
    splats = Gaussians(torch.randn(9, 3), torch.zeros(9, 3), torch.randn(9, 4), torch.zeros(9), torch.zeros(9, 1, 3))
    write_splats(splats, folder / "a.ply")
    return folder / "a.ply"


def test_a_file_of_splats_is_looked_at_from_circles_or_from_a_capture(asked, tmp_path):
    fit(splats_in(tmp_path))
    source, cameras, output, wishes, resume = asked["splats_to_folder"]
    assert (source, cameras, output, resume) == (tmp_path / "a.ply", None, tmp_path / "out", True)
    assert wishes == {**scene_folder_lpgs.SPLAT_OPTIONS, "size": 16, "steps": 5}
    assert (wishes["up"], wishes["level"], wishes["children"], wishes["budget_mb"]) == ("-y", 0, 2, 1.0)
    fit(tmp_path / "a.ply", wishes={"cameras": capture_in(tmp_path / "capture")})
    assert len(asked["splats_to_folder"][1]) == 9 and asked["splats_to_folder"][1].width == 16


@pytest.mark.parametrize("slug", ["lpgs", "lightspeed"])
def test_a_capture_is_parted_into_what_is_learned_and_what_is_held_out(asked, tmp_path, slug):
    fit(capture_in(tmp_path / "capture"), slug)
    seen, held_out, output, wishes, resume = asked["pictures_to_folder"]
    assert len(seen.posed) == 7 and len(held_out.posed) == 2 and seen.posed.width == 16
    assert seen.positions.shape == (30, 3) and output == tmp_path / "out" and wishes["steps"] == 5 and resume


def test_the_record_tells_all_that_decided(asked, tmp_path):
    capture = capture_in(tmp_path / "capture")
    report = fit(splats_in(tmp_path), wishes={"cameras": capture, "seed": 3})
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["command"] == "pocket fit lpgs" and record["seed"] == 3
    inputs = record["inputs"]
    assert (inputs["source"], inputs["cameras"], inputs["steps"], inputs["children"]) == ("a.ply", "capture", 5, 2)
    assert inputs["result"]["psnr"] == report.psnr == 30.0


def test_an_unknown_method_names_those_that_fit_scenes(tmp_path):
    with pytest.raises(ValueError, match="method that fits a scene 'snapgen' is unknown: use one of lightspeed, lpgs"):
        fit(tmp_path / "a.ply", "snapgen")


@pytest.mark.parametrize(
    ("slug", "source", "option", "sentence"),
    [
        ("lightspeed", "capture", "children", "--children is for lpgs."),
        ("lightspeed", "capture", "level", "--level is for lpgs."),
        ("lpgs", "capture", "sub_scenes", "--sub-scenes is for lightspeed."),
        ("lpgs", "a.ply", "field_of_view", "--field-of-view is for lightspeed."),
        ("lpgs", "capture", "up", "--up is for a file of splats."),
        ("lightspeed", "a.ply", "steps", "lightspeed is fitted to photographs with cameras, but a.ply is a file of"),
    ],
)
def test_what_is_not_for_a_method_or_a_source_is_refused(slug, source, option, sentence):
    with pytest.raises(ValueError) as caught:
        all_wishes(slug, Path(source), {option: 1})
    assert sentence in str(caught.value)
