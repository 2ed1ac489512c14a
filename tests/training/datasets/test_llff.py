"""LLFF's poses: cameras by NeRF's own route through OpenGL, and files that are none."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from pocket_diffusers.training.datasets.llff import read_llff
from pocket_diffusers.training.datasets.photographs import posed_photographs
from pocket_diffusers.training.datasets.pocketworld.cameras import project
from pocket_diffusers.training.datasets.posed_captures import read_captures


def forward_facing(count, seed):
    """Rows of `poses_bounds.npy` of cameras that look about the same, random way."""
    chance = np.random.default_rng(seed)
    turns = Rotation.random(rng=chance) * Rotation.from_rotvec(chance.normal(0, 0.2, (count, 3)))
    opengl = turns.as_matrix()  # columns right, up, backward
    camera = np.concatenate((-opengl[..., 1:2], opengl[..., 0:1], opengl[..., 2:3]), -1)  # down, right, backward
    places, lens = chance.normal(5, 2, (count, 3, 1)), np.tile([[60.0], [80.0], [70.0]], (count, 1, 1))
    near = chance.uniform(2, 5, (count, 1))
    poses = np.concatenate((camera, places, lens), -1).reshape(count, 15)
    return np.concatenate((poses, near, near + chance.uniform(1, 9, (count, 1))), 1), opengl, places[..., 0]


def write(folder, rows, images="images", size=(80, 60), names=None):
    (folder / images).mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names or [f"IMG_{index:03}.JPG" for index in range(len(rows))]):
        Image.new("RGB", size, (index % 256, 0, 0)).save(folder / images / name)
    np.save(folder / "poses_bounds.npy", rows)
    return folder


def nerf_poses(opengl, places):
    """Camera-to-world in the frame of the mean camera, both with OpenGL's axes, as NeRF has them."""
    backward = opengl[..., 2].sum(0) / np.linalg.norm(opengl[..., 2].sum(0))
    right = np.cross(opengl[..., 1].sum(0), backward)
    right /= np.linalg.norm(right)
    mean = np.eye(4)
    mean[:3] = np.stack((right, np.cross(backward, right), backward, places.mean(0)), -1)
    poses = np.tile(np.eye(4), (len(places), 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = opengl, places
    return np.linalg.inv(mean) @ poses


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 12), st.integers(0, 2**32 - 1), st.sampled_from([0.75, 0.3, None]))
def test_cameras_are_those_of_nerf(tmp_path_factory, count, seed, bd_factor):
    rows, opengl, places = forward_facing(count, seed)
    photographs, bounds = read_llff(write(tmp_path_factory.mktemp("scene"), rows), bd_factor=bd_factor)
    scale = 1.0 if bd_factor is None else 1 / (rows[:, 15].min() * bd_factor)
    poses = nerf_poses(opengl, places * scale)
    axes = np.diag([1, -1, -1, 1])  # of OpenGL in OpenCV's, for the cameras and for the world
    expected = np.linalg.inv(axes @ poses @ axes)
    found = torch.stack([photograph.viewmat for photograph in photographs])
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, scale))
    np.testing.assert_allclose(bounds, rows[:, 15:] * scale, rtol=1e-5)
    assert photographs[0].lens[:6] == (80, 60, 70, 70, 40, 30)


def test_the_mean_camera_looks_along_z_and_the_scene_begins_behind_ndcs_near_plane(tmp_path):
    rows, _, _ = forward_facing(10, 0)
    photographs, bounds = read_llff(write(tmp_path, rows))
    poses = torch.linalg.inv(torch.stack([photograph.viewmat for photograph in photographs]))
    torch.testing.assert_close(poses[:, :3, 3].mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-5, rtol=0)
    forward = poses[:, :3, 2].mean(0)
    torch.testing.assert_close(
        forward / forward.norm(), torch.tensor([0, 0, 1.0], dtype=torch.float64), atol=1e-5, rtol=0
    )
    assert bounds.shape == (10, 2) and float(bounds.min()) == pytest.approx(4 / 3, rel=1e-5)


def test_pictures_of_a_factor_show_what_the_large_ones_do(tmp_path):
    rows, _, _ = forward_facing(9, 1)
    write(tmp_path, rows)
    write(tmp_path, rows, "images_4", (20, 15), [f"image{index:03}.png" for index in range(9)])
    large, small = (posed_photographs(read_llff(tmp_path, images=name)[0]) for name in ("images", "images_4"))
    assert torch.equal(large.viewmats, small.viewmats) and (small.height, small.width) == (15, 20)
    points = torch.tensor([[0.3, -0.2, 4.0], [0.0, 0.1, 6.0]])
    at_large, at_small = (project(points, posed.viewmats[3], posed.Ks[3])[0] for posed in (large, small))
    torch.testing.assert_close(at_small * 4, at_large)


def test_every_eighth_picture_is_for_testing(tmp_path):
    rows, _, _ = forward_facing(18, 2)
    write(tmp_path, rows)
    whole, bounds = read_llff(tmp_path)
    test, test_bounds = read_llff(tmp_path, "test")
    train, train_bounds = read_llff(tmp_path / "poses_bounds.npy", "train")
    assert [photograph.name for photograph in test] == ["IMG_000.JPG", "IMG_008.JPG", "IMG_016.JPG"]
    assert len(train) == 15 and torch.equal(test_bounds, bounds[::8]) and torch.equal(train_bounds[:7], bounds[1:8])
    assert torch.equal(test[1].viewmat, whole[8].viewmat)
    captures = read_captures(tmp_path, max_side=40, split="test")
    assert captures.posed.images.shape == (3, 3, 30, 40) and torch.equal(captures.bounds, test_bounds)
    assert not len(captures.positions) and captures.names == ("IMG_000.JPG", "IMG_008.JPG", "IMG_016.JPG")


def broken(place, value):
    rows, _, _ = forward_facing(3, 3)
    rows[place] = value
    return rows


@pytest.mark.parametrize(
    "rows, sentence",
    [
        (broken((1, 4), np.nan), "must be finite in single precision"),
        (broken((1, 3), 1e19), r"must hold numbers below 1e\+18"),
        (broken((1, 0), 2.0), r"must hold rotations .*which that in row 1 is not"),
        (broken((slice(None), [0, 5, 10]), np.zeros(3)), "must hold rotations"),
        (broken((2, 15), 0.0), "must hold bounds above 0, the nearer one first, not 0 and .* in row 2"),
        (broken((2, 16), 1.0), "must hold bounds above 0, the nearer one first, not .* and 1 in row 2"),
        (broken((0, 14), 0.0), "camera in row 0 must have a positive width, height and focal length"),
        (broken((0, 4), -60.0), "camera in row 0 must have a positive width"),
        (broken((0, 15), 1e-30), "must hold bounds of about the size of its places, not 1e-30"),
        (forward_facing(1, 3)[0], "must hold at least two views, not one"),
        (forward_facing(3, 3)[0][:, :15], r"must have the shape \[any, 17\], not \[3, 15\]"),
    ],
)
def test_what_no_poses_are(tmp_path, rows, sentence):
    write(tmp_path, rows)
    with pytest.raises(ValueError, match=rf"poses_bounds\.npy.*{sentence}"):
        read_llff(tmp_path)


def test_pictures_must_be_those_of_the_poses(tmp_path):
    rows, _, _ = forward_facing(3, 4)
    with pytest.raises(FileNotFoundError, match=r"poses_bounds\.npy is missing"):
        read_llff(tmp_path)
    write(tmp_path, rows, names=["a.png", "b.png"])
    with pytest.raises(ValueError, match=r"must hold one row a picture of .*images, 2, not 3"):
        read_llff(tmp_path)
    with pytest.raises(FileNotFoundError, match="images_4 is missing: give the folder that holds the pictures"):
        read_llff(tmp_path, images="images_4")
    write(tmp_path / "square", rows, size=(60, 60))
    with pytest.raises(ValueError, match="60 x 60 pixels .* but its camera took pictures of 80 x 60"):
        read_captures(tmp_path / "square")
    with pytest.raises(ValueError, match="bd_factor must be a number"):
        read_llff(tmp_path / "square", bd_factor=0)


def test_cameras_all_around_have_no_mean(tmp_path):
    rows, opengl, _ = forward_facing(2, 5)
    around = np.stack((opengl[0], opengl[0] @ np.diag([-1, 1, -1])))
    camera = rows[:, :15].reshape(2, 3, 5)
    camera[..., :3] = np.stack((-around[..., 1], around[..., 0], around[..., 2]), -1)
    write(tmp_path, np.concatenate((camera.reshape(2, 15), rows[:, 15:]), 1))
    with pytest.raises(ValueError, match="must hold cameras that look about the same way"):
        read_llff(tmp_path)


@pytest.mark.filterwarnings("ignore::SyntaxWarning")  # a spoiled header is parsed as Python
def test_damaged_files_are_read_or_refused(tmp_path, damaged):
    write(tmp_path, forward_facing(4, 6)[0])
    path, refused = tmp_path / "poses_bounds.npy", 0
    content = path.read_bytes()
    for seed in range(1000):
        path.write_bytes(damaged(content, seed))
        try:
            photographs, bounds = read_llff(tmp_path)
            assert all(torch.isfinite(each.viewmat).all() for each in photographs) and torch.isfinite(bounds).all()
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error), error
            refused += 1
    assert 300 < refused < 1000
