"""COLMAP's sparse models, read from files written by other code."""

import struct
import tracemalloc

import numpy as np
import pytest
import torch

from pocket_diffusers.training.datasets.colmap import FILES, MODELS, read_colmap
from pocket_diffusers.training.datasets.photographs import Lens
from pocket_diffusers.training.datasets.pocketworld.cameras import project
from pocket_diffusers.training.datasets.undistortion import Distortion

KINDS = ["bin", "txt"]


@pytest.fixture
def points(surface):
    return surface[0].reshape(-1, 3)[::97], surface[1].reshape(-1, 3)[::97]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sparse", ["sparse/0", "sparse", "colmap/sparse/0", "."])
def test_cameras_and_points_are_those_that_were_written(tmp_path, posed, points, write_colmap, kind, sparse):
    write_colmap(tmp_path, posed, points, kind, sparse=sparse)
    photographs, cloud = read_colmap(tmp_path)
    assert [photograph.name for photograph in photographs] == [f"view {view:02}.png" for view in range(16)]
    assert all(photograph.path == tmp_path / "images" / photograph.name for photograph in photographs)
    viewmats = torch.stack([photograph.viewmat for photograph in photographs])
    torch.testing.assert_close(viewmats, posed.viewmats.double(), atol=2e-7, rtol=0)
    for photograph, K in zip(photographs, posed.Ks, strict=True):
        torch.testing.assert_close(photograph.lens.K((32, 32)), K.double())
    np.testing.assert_array_equal(cloud.positions, points[0])
    np.testing.assert_array_equal((cloud.rgb * 255).round(), points[1])
    assert cloud.rgb.dtype == torch.float32 and cloud.rgb.max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_pixel_shows_projects_to_it(tmp_path, posed, surface, write_colmap, kind):
    places, colours = surface
    write_colmap(tmp_path, posed, (places[5], colours[5]), kind)
    photographs, cloud = read_colmap(tmp_path)
    seen, depth = project(cloud.positions, photographs[5].viewmat.float(), photographs[5].lens.K((32, 32)).float())
    v, u = np.mgrid[:32, :32] + 0.5
    np.testing.assert_allclose(seen, np.stack((u, v), -1).reshape(-1, 2), atol=1e-3)
    np.testing.assert_allclose(depth, posed.depths[5].flatten(), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "model, parameters, lens",
    [
        ("SIMPLE_PINHOLE", (40, 15, 17), Lens(32, 32, 40, 40, 15, 17)),
        ("PINHOLE", (40, 41, 15, 17), Lens(32, 32, 40, 41, 15, 17)),
        ("SIMPLE_RADIAL", (40, 15, 17, 0.1), Lens(32, 32, 40, 40, 15, 17, Distortion(k1=0.1))),
        ("RADIAL", (40, 15, 17, 0.1, 0.2), Lens(32, 32, 40, 40, 15, 17, Distortion(k1=0.1, k2=0.2))),
        (
            "OPENCV",
            (40, 41, 15, 17, 0.1, 0.2, 0.3, 0.4),
            Lens(32, 32, 40, 41, 15, 17, Distortion(k1=0.1, k2=0.2, p1=0.3, p2=0.4)),
        ),
        (
            "FULL_OPENCV",
            (40, 41, 15, 17, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
            Lens(32, 32, 40, 41, 15, 17, Distortion(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)),
        ),
    ],
)
def test_parameters_of_every_model(tmp_path, posed, points, write_colmap, kind, model, parameters, lens):
    write_colmap(tmp_path, posed.select([0]), points, kind, model, tuple(map(float, parameters)))
    ((photograph,), _) = read_colmap(tmp_path)
    assert photograph.lens == lens
    assert model in MODELS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model, count", [("OPENCV_FISHEYE", 8), ("FOV", 5), ("EUCM", 6)])
def test_other_models_are_refused_by_name(tmp_path, posed, points, write_colmap, kind, model, count):
    write_colmap(tmp_path, posed, points, kind, model, (30.0,) * count)
    with pytest.raises(ValueError, match=rf"cameras\.{kind}: camera 7 is of model {model}, .*colmap image_undistorter"):
        read_colmap(tmp_path)


def test_a_model_of_the_future_is_refused_by_number(tmp_path, posed, points, write_colmap):
    file = write_colmap(tmp_path, posed, points) / "sparse" / "0" / "cameras.bin"
    file.write_bytes(file.read_bytes()[:12] + struct.pack("<i", 99) + file.read_bytes()[16:])
    with pytest.raises(ValueError, match="camera 7 is of model number 99"):
        read_colmap(tmp_path)


def test_binary_files_go_before_text(tmp_path, posed, points, write_colmap):
    write_colmap(tmp_path, posed, points, "txt", parameters=(1.0, 1.0, 1.0, 1.0))
    write_colmap(tmp_path, posed, points, "bin")
    assert read_colmap(tmp_path)[0][0].lens.fx > 1


def test_pictures_in_another_folder(tmp_path, posed, points, write_colmap):
    names = [f"left/{view}.png" for view in range(16)]
    write_colmap(tmp_path, posed, points, names=names)
    (tmp_path / "images").rename(tmp_path / "pictures")
    assert read_colmap(tmp_path, "pictures")[0][0].path == tmp_path / "pictures" / "left" / "0.png"
    assert read_colmap(tmp_path, tmp_path / "pictures")[0][0].path == tmp_path / "pictures" / "left" / "0.png"
    with pytest.raises(
        FileNotFoundError, match=r"16 of 16 pictures .* missing, such as .*left/\d+\.png: give the folder"
    ):
        read_colmap(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_files_are_named(tmp_path, posed, points, write_colmap, kind):
    with pytest.raises(FileNotFoundError, match="holds no COLMAP model"):
        read_colmap(tmp_path)
    write_colmap(tmp_path, posed, points, kind)
    (tmp_path / "sparse" / "0" / f"points3D.{kind}").unlink()
    with pytest.raises(FileNotFoundError, match=rf"points3D\.{kind} is missing"):
        read_colmap(tmp_path)


def test_what_no_colmap_model_holds(tmp_path, posed, points, write_colmap):
    write_colmap(tmp_path, posed.select([0]), points, "txt")
    folder = tmp_path / "sparse" / "0"
    pose = "1 1 0 0 0 0 0 0"
    for name, text, sentence in [
        ("images", "# none\n", "images.txt holds no picture: COLMAP registered none"),
        ("images", f"{pose} 8 a.png\n\n", "'a.png' was taken by camera 8, which is not there"),
        ("images", "1 0 0 0 0 0 0 0 7 a.png\n\n", "'a.png' has no pose"),
        ("images", "1 nan 0 0 0 0 0 0 7 a.png\n\n", "'a.png' has no pose"),
        ("images", "1 1 0 0 0 0 inf 0 7 a.png\n\n", "'a.png' has no pose"),
        ("images", "1 1 0 0\n\n", "holds a line that no COLMAP model has: '1 1 0 0'"),
        ("cameras", "7 PINHOLE 32 32 40 40 16\n", r"camera 7 of model PINHOLE must have fx fy cx cy, not \[40.0, 40.0"),
        ("cameras", "7 PINHOLE 32 32 0 40 16 16\n", "must have a positive width, height and focal length"),
        ("cameras", "7 PINHOLE 0 32 40 40 16 16\n", "must have a positive width, height and focal length"),
        ("cameras", "7 PINHOLE 32 32 nan 40 16 16\n", "holds NaN, infinity or a number of 1e[+]18 and more"),
        ("cameras", f"7 PINHOLE {'9' * 400} 32 40 40 16 16\n", "holds a line that no COLMAP model has"),
        ("points3D", "1 nan 0 0 1 2 3 0.5\n", "points3D.txt: a point's position must be finite"),
        ("points3D", "1 1e300 0 0 1 2 3 0.5\n", "points3D.txt: a point's position must be finite"),
        ("points3D", "1 0 0 0 1 2 300 0.5\n", "points3D.txt: a point's colour must lie in 0 to 255"),
        ("points3D", "1 0 0 0 1 2\n", "holds a line that no COLMAP model has"),
    ]:
        file = folder / f"{name}.txt"
        before = file.read_text()
        file.write_text(text)
        with pytest.raises(ValueError, match=sentence):
            read_colmap(tmp_path)
        file.write_text(before)
    (folder / "cameras.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"cameras\.txt is no text in UTF-8"):
        read_colmap(tmp_path)


def test_lengths_are_checked_before_anything_is_made(tmp_path, posed, points, write_colmap):
    write_colmap(tmp_path, posed, points)
    for name in FILES:
        file = tmp_path / "sparse" / "0" / f"{name}.bin"
        content = file.read_bytes()
        for damage, sentence in [
            (struct.pack("<Q", 2**60) + content[8:], f"no room for the {2**60} records"),
            (content[:-1], "truncated"),
            (content + b"\0", "holds 1 bytes after its last record"),
            (b"", "truncated"),
        ]:
            file.write_bytes(damage)
            with pytest.raises(ValueError, match=rf"{name}\.bin .*{sentence}"):
                read_colmap(tmp_path)
        file.write_bytes(content)
    images = tmp_path / "sparse" / "0" / "images.bin"
    content = images.read_bytes()
    name_end = content.index(b".png\0") + 5
    images.write_bytes(content[:name_end] + struct.pack("<Q", 2**59) + content[name_end + 8 :])
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"images\.bin is truncated"):
        read_colmap(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(tmp_path, posed, points, write_colmap, damaged, kind):
    folder = write_colmap(tmp_path, posed.select(range(4)), (points[0][:20], points[1][:20]), kind) / "sparse" / "0"
    refused = 0
    for seed in range(1000):
        file = folder / f"{FILES[seed % 3]}.{kind}"
        content = file.read_bytes()
        file.write_bytes(damaged(content, seed))
        try:
            photographs, cloud = read_colmap(tmp_path)
            assert photographs and torch.isfinite(cloud.positions).all()
            assert all(torch.isfinite(photograph.lens.K((32, 32))).all() for photograph in photographs)
            eye = torch.eye(3, dtype=torch.float64)
            for rotation in (photograph.viewmat[:3, :3] for photograph in photographs):
                torch.testing.assert_close(rotation @ rotation.T, eye, atol=1e-9, rtol=0)
        except FileNotFoundError as error:
            assert "pictures of the COLMAP model are missing" in str(error)
            refused += 1
        except ValueError as error:
            assert str(file) in str(error) or f"images.{kind}" in str(error), error
            assert "\n" not in str(error)
            refused += 1
        file.write_bytes(content)
    assert 300 < refused < 1000
