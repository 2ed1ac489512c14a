"""Photographs: sizes, orientation, transparency and masks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pocket_diffusers.training.datasets.photographs import Lens, Photograph, photographs_of_split, posed_photographs
from pocket_diffusers.training.datasets.undistortion import Distortion

ORIENTATION = 0x0112


def photograph(path, width=40, height=30, distortion=None, **more):
    lens = Lens(width, height, 50.0, 52.0, width / 2 + 3, height / 2 - 2, *[distortion] * (distortion is not None))
    return Photograph(path.name, path, lens, torch.eye(4, dtype=torch.float64), **more)


def save(path: Path, values: np.ndarray, **options) -> Path:
    Image.fromarray(values).save(path, **options)
    return path


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)


def spot(width, height, u, v, sharpness):
    """A picture of a round spot at (u, v), pixel centres at +0.5."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    light = np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / (2 * sharpness**2))
    return np.repeat((255 * light)[..., None], 3, 2).astype(np.uint8)


def centre_of_light(picture):
    rows, columns = np.mgrid[: picture.shape[1], : picture.shape[2]] + 0.5
    light = picture.mean(0).numpy()
    return (light * columns).sum() / light.sum(), (light * rows).sum() / light.sum()


def test_pictures_keep_their_bytes_and_cameras(tmp_path, noise):
    posed = posed_photographs([photograph(save(tmp_path / "a.png", noise))])
    np.testing.assert_array_equal((posed.images[0] * 255).round().byte().permute(1, 2, 0), noise)
    assert posed.Ks[0].tolist() == [[50, 0, 23], [0, 52, 13], [0, 0, 1]]
    assert posed.masks is None and posed.times is None and posed.images.dtype == posed.viewmats.dtype == torch.float32


@pytest.mark.parametrize("max_side", [400, 200, 150, 97])
def test_a_point_projects_to_where_the_smaller_picture_shows_it(tmp_path, max_side):
    point = np.array([0.3, -0.2, 2.0])
    lens = Lens(400, 300, 500.0, 480.0, 190.0, 160.0)
    u, v = 500 * 0.15 + 190, 480 * -0.1 + 160
    path = save(tmp_path / "a.png", spot(400, 300, u, v, 8))
    posed = posed_photographs([Photograph("a", path, lens, torch.eye(4, dtype=torch.float64))], max_side)
    assert max(posed.width, posed.height) == max_side
    projected = posed.Ks[0].numpy() @ point
    np.testing.assert_allclose(projected[:2] / projected[2], centre_of_light(posed.images[0]), atol=0.02)


def test_files_may_be_smaller_than_their_cameras_say(tmp_path):
    small = save(tmp_path / "a.png", spot(101, 75, 40.4, 30.3, 3))  # a quarter of 402 x 299, rounded up
    posed = posed_photographs([photograph(small, 402, 299)])
    assert (posed.width, posed.height) == (101, 75)
    expected = torch.tensor([[50 * 101 / 402, 0, 204 * 101 / 402], [0, 52 * 75 / 299, 147.5 * 75 / 299], [0, 0, 1]])
    torch.testing.assert_close(posed.Ks[0], expected)
    with pytest.raises(ValueError, match=r"a\.png has 101 x 75 pixels .* its camera took pictures of 300 x 300"):
        posed_photographs([photograph(small, 300, 300)])


def test_nearly_equal_pictures_take_the_most_common_size(tmp_path, noise):
    paths = [save(tmp_path / f"{index}.png", noise) for index in range(2)]
    odd = save(tmp_path / "odd.png", spot(41, 30, 12.0, 11.0, 3))
    posed = posed_photographs([photograph(odd, 41, 30), *map(photograph, paths)])
    assert posed.images.shape == (3, 3, 30, 40)
    torch.testing.assert_close(posed.Ks[0, 0], torch.tensor([50 * 40 / 41, 0, 23.5 * 40 / 41]))
    np.testing.assert_allclose(centre_of_light(posed.images[0]), (12.0 * 40 / 41, 11.0), atol=0.02)
    wide = save(tmp_path / "wide.png", spot(60, 30, 12.0, 11.0, 3))
    with pytest.raises(ValueError, match=r"wide\.png is 60 x 30 pixels .* most pictures of this capture are 40 x 30"):
        posed_photographs([photograph(wide, 60, 30), *map(photograph, paths)])


def turned(folder, values, suffix, orientation, **options):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return save(folder / f"a.{suffix}", values, exif=exif, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_pixels_stay_as_the_cameras_were_found_from_them(tmp_path, noise, suffix, orientation):
    path = turned(tmp_path, noise, suffix, orientation, **{"lossless": True} if suffix == "webp" else {})
    posed = posed_photographs([photograph(path)])
    np.testing.assert_array_equal((posed.images[0] * 255).round().byte().permute(1, 2, 0), noise)


@pytest.mark.parametrize("orientation, quarters", [(6, -1), (8, 1)])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_camera_of_the_upright_picture_has_it_turned(tmp_path, noise, suffix, orientation, quarters):
    path = turned(tmp_path, noise, suffix, orientation)
    posed = posed_photographs([photograph(path, 30, 40)], max_side=40)
    np.testing.assert_array_equal((posed.images[0] * 255).round().byte().permute(1, 2, 0), np.rot90(noise, quarters))
    assert posed_photographs([photograph(path, 30, 40)], max_side=20).images.shape == (1, 3, 20, 15)


def test_masks_are_turned_with_their_pictures(tmp_path, noise):
    alpha = np.where(np.arange(40) < 20, 255, 0).astype(np.uint8)[None].repeat(30, 0)
    path = turned(tmp_path, np.dstack((noise, alpha)), "png", 6)
    np.testing.assert_array_equal(posed_photographs([photograph(path)]).masks[0], alpha > 0)
    np.testing.assert_array_equal(posed_photographs([photograph(path, 30, 40)]).masks[0], np.rot90(alpha > 0, -1))


def test_pictures_of_16_bits_are_scaled(tmp_path):
    deep = np.full((30, 40), 32768, np.uint16)
    posed = posed_photographs([photograph(save(tmp_path / "a.png", deep))])
    assert (posed.images == 128 / 255).all()


@pytest.mark.parametrize("background", [(1.0, 1.0, 1.0), (0.0, 0.5, 1.0)])
def test_transparent_pictures_lie_on_the_background(tmp_path, noise, background):
    alpha = np.zeros((30, 40), np.uint8)
    alpha[:, :20], alpha[:, 20:25] = 255, 51
    path = save(tmp_path / "a.png", np.dstack((noise, alpha)))
    opaque = save(tmp_path / "b.png", noise)
    posed = posed_photographs([photograph(path), photograph(opaque)], background=background)
    share = alpha[..., None] / 255
    expected = noise / 255 * share + np.array(background) * (1 - share)
    np.testing.assert_allclose(posed.images[0].permute(1, 2, 0), expected, atol=0.51 / 255)
    np.testing.assert_array_equal(posed.masks[0], alpha == 255)
    assert posed.masks[1].all()


@pytest.mark.parametrize("white", [1, 255])
def test_masks_come_from_files(tmp_path, noise, white):
    mask = np.zeros((60, 80), np.uint8)
    mask[:, 40:] = white
    path = save(tmp_path / "mask.png", mask)
    posed = posed_photographs([photograph(save(tmp_path / "a.png", noise), mask_path=path, time=0.5)])
    np.testing.assert_array_equal(posed.masks[0], np.arange(40)[None].repeat(30, 0) >= 20)
    assert posed.times.tolist() == [0.5]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"mask\.png"):
        posed_photographs([photograph(tmp_path / "a.png", mask_path=path)])


def test_distorted_pictures_are_flattened_with_their_masks(tmp_path):
    lens = Distortion(k1=0.3)  # a pincushion shows less at the corners than its pinhole camera would
    picture = spot(80, 60, 65.0, 45.0, 2)
    alpha = np.where(picture[..., 0] > 60, 255, 0).astype(np.uint8)
    colour = save(tmp_path / "a.png", picture)
    cut_out = save(tmp_path / "b.png", np.dstack((picture, alpha)))
    photographs = [photograph(path, 80, 60, lens) for path in (colour, cut_out)]
    posed = posed_photographs(photographs, background=(0, 0, 0))
    x, y = (centre_of_light(posed.images[0]) - np.array([43.0, 28.0])) / (50.0, 52.0)
    growth = 1 + 0.3 * (x * x + y * y)
    np.testing.assert_allclose((x * growth * 50 + 43, y * growth * 52 + 28), (65, 45), atol=0.1)
    v, u = np.mgrid[:60, :80] + 0.5
    growth = 1 + 0.3 * (((u - 43) / 50) ** 2 + ((v - 28) / 52) ** 2)
    across, down = (u - 43) * growth + 43, (v - 28) * growth + 28
    np.testing.assert_array_equal(posed.masks[0], (across >= 0) & (across <= 80) & (down >= 0) & (down <= 60))
    assert (posed.masks[1] & ~posed.masks[0]).sum() == 0 and 10 < posed.masks[1].sum() < 40
    assert posed.Ks[0].tolist() == [[50, 0, 43], [0, 52, 28], [0, 0, 1]]


def test_bad_requests_and_files(tmp_path, noise):
    path = save(tmp_path / "a.png", noise)
    with pytest.raises(ValueError, match="max_side must be a whole number of at least 1, not 0"):
        posed_photographs([photograph(path)], 0)
    for background in [(1, 1), (0, 0, 2.0), "red"]:
        with pytest.raises(ValueError, match=r"background must be red, green and blue in \[0, 1\]"):
            posed_photographs([photograph(path)], background=background)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"a\.png cannot be read"):
        posed_photographs([photograph(path)])
    path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"a\.png is no picture file"):
        posed_photographs([photograph(path)])


def test_every_eighth_is_for_testing(tmp_path):
    photographs = [photograph(tmp_path / f"{index:02}.png") for index in reversed(range(17))]
    names = {split: [each.name for each in photographs_of_split(photographs, split)] for split in ("train", "test")}
    assert names["test"] == ["00.png", "08.png", "16.png"]
    assert names["train"] == [f"{index:02}.png" for index in range(17) if index % 8]
    assert photographs_of_split(photographs, None) == photographs
    with pytest.raises(ValueError, match="split must be train, test or None for a capture .* not 'validation'"):
        photographs_of_split(photographs, "validation")
    with pytest.raises(ValueError, match="none is left"):
        photographs_of_split(photographs[:1], "train")
