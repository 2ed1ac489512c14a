"""Which method and which kind of source `pocket fit` means."""

from pathlib import Path

import pytest
import torch

from pocket_diffusers.hub_models.rendering.cameras import intrinsics, orbit
from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.splat_files import write_splats
from pocket_diffusers.pipelines.fitting import scene_folder_lpgs
from pocket_diffusers.pipelines.inputs import PosedImages
from pocket_diffusers.training.datasets.sparse_points import SparsePoints
from pocket_diffusers.training.datasets.transforms_json import write_transforms
from pocket_diffusers.training.fit_scene import fit_scene

WISHES = {"max_bytes": 20_000, "steps": 5}


@pytest.fixture
def asked(monkeypatch):
    """What the method's two functions were called with."""
    calls = {}
    for name in ("fit_splat_file", "fit_pictures"):
        monkeypatch.setattr(scene_folder_lpgs, name, lambda *given, name=name: calls.update({name: given}))
    return calls


def fit(source: Path, slug: str = "lpgs", **changes):
    options = {"size": 16, "capture": None, "up": "-y", "level": 0, "resume": True, **changes}
    return fit_scene(slug, source, source.parent / "out", WISHES, **options)


def capture_in(folder: Path) -> Path:
    views, Ks = orbit((0, 0, 0), 4.0, 9), intrinsics(40.0, 20, 20).expand(9, 3, 3)
    posed = PosedImages(torch.rand(9, 3, 20, 20, generator=torch.Generator().manual_seed(0)), views, Ks)
    write_transforms(folder, posed, SparsePoints(torch.randn(30, 3), torch.rand(30, 3)))
    return folder


def test_a_file_of_splats_is_looked_at_from_circles_or_from_a_capture(asked, tmp_path):
    splats = Gaussians(torch.randn(9, 3), torch.zeros(9, 3), torch.randn(9, 4), torch.zeros(9), torch.zeros(9, 1, 3))
    write_splats(splats, tmp_path / "a.ply")
    fit(tmp_path / "a.ply")
    source, output, how, size, cameras, up, level, resume = asked["fit_splat_file"]
    assert (source, output, size, up, level, resume) == (tmp_path / "a.ply", tmp_path / "out", 16, "-y", 0, True)
    assert how.max_bytes == 20_000 and how.steps == 5 and cameras is None
    fit(tmp_path / "a.ply", capture=capture_in(tmp_path / "capture"))
    assert len(asked["fit_splat_file"][4]) == 9 and asked["fit_splat_file"][4].width == 16


def test_a_capture_is_parted_into_what_is_learned_and_what_is_held_out(asked, tmp_path):
    fit(capture_in(tmp_path / "capture"))
    seen, held_out, points, output, how, resume = asked["fit_pictures"]
    assert len(seen) == 7 and len(held_out) == 2 and seen.width == 16 and points.shape == (30, 3)
    assert output == tmp_path / "out" and how.steps == 5 and resume


def test_an_unknown_method_names_those_that_fit_scenes(tmp_path):
    with pytest.raises(ValueError, match="method that fits a scene 'snapgen' is unknown: use one of lpgs"):
        fit(tmp_path / "a.ply", "snapgen")
