"""Grids of cameras: a scene painted by hand is where the cameras say, and names that are no grid are refused."""

import math
import os
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pocket_diffusers.training.datasets.camera_grid import NAME, held_out_views, is_camera_grid, read_camera_grid
from pocket_diffusers.training.datasets.pocketworld.cameras import project
from pocket_diffusers.training.datasets.posed_captures import read_captures

REPOSITORY = Path(__file__).resolve().parents[3]
CARDS = Path("lightfields", "stanford_tarot_cards_9x9_of_17x17")
SIZE = (48, 32)


def write(folder, names, size=SIZE):
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        Image.new("RGB", size, (index % 256, 0, 0)).save(folder / name)
    return folder


def plain(rows, columns):
    return [f"{row:02}_{column:02}.png" for row in rows for column in columns]


def shop(rows, columns, step=25.0, lens=30, sensor=36):
    """Names as the exporter of light-field-renderer gives them: columns run from right to left."""
    places = [(row, column, (1 - row) * step, (1 - column) * step) for row in range(rows) for column in range(columns)]
    return [f"Original Camera_{row:02}_{column:02}_{y:f}_{x:f}_{lens}_{sensor}.jpg" for row, column, y, x in places]


def centres(photographs):
    return torch.linalg.inv(torch.stack([photograph.viewmat for photograph in photographs]))[:, :3, 3]


NUMBERS = st.integers(0, 9999)
PLACES = st.floats(-9999, 9999).map(lambda value: f"{value:f}")


@given(
    NUMBERS, NUMBERS, PLACES, PLACES, st.sampled_from(["", "out_", "view_", "Original Camera_", "a-b_7_", "my view "])
)
def test_names_tell_row_column_place_and_lens(row, column, y, x, before):
    for name in (f"{row}_{column}", f"r{row:02}_c{column:02}", f"R{row}_C{column}_"):
        told = NAME.fullmatch(before + name)
        assert (int(told["row"]), int(told["column"]), told["x"]) == (row, column, None), name
    for name in (f"{row:02}_{column:02}_{y}_{x}", f"{row:02}_{column:02}_{y}_{x}_"):
        told = NAME.fullmatch(before + name)
        assert (int(told["row"]), int(told["column"]), told["y"], told["x"]) == (row, column, y, x), name
        assert told["lens"] is None
    told = NAME.fullmatch(f"{before}{row:02}_{column:02}_{y}_{x}_30_36.5")
    assert (told["y"], told["x"], told["lens"], told["sensor"]) == (y, x, "30", "36.5")


@pytest.mark.parametrize(
    "name", ["depth", "IMG_0001", "20240102_123456", "1_x", "r1c2", "_", "", "1__2", "\u0661_\u0662"]
)
def test_other_pictures_are_no_views(name):
    assert NAME.fullmatch(name) is None


def test_without_places_a_step_is_one_unit(tmp_path):
    names = [f"view_r{row:02}_c{column:02}.png" for row in (0, 4, 8) for column in (3, 5, 7, 9)]
    photographs = read_camera_grid(write(tmp_path, [*names, "depth.png", "._view_r00_c00.png"]))
    assert [photograph.name for photograph in photographs] == names and is_camera_grid(tmp_path)
    found = centres(photographs).reshape(3, 4, 3)
    np.testing.assert_allclose(found[..., 0], [[-1.5, -0.5, 0.5, 1.5]] * 3)
    np.testing.assert_allclose(found[..., 1], np.array([[-2.0, 0, 2]] * 4).T)
    assert not found[..., 2].any()


def test_places_of_the_stanford_archive(tmp_path):
    places = {
        (0, 0): (-381.9, 1103.4),
        (0, 10): (-383.2, 1017.4),
        (10, 0): (-301.0, 1102.9),
        (10, 10): (-299.5, 1016.1),
    }
    names = [f"out_{row:02}_{column:02}_{y:f}_{x:f}_.png" for (row, column), (y, x) in places.items()]
    photographs = read_camera_grid(write(tmp_path, names))
    given = torch.tensor([[x, y, 0.0] for y, x in places.values()], dtype=torch.float64)
    torch.testing.assert_close(centres(photographs).diff(dim=0), given.diff(dim=0))
    torch.testing.assert_close(centres(photographs).amin(0), -centres(photographs).amax(0))


def test_lens_and_sensor_make_the_focal_length(tmp_path):
    write(tmp_path / "a", shop(3, 3, 800 / 26), (960, 640))
    photographs = read_camera_grid(tmp_path / "a")
    assert all(each.lens[:6] == pytest.approx((960, 640, 800, 800, 480, 320)) for each in photographs)
    assert float(centres(photographs)[0, 0] - centres(photographs)[1, 0]) == pytest.approx(30.769231)
    write(tmp_path / "b", shop(3, 3), (64, 96))
    assert read_camera_grid(tmp_path / "b")[0].lens.fx == pytest.approx(
        80
    )  # Blender's sensor lies along the longer side
    with pytest.raises(ValueError, match=r"field_of_view must be left out, for the names in .* tell the lens, not 50"):
        read_camera_grid(tmp_path / "a", field_of_view=50)


@pytest.mark.parametrize("focus, seen", [(None, 16.0), (5.0, 5.0), (math.inf, 1e12)])
def test_views_agree_on_the_plane_of_focus(tmp_path, focus, seen):
    """And what is nearer moves against the camera, what is farther with it."""
    photographs = read_camera_grid(write(tmp_path, plain(range(3), range(5))), field_of_view=60, focus_distance=focus)
    assert photographs[0].lens.fx == pytest.approx(24 / math.tan(math.pi / 6))
    pixels = torch.stack(
        [
            project(
                torch.tensor([[0.1, -0.2, 1.0], [0.05, -0.1, 0.5], [0.2, -0.4, 2.0]], dtype=torch.float64) * seen,
                photograph.viewmat,
                photograph.lens.K(SIZE),
            )[0]
            for photograph in photographs
        ]
    ).reshape(3, 5, 3, 2)
    torch.testing.assert_close(pixels[..., 0, :], pixels[1, 2, 0].expand(3, 5, 2), atol=1e-6, rtol=0)
    if seen < 100:
        assert (pixels[..., 1, 0].diff(dim=1) < 0).all() and (pixels[..., 1, 1].diff(dim=0) < 0).all()
        assert (pixels[..., 2, 0].diff(dim=1) > 0).all() and (pixels[..., 2, 1].diff(dim=0) > 0).all()


def test_without_a_lens_any_choice_shows_the_same_views_of_a_scene_with_other_depths(tmp_path):
    write(tmp_path, plain(range(3), range(3)))
    narrow, wide = (read_camera_grid(tmp_path, None, *choice) for choice in ((30, 20.0), (75, 6.0)))
    (f, d), (g, e) = (narrow[0].lens.fx, 20.0), (wide[0].lens.fx, 6.0)
    points = torch.tensor([[0.5, -1.0, 15.0], [2.0, 0.3, 21.0], [-1.0, 2.0, 24.0]], dtype=torch.float64)
    depths = 1 / (1 / e + f / g * (1 / points[:, 2] - 1 / d))  # disparities are the same
    others = torch.cat((points[:, :2] * (depths * f / (points[:, 2] * g))[:, None], depths[:, None]), 1)
    for one, other in zip(narrow, wide, strict=True):
        seen, _ = project(points, one.viewmat, one.lens.K(SIZE))
        torch.testing.assert_close(project(others, other.viewmat, other.lens.K(SIZE))[0], seen)


def test_splits_share_no_view_and_held_out_ones_lie_between(tmp_path):
    write(tmp_path, plain(range(5), range(6)))
    train, test = (read_captures(tmp_path, split=split) for split in ("train", "test"))
    assert test.names == ("01_01.png", "01_03.png", "03_01.png", "03_03.png")
    assert set(train.names) | set(test.names) == set(plain(range(5), range(6))) and len(train.names) == 26
    assert test.posed.images.shape == (4, 3, 32, 48) and float(test.posed.images[1, 0, 0, 0]) == pytest.approx(9 / 255)
    with pytest.raises(ValueError, match="split must be one of train, test, not 'validation'"):
        read_captures(tmp_path, split="validation")


@given(st.integers(1, 20), st.integers(1, 20))
def test_neighbours_of_held_out_views_are_learned_from(rows, columns):
    if max(rows, columns) < 3:
        with pytest.raises(ValueError, match="a grid to hold views out of must be at least 3 views long"):
            held_out_views(rows, columns)
        return
    held_out = held_out_views(rows, columns)
    assert held_out.shape == (rows, columns) and held_out.any()
    for row, column in held_out.nonzero().tolist():
        for size, place in ((rows, row), (columns, column)):
            assert size < 3 or 0 < place < size - 1
        if rows > 2:
            assert not held_out[row - 1, column] and not held_out[row + 1, column]
        if columns > 2:
            assert not held_out[row, column - 1] and not held_out[row, column + 1]


def test_a_quarter_of_the_inside_is_held_out():
    assert int(held_out_views(9, 9).sum()) == 16 and int(held_out_views(17, 17).sum()) == 64


def test_an_archive_is_read_like_its_folder(tmp_path):
    write(tmp_path / "cards", plain(range(3), range(3)))
    with zipfile.ZipFile(tmp_path / "cards.zip", "w") as archive:
        archive.writestr("__MACOSX/._cards", b"")
        for path in sorted((tmp_path / "cards").iterdir()):
            archive.write(path, f"cards/{path.name}")
    unpacked, packed = (read_captures(tmp_path / name, max_side=24, split="train") for name in ("cards", "cards.zip"))
    assert packed.names == unpacked.names and torch.equal(packed.posed.images, unpacked.posed.images)
    assert torch.equal(packed.posed.Ks, unpacked.posed.Ks) and len(packed.positions) == 0 and packed.bounds is None
    with pytest.raises(ValueError, match="images must be left out, not 'here'"):
        read_captures(tmp_path / "cards.zip", images="here")


def test_how_wide_and_how_far_a_grid_sees_may_be_said(tmp_path):
    write(tmp_path, plain(range(3), range(3)))
    K = read_captures(tmp_path, field_of_view=90, focus_distance=10).posed.Ks[0]
    assert K[0, 0] == pytest.approx(SIZE[0] / 2) and K[1, 1] == pytest.approx(SIZE[0] / 2)
    assert K[0, 2] == pytest.approx(SIZE[0] / 2 - SIZE[0] / 2 / 10), "its middle is one unit to the right"


def test_archives_hold_camera_grids_alone(tmp_path):
    """Other captures name files by paths, which in a stranger's archive could lead anywhere."""
    with zipfile.ZipFile(tmp_path / "scene.zip", "w") as archive:
        archive.writestr("transforms.json", '{"fl_x": 5, "frames": [{"file_path": "/etc/passwd"}]}')
    with pytest.raises(ValueError, match=r"scene\.zip must hold at least two views of a grid"):
        read_captures(tmp_path / "scene.zip")
    with zipfile.ZipFile(tmp_path / "scene.zip", "w") as archive:
        archive.writestr("../00_00.png", b"")
    with pytest.raises(ValueError, match=r"scene\.zip must hold files that lie inside of it, not '\.\./00_00\.png'"):
        read_captures(tmp_path / "scene.zip")


@pytest.mark.parametrize(
    "names, sentence",
    [
        (["00_00.png"], r"must hold at least two views of a grid, named by row and column such as 03_05\.png, not 1"),
        (["depth.png"], "must hold at least two views of a grid, .* not 0"),
        (plain((0, 1), (0, 1, 2))[:5], "each of the 2 x 3 views .* 1 of them, .* row 1 and column 2, is missing"),
        (["0_0.png", "1_1.png", "2_2.png"], "each of the 3 x 3 views .* 6 of them, .* row 0 and column 1, are missing"),
        (["left_0_0.png", "right_0_0.png"], r"one view in row 0 and column 0, not both left_0_0\.png and right_0_0"),
        (plain((0, 1, 3), (0, 1)), "rows must be evenly spaced where names tell no places, not 0, 1, 3"),
        (plain((0,), (0, 1, 2, 9)), "columns must be evenly spaced where names tell no places, not 0, 1, 2, 9"),
        (["0_0.png", "0_1_0.0_1.0.png"], "names must tell the places of all views or of none, unlike 0_0.png and 0_1_"),
        (["0_0_0.0_0.0.png", "0_1_0.0_1.0_30_36.png"], "names must tell the same lens and sensor for all views"),
        (["0_0_0.0_0.0_30_36.png", "0_1_0.0_1.0_35_36.png"], "names must tell the same lens and sensor for all views"),
        (["0_0_0.0_0.0_0_36.png", "0_1_0.0_1.0_0_36.png"], "must tell a lens and a sensor longer than 0 mm"),
        (["0_0_0.0_0.0_30_0.png", "0_1_0.0_1.0_30_0.png"], "must tell a lens and a sensor longer than 0 mm"),
        (["0_0_0.0_1.0.png", "0_1_0.0_1.0.png"], "x in names must grow with the columns, or fall with them"),
        (["0_0_0.0_0.0.png", "1_0_2.0_0.0.png", "2_0_1.0_0.0.png"], "y in names must grow with the rows"),
    ],
)  # fmt: skip
def test_what_is_no_grid(tmp_path, names, sentence):
    with pytest.raises(ValueError, match=rf"{tmp_path}.*{sentence}"):
        read_camera_grid(write(tmp_path, names))


def test_pictures_of_a_grid_are_alike(tmp_path):
    write(tmp_path, plain((0, 1), (0, 1)))
    write(tmp_path, ["01_00.png"], (32, 48))
    with pytest.raises(ValueError, match=r"01_00\.png must have 48 x 32 pixels .* as 00_00\.png has, not 32 x 48"):
        read_camera_grid(tmp_path)
    (tmp_path / "01_00.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"01_00\.png.* is no picture file that can be read"):
        read_camera_grid(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere is missing, or no folder"):
        read_camera_grid(tmp_path / "nowhere")


@pytest.mark.parametrize("value", [0, -1, math.nan, True, "4", -math.inf])
def test_arguments_out_of_range(tmp_path, value):
    write(tmp_path, plain((0, 1), (0, 1)))
    with pytest.raises(ValueError, match="focus_distance must be a number of at least 1e-06"):
        read_camera_grid(tmp_path, focus_distance=value)
    if value is not True:
        with pytest.raises(ValueError, match="field_of_view must be a number from 1 to 179"):
            read_camera_grid(tmp_path, field_of_view=value)


def test_any_names_are_a_grid_or_refused(tmp_path):
    """A thousand folders whose names are spoiled in some places."""
    path, refused = tmp_path / "0.png", 0
    Image.new("RGB", (2, 2)).save(path)
    for seed in range(1000):
        chance, folder = random.Random(seed), tmp_path / f"grid {seed}"
        folder.mkdir()
        for name in chance.choice([plain(range(2), range(3)), shop(2, 3), [f"out_{n}" for n in plain((0, 2), (1, 2))]]):
            spoiled = list(name[:-4])
            if chance.random() < 0.1:
                wrong = chance.choice(["_", "9", "0", "-", ".", "", "99999", "r", "\u0663"])
                spoiled[chance.randrange(len(spoiled))] = wrong
            view = folder / ("".join(spoiled) + ".png")
            view.unlink(missing_ok=True)
            os.link(path, view)
        try:
            photographs = read_camera_grid(folder)
            assert len(photographs) > 1 and all(torch.isfinite(each.lens.K((2, 2))).all() for each in photographs)
        except ValueError as error:
            assert str(folder) in str(error) and "\n" not in str(error), error
            refused += 1
    assert 100 < refused < 900


def test_real_photographs_of_the_stanford_archive():
    """Where the cards stand is found once from neighbours in a row, and once from neighbours in a column."""
    folder = Path(os.environ.get("POCKET_DATA", REPOSITORY / ".." / "shared" / "data"), CARDS)
    if not folder.exists():
        pytest.skip(f"The photographs are not here: set POCKET_DATA to the folder that holds {CARDS}")
    photographs = read_camera_grid(folder)
    assert len(photographs) == 81 and len(read_camera_grid(folder, "test")) == 16
    middle, right, below = (photographs[index] for index in (40, 41, 49))
    assert (middle.name, right.name, below.name) == ("view_r08_c08.jpg", "view_r08_c10.jpg", "view_r10_c08.jpg")
    pictures = {each.name: each.developed((768, 768))[0].mean(0) for each in (middle, right, below)}
    focus = middle.lens.fx * 1.0 / float(right.lens.cx - middle.lens.cx)  # of a step of 1
    found = {}
    for part, (top, left) in {"wall of cards": (60, 20), "cards on the table": (670, 300)}.items():
        patch = pictures[middle.name][top : top + 80, left : left + 80]
        for other in (right, below):
            errors = []
            for shift in range(-8, 9):  # pixels to the right, or downwards
                across, down = (shift, 0) if other is right else (0, shift)
                moved = pictures[other.name][top + down : top + down + 80, left + across : left + across + 80]
                errors.append(float((moved - patch).abs().mean()) if moved.shape == patch.shape else math.inf)
            shift = int(np.argmin(errors)) - 8
            found[part, other.name] = middle.lens.fx / (middle.lens.fx / focus - shift)
    assert found["wall of cards", right.name] > focus > found["cards on the table", right.name]
    for part in ("wall of cards", "cards on the table"):
        assert found[part, right.name] == pytest.approx(found[part, below.name], rel=0.05), found
