"""Captures as transforms.json: cameras there and back, and the dialects of those who write such files."""

import errno
import json
import math
import os

import numpy as np
import pytest
import torch
from PIL import Image

from pocket_diffusers.training.datasets.photographs import posed_photographs
from pocket_diffusers.training.datasets.pocketworld.cameras import project
from pocket_diffusers.training.datasets.sparse_points import SparsePoints
from pocket_diffusers.training.datasets.transforms_json import read_transforms, write_transforms
from pocket_diffusers.training.datasets.undistortion import Distortion

IDENTITY = np.eye(4).tolist()


def write(folder, content, name="transforms.json", pictures=("a.png",), size=(40, 30)):
    for picture in pictures:
        (folder / picture).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(folder / picture)
    (folder / name).write_text(json.dumps(content))
    return folder


def frame(name="a.png", matrix=IDENTITY, **more):
    return {"file_path": name, "transform_matrix": matrix, **more}


def test_what_is_written_is_read(tmp_path, posed, surface):
    points = SparsePoints(torch.from_numpy(surface[0][0]), torch.from_numpy(surface[1][0]) / 255)
    path = write_transforms(tmp_path / "scene", posed, points)
    for place in (path, path.parent):
        photographs, cloud = read_transforms(place)
        again = posed_photographs(photographs)
        assert torch.equal(again.images, posed.images) and torch.equal(again.masks, posed.masks)
        torch.testing.assert_close(again.viewmats, posed.viewmats, atol=1e-6, rtol=0)
        torch.testing.assert_close(again.Ks, posed.Ks)
        assert torch.equal(cloud.positions, points.positions) and torch.equal(cloud.rgb, points.rgb)
        assert photographs[3].name == "images/0003.png" and again.times is None


def test_what_a_pixel_shows_projects_to_it(tmp_path, posed, surface):
    write_transforms(tmp_path, posed.select([2, 11]))
    photographs, cloud = read_transforms(tmp_path)
    assert cloud.positions.shape == cloud.rgb.shape == (0, 3)
    v, u = np.mgrid[:32, :32] + 0.5
    for view, photograph in zip((2, 11), photographs, strict=True):
        viewmat, K = photograph.viewmat.float(), photograph.lens.K((32, 32)).float()
        seen, depth = project(torch.from_numpy(surface[0][view]), viewmat, K)
        np.testing.assert_allclose(seen, np.stack((u, v), -1).reshape(-1, 2), atol=1e-3)
        assert (depth > 0).all()


def test_cameras_of_opengl_look_along_minus_z_with_y_up(tmp_path):
    c, s = math.cos(0.3), math.sin(0.3)
    matrix = [[c, 0, s, 1.0], [0, 1, 0, 2.0], [-s, 0, c, 3.0], [0, 0, 0, 1]]
    write(tmp_path, {"fl_x": 50, "fl_y": 60, "cx": 21, "cy": 14, "w": 40, "h": 30, "frames": [frame(matrix=matrix)]})
    ((photograph,), _) = read_transforms(tmp_path)
    axes, centre = np.array(matrix)[:3, :3], np.array(matrix)[:3, 3]
    right, up, back = axes.T
    K = photograph.lens.K((40, 30))
    for offset, pixel in [(-back, (21, 14)), (right - 2 * back, (21 + 25, 14)), (up - 2 * back, (21, 14 - 30))]:
        seen, depth = project(torch.from_numpy(centre + offset)[None], photograph.viewmat, K)
        np.testing.assert_allclose(seen[0], pixel, atol=1e-9)
        assert depth > 0


def test_a_scene_of_blender(tmp_path):
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        names = [f"./{split}/r_{index}" for index in range(count)]
        write(
            tmp_path,
            {"camera_angle_x": 0.6911112070083618, "frames": [frame(name, rotation=0.01) for name in names]},
            f"transforms_{split}.json",
            [f"{name}.png" for name in names],
            (800, 800),
        )
    photographs, _ = read_transforms(tmp_path, "train")
    assert [photograph.name for photograph in photographs] == ["./train/r_0", "./train/r_1", "./train/r_2"]
    lens = photographs[0].lens
    assert lens.fx == lens.fy == pytest.approx(1111.111, abs=1e-3) and (lens.cx, lens.cy) == (400, 400)
    assert len(read_transforms(tmp_path, "validation")[0]) == 1 and len(read_transforms(tmp_path, "test")[0]) == 2
    assert len(read_transforms(tmp_path)[0]) == 6
    assert len(read_transforms(tmp_path / "transforms_test.json")[0]) == 2
    with pytest.raises(ValueError, match=r"split is 'train', but .*transforms_test\.json holds another one"):
        read_transforms(tmp_path / "transforms_test.json", "train")
    (tmp_path / "transforms_val.json").unlink()
    with pytest.raises(ValueError, match="split is 'validation', but .* has the splits train, test"):
        read_transforms(tmp_path, "validation")


def test_a_capture_of_nerfstudio(tmp_path):
    names = [f"images/frame_{index}.jpg" for index in range(4)]
    lens = {"fl_x": 60.0, "fl_y": 61.0, "cx": 20.5, "cy": 14.5, "w": 40, "h": 30, "k1": 0.1, "k2": -0.02, "k3": 0.003}
    frames = [frame(name, matrix=np.eye(4)[:3].tolist()) for name in names]
    frames[2] |= {"fl_x": 70.0, "k1": 0.0, "mask_path": "masks/2.png"}
    content = {"camera_model": "OPENCV", "p1": 0.001, "p2": 0.002, **lens, "frames": frames}
    content |= {"train_filenames": names[:2], "test_filenames": names[3:]}
    write(tmp_path, content, pictures=names)
    photographs, _ = read_transforms(tmp_path)
    assert photographs[0].lens[:6] == (40, 30, 60, 61, 20.5, 14.5)
    assert photographs[0].lens.distortion == Distortion(0.1, -0.02, 0.001, 0.002, 0.003)
    assert photographs[2].lens.fx == 70 and photographs[2].lens.distortion.k1 == 0
    assert photographs[2].mask_path == tmp_path / "masks" / "2.png"
    assert [each.name for each in read_transforms(tmp_path, "train")[0]] == names[:2]
    assert [each.name for each in read_transforms(tmp_path, "test")[0]] == names[3:]
    with pytest.raises(ValueError, match="names no picture of it in val_filenames"):
        read_transforms(tmp_path, "validation")


def test_times_and_angles_of_both_axes(tmp_path):
    frames = [frame(time=0.25), frame(time=0.5)]
    write(tmp_path, {"camera_angle_x": 1.0, "camera_angle_y": 0.8, "frames": frames})
    photographs, _ = read_transforms(tmp_path)
    assert posed_photographs(photographs).times.tolist() == [0.25, 0.5]
    assert photographs[0].lens.fx == pytest.approx(20 / math.tan(0.5))
    assert photographs[0].lens.fy == pytest.approx(15 / math.tan(0.4))
    assert [len(read_transforms(tmp_path, split)[0]) for split in ("train", "test")] == [1, 1]


@pytest.mark.parametrize(
    "more, name",
    [
        ({"camera_model": "OPENCV_FISHEYE"}, "camera_model OPENCV_FISHEYE"),
        ({"camera_model": ["EQUIRECTANGULAR"]}, "camera_model "),
        ({"is_fisheye": True}, "is_fisheye"),
        ({"k4": 0.01}, "k4"),
    ],
)
def test_other_lenses_are_refused_by_name(tmp_path, more, name):
    write(tmp_path, {"fl_x": 50, **more, "frames": [frame()]})
    with pytest.raises(ValueError, match=rf"frames\[0\] has {name}.*, which is not read: .*colmap image_undistorter"):
        read_transforms(tmp_path)


@pytest.mark.parametrize(
    "content, sentence",
    [
        ([], "must hold a JSON object"),
        ({}, "must hold a list of frames"),
        ({"frames": []}, "must hold a list of frames"),
        ({"frames": [3]}, "must hold a list of frames"),
        ({"frames": [frame()]}, r"frames\[0\] has no focal length: it must have fl_x or camera_angle_x"),
        ({"camera_angle_x": 4, "frames": [frame()]}, r"camera_angle_x must lie between 0 and pi, not 4\.0"),
        ({"fl_x": "50", "frames": [frame()]}, r"fl_x must be a finite number, not 50"),
        ({"fl_x": math.nan, "frames": [frame()]}, r"fl_x must be a finite number, not nan"),
        ({"fl_x": 10**400, "frames": [frame()]}, r"fl_x must be a finite number, not 1000"),
        ({"fl_x": -5, "frames": [frame()]}, "its camera must have a positive width, height and focal length"),
        ({"fl_x": 5, "frames": [frame(), frame(3)]}, r"frames\[1\]: file_path must be the path of a file, not '3'"),
        ({"fl_x": 5, "frames": [frame(matrix=[[1, 0], [0]])]}, r"frames\[0\]: transform_matrix must be 4 x 4 finite"),
        ({"fl_x": 5, "frames": [frame(matrix=np.diag([1, 1, -1, 1.0]).tolist())]}, "must be a rotation"),
        ({"fl_x": 5, "frames": [frame(matrix=np.diag([2, 2, 2, 1.0]).tolist())]}, "must be a rotation"),
        (
            {"fl_x": 5, "frames": [frame(matrix=[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [5, 6, 7, 1]])]},
            "last row 0 0 0 1",
        ),
        ({"fl_x": 5, "ply_file_path": 3, "frames": [frame()]}, "ply_file_path must be the path of a file"),
        ({"fl_x": 5, "train_filenames": 3, "frames": [frame()]}, "train_filenames must be a list"),
    ],
)
def test_what_no_capture_holds(tmp_path, content, sentence):
    write(tmp_path, content)
    with pytest.raises(ValueError, match=rf"transforms\.json.*{sentence}"):
        read_transforms(tmp_path, "train" if "train_filenames" in content else None)


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no transforms\.json"):
        read_transforms(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"other\.json is missing"):
        read_transforms(tmp_path / "other.json")
    write(tmp_path, {"fl_x": 5, "frames": [frame(), frame("b"), frame("c.png")]})
    with pytest.raises(FileNotFoundError, match=r"2 of 3 pictures of .*transforms\.json are missing, such as .*/b\."):
        read_transforms(tmp_path)
    write(tmp_path, {"fl_x": 5, "ply_file_path": "points.ply", "frames": [frame()]})
    with pytest.raises(FileNotFoundError, match=r"points\.ply is missing"):
        read_transforms(tmp_path)
    (tmp_path / "transforms.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"transforms\.json is truncated or no JSON file"):
        read_transforms(tmp_path)


def test_damaged_files_are_read_or_refused(tmp_path, posed, damaged):
    path = write_transforms(tmp_path / "scene", posed.select(range(3)))
    content, refused = path.read_bytes(), 0
    for seed in range(1000):
        path.write_bytes(damaged(content, seed))
        try:
            photographs, _ = read_transforms(path)
            assert photographs and all(torch.isfinite(each.viewmat).all() for each in photographs)
            assert all(torch.isfinite(each.lens.K((32, 32))).all() for each in photographs)
        except (FileNotFoundError, ValueError) as error:
            assert str(path.parent) in str(error) and "\n" not in str(error), error
            refused += 1
    assert 300 < refused < 1000


def test_writing_keeps_what_is_there(tmp_path, posed):
    path = write_transforms(tmp_path / "scene", posed.select([0]))
    with pytest.raises(FileExistsError, match="scene is not empty: pass overwrite=True"):
        write_transforms(tmp_path / "scene", posed)
    write_transforms(tmp_path / "scene", posed.select([0, 1]), overwrite=True)
    assert len(read_transforms(path)[0]) == 2
    skewed = type(posed)(posed.images, posed.viewmats, posed.Ks + torch.tensor([[0, 1.0, 0], [0, 0, 0], [0, 0, 0]]))
    with pytest.raises(ValueError, match=r"Ks\[0\] must have no skew"):
        write_transforms(tmp_path / "other", skewed)
    assert not (tmp_path / "other").exists()


def test_a_full_disk_leaves_nothing_behind(tmp_path, posed, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="cannot write .*scene: No space left on device"):
        write_transforms(tmp_path / "scene", posed)
    assert not list(tmp_path.iterdir())
