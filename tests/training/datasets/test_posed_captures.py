"""Captures of whatever form, and real cameras where their files are here."""

import json
import os
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from pocket_diffusers.pipelines.inputs import PosedImages
from pocket_diffusers.training.datasets.pocketworld.cameras import project
from pocket_diffusers.training.datasets.posed_captures import read_captures, world_captures
from pocket_diffusers.training.datasets.sparse_points import SparsePoints
from pocket_diffusers.training.datasets.transforms_json import write_transforms

REPOSITORY = Path(__file__).resolve().parents[3]
GARDEN = Path("splats", "gsplat_test_garden.npz")
WINDMILL = Path("scenes", "dycheck_paper_windmill_cameras")


def real(place: Path) -> Path:
    path = Path(os.environ.get("POCKET_DATA", REPOSITORY / ".." / "shared" / "data"), place)
    if not path.exists():
        pytest.skip(f"The real cameras are not here: set POCKET_DATA to the folder that holds {place}")
    return path


def test_both_forms_of_a_capture_are_one_capture(tmp_path, posed, surface, write_colmap):
    places, colours = surface[0][0], surface[1][0]
    write_colmap(tmp_path / "colmap", posed, (places, colours))
    points = SparsePoints(torch.from_numpy(places), torch.from_numpy(colours) / 255)
    write_transforms(tmp_path / "json", posed, points)
    for captures in map(read_captures, (tmp_path / "colmap", tmp_path / "json", tmp_path / "json" / "transforms.json")):
        assert isinstance(captures.posed, PosedImages) and len(captures.names) == len(captures.posed) == 16
        assert torch.equal(captures.posed.images, posed.images)
        torch.testing.assert_close(captures.posed.viewmats, posed.viewmats, atol=1e-6, rtol=0)
        torch.testing.assert_close(captures.posed.Ks, posed.Ks)
        assert torch.equal(captures.positions, points.positions) and torch.equal(captures.rgb, points.rgb)


def test_of_both_in_a_folder_the_colmap_model_is_read(tmp_path, posed, surface, write_colmap):
    write_transforms(tmp_path, posed.select([0, 1, 2]))
    write_colmap(tmp_path, posed, (surface[0][0], surface[1][0]))
    assert len(read_captures(tmp_path).names) == 16
    assert len(read_captures(tmp_path / "transforms.json").names) == 3


def test_splits_share_no_picture(tmp_path, posed, surface, write_colmap):
    write_colmap(tmp_path, posed, (surface[0][0], surface[1][0]))
    train, test = (read_captures(tmp_path, split=split) for split in ("train", "test"))
    assert test.names == ("view 00.png", "view 08.png") and len(train.names) == 14
    assert set(train.names).isdisjoint(test.names)
    assert torch.equal(test.posed.images, posed.images[[0, 8]])
    with pytest.raises(ValueError, match="split must be train, test or None"):
        read_captures(tmp_path, split="validation")


@pytest.mark.parametrize("max_side", [None, 16, 11])
def test_smaller_pictures_show_points_where_they_project(tmp_path, posed, surface, write_colmap, max_side):
    """The colour of a point, from the full-size picture, is found where the small camera sees the point."""
    write_colmap(tmp_path, posed, (surface[0][4], surface[1][4]))
    half = tmp_path / "images_2"
    half.mkdir()
    for path in (tmp_path / "images").iterdir():
        with Image.open(path) as picture:
            picture.resize((16, 16), Image.Resampling.BOX).save(half / path.name)
    captures = read_captures(tmp_path, max_side, images="images_2")
    small = captures.posed.select([4])
    assert (small.height, small.width) == ((max_side or 16),) * 2
    seen, _ = project(captures.positions, small.viewmats[0], small.Ks[0])
    v, u = np.mgrid[:32, :32] + 0.5
    np.testing.assert_allclose(seen * 32 / small.width, np.stack((u, v), -1).reshape(-1, 2), atol=1e-3)
    places = (2 * seen / small.width - 1)[None, None]
    colours = torch.nn.functional.grid_sample(small.images, places, align_corners=False, padding_mode="border")
    assert (colours[0, :, 0].T - captures.rgb).abs().mean() < 0.05
    wrong = torch.nn.functional.grid_sample(small.images, places + 0.2, align_corners=False, padding_mode="border")
    assert (wrong[0, :, 0].T - captures.rgb).abs().mean() > 2 * (colours[0, :, 0].T - captures.rgb).abs().mean()


def test_distorted_models_are_read_as_pinholes(tmp_path, posed, surface, write_colmap):
    f, c = float(posed.Ks[0, 0, 0]), 16.0
    write_colmap(tmp_path, posed, (surface[0][0], surface[1][0]), model="SIMPLE_RADIAL", parameters=(f, c, c, 0.5))
    captures = read_captures(tmp_path)
    torch.testing.assert_close(captures.posed.Ks, posed.Ks)
    masks = captures.posed.masks
    assert masks[:, 16, 16].all() and not masks[:, 0, 0].any() and (masks == masks[0]).all()
    v, u = (np.mgrid[:32, :32] + 0.5 - c) / f
    growth = 1 + 0.5 * (u**2 + v**2)
    np.testing.assert_array_equal(masks[0], (np.abs(u * growth) * f <= c) & (np.abs(v * growth) * f <= c))


def test_what_is_no_capture(tmp_path, posed):
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "scene.ply"):
        with pytest.raises(FileNotFoundError, match="is no capture: it must be a folder with a COLMAP model"):
            read_captures(path)
    write_transforms(tmp_path, posed.select([0]), overwrite=True)
    with pytest.raises(ValueError, match="images must be left out, not 'images_4'"):
        read_captures(tmp_path, images="images_4")
    with pytest.raises(ValueError, match="field_of_view must be left out, not 40: .* says how its cameras see"):
        read_captures(tmp_path, field_of_view=40)
    with pytest.raises(ValueError, match="split must be one of train, validation, test, not 'val'"):
        read_captures(tmp_path, split="val")
    with pytest.raises(ValueError, match="max_side must be a whole number of at least 1, not 0"):
        read_captures(tmp_path, max_side=0)
    with pytest.raises(ValueError, match="background must be red, green and blue"):
        read_captures(tmp_path, background=(2, 0, 0))


@pytest.mark.parametrize("kind", ["bin", "txt"])
def test_the_garden_s_points_lie_in_its_pictures(tmp_path, write_colmap, kind):
    garden = np.load(real(GARDEN))
    height, width, every = int(garden["height"]), int(garden["width"]), 25
    posed = PosedImages(
        torch.rand(3, 1, height // 20, 1, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1, width // 20),
        torch.from_numpy(garden["viewmats"]),
        torch.from_numpy(garden["Ks"]),
    )
    points = garden["means3d"][::every], garden["colors"][::every]
    captures = read_captures(write_colmap(tmp_path, posed, points, kind, size=(width, height)))
    assert (captures.posed.height, captures.posed.width) == (21, 32)
    np.testing.assert_array_equal(captures.positions, points[0])
    np.testing.assert_allclose(captures.rgb * 255, points[1], atol=1e-3)
    seen, depth = project(captures.positions[None], captures.posed.viewmats, captures.posed.Ks)
    inside = (depth > 0) & (seen >= 0).all(-1) & (seen < torch.tensor([32.0, 21.0])).all(-1)
    in_camera = points[0] @ garden["viewmats"][:, :3, :3].transpose(0, 2, 1) + garden["viewmats"][:, None, :3, 3]
    pixels = in_camera @ garden["Ks"].transpose(0, 2, 1)
    pixels = pixels[..., :2] / pixels[..., 2:]
    expected = (in_camera[..., 2] > 0) & (pixels >= 0).all(-1) & (pixels < (width, height)).all(-1)
    assert (inside.numpy() == expected).mean() > 0.999
    assert (inside.float().mean(1) > 0.4).all() and inside.any(0).float().mean() > 0.7


def test_real_cameras_of_a_telephone(tmp_path):
    """Their files hold the rotation from world to camera and the camera's place, with axes as OpenCV's."""
    cameras = [
        json.loads((real(WINDMILL) / "camera" / f"0_{index:05}.json").read_text()) for index in range(0, 300, 60)
    ]
    frames = []
    for index, camera in enumerate(cameras):
        Image.new("RGB", (72, 96)).save(tmp_path / f"{index}.png")
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = np.array(camera["orientation"]).T, camera["position"]
        f, (cx, cy), (w, h) = camera["focal_length"], camera["principal_point"], camera["image_size"]
        frames.append({"file_path": str(index), "fl_x": f, "cx": cx, "cy": cy, "w": w, "h": h})
        frames[-1]["transform_matrix"] = (pose @ np.diag([1, -1, -1, 1])).tolist()
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": frames}))
    posed = read_captures(tmp_path).posed
    places = np.random.default_rng(0).normal(size=(20, 3)) * 0.1 + [0, 0, -1]
    for view, camera in enumerate(cameras):
        in_camera = (places - camera["position"]) @ np.array(camera["orientation"]).T
        expected = camera["focal_length"] * in_camera[:, :2] / in_camera[:, 2:] + camera["principal_point"]
        seen, _ = project(torch.from_numpy(places).float(), posed.viewmats[view], posed.Ks[view])
        np.testing.assert_allclose(seen * 10, expected, rtol=1e-4, atol=0.02)


def test_a_folder_may_be_moved(tmp_path, posed):
    write_transforms(tmp_path / "here", posed.select([0]))
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert read_captures(tmp_path / "there").names == ("images/0000.png",)


def test_a_scene_of_pocketworld_is_a_capture(monkeypatch, tmp_path):
    """Points lie where their pixels show them, and no held-out view is learned from."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    seen, held_out = world_captures("test", 1, 32, num_points=200)
    assert (len(seen.posed), len(held_out.posed)) == (12, 4) and not set(seen.names) & set(held_out.names)
    assert torch.equal(seen.positions, held_out.positions) and seen.positions.shape == (200, 3)
    found = 0
    for view in range(12):
        at = seen.posed.viewmats[view, :3, :3] @ seen.positions.T + seen.posed.viewmats[view, :3, 3:]
        pixel = (seen.posed.Ks[view] @ at)[:2] / at[2]
        column, row = pixel.floor().long()
        inside = (at[2] > 0) & (column >= 0) & (column < 32) & (row >= 0) & (row < 32)
        depth = torch.zeros(200)
        depth[inside] = seen.posed.depths[view, row[inside], column[inside]]
        hit = (pixel - pixel.floor() - 0.5).abs().amax(0) < 1e-2
        hit &= (depth - at[2]).abs() < 1e-3 * at[2]
        color = seen.posed.images[view][:, row.clamp(0, 31), column.clamp(0, 31)].T
        assert (color[hit] - seen.rgb[hit]).abs().max() < 1e-6
        found += int(hit.sum())
    assert found >= 200, "each point is the middle of a pixel of a view"
    other, _ = world_captures("test", 1, 32, num_points=200, seed=1)
    assert not torch.equal(other.positions, seen.positions)
