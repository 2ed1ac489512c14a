"""The page that reads digits wholly in the browser: its script against Python, and the whole against the pipeline."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pages import site_of
from PIL import Image, ImageDraw

from pocket_diffusers.pipelines.loading import load_pipeline
from pocket_diffusers.pipelines.recognition.drawn_digit import read_digit
from pocket_diffusers.spaces.build_static import SPACES


def drawing(width: int, pen: int, ink="black", paper="white", mode: str = "RGB") -> Image.Image:
    """A seven."""
    picture = Image.new(mode, (width, width), paper)
    points = [(x * width / 280, y * width / 280) for x, y in ((90, 60), (190, 60), (130, 220))]
    ImageDraw.Draw(picture).line(points, fill=ink, width=pen)
    return picture


def scribble(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    width, height = rng.integers(20, 90, 2).tolist()
    picture = Image.new("RGB", (width, height), (240, 230, 200))
    corners = [tuple(corner) for corner in (rng.random((4, 2)) * [width, height]).tolist()]
    ImageDraw.Draw(picture).line(corners, fill=(20, 30, 90), width=int(rng.integers(1, 8)))
    return picture


def rgba(picture: Image.Image) -> dict:
    data = np.asarray(picture.convert("RGBA")).ravel().tolist()
    return {"width": picture.width, "height": picture.height, "data": data}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory, serve_folder) -> str:
    """The script that reads digits alone, on a page that forbids nothing."""
    folder = tmp_path_factory.mktemp("scripts")
    shutil.copyfile(SPACES / "ascan" / "static" / "digit.js", folder / "digit.js")
    (folder / "index.html").write_text("<!doctype html><title>blank</title>")
    return serve_folder(folder)


def test_cells_are_python_s(scripts, open_page):
    pictures = [drawing(140, 6), drawing(100, 2), drawing(90, 9, "white", "black"), *map(scribble, range(6))]
    pictures.append(drawing(120, 5, (0, 0, 0, 255), (0, 0, 0, 0), "RGBA"))
    code = """async (pictures) => {
        const { readDigit } = await import('/digit.js');
        return pictures.map((picture) => Array.from(readDigit(picture)));
    }"""
    for picture, cells in zip(pictures, open_page(scripts).evaluate(code, list(map(rgba, pictures))), strict=True):
        assert np.abs(np.asarray(read_digit(picture), int).ravel() - 255 * np.array(cells)).max() <= 1


def test_interpolation_is_torch_s(scripts, open_page):
    cells = torch.rand(8, 8, generator=torch.Generator().manual_seed(0))
    code = """async ([cells, size]) => {
        const { toPixelValues } = await import('/digit.js');
        return Array.from(toPixelValues(cells, size));
    }"""
    found = open_page(scripts).evaluate(code, [cells.flatten().tolist(), 32])
    expected = torch.nn.functional.interpolate(
        cells[None, None], (32, 32), mode="bilinear", align_corners=False, antialias=True
    )
    torch.testing.assert_close(torch.tensor(found), 2 * expected.flatten() - 1, rtol=0, atol=1e-5)


def test_one_shade_is_refused(scripts, open_page):
    code = """async (picture) => {
        const { readDigit } = await import('/digit.js');
        try { readDigit(picture); } catch (error) { return error.message; }
    }"""
    message = open_page(scripts).evaluate(code, rgba(Image.new("RGB", (9, 7), "pink")))
    assert message == "There is no digit to be seen: all of the picture has one shade."


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return site_of("ascan", tmp_path_factory)


def test_the_browser_reads_what_python_reads(site, serve_folder, open_page, tmp_path):
    page = open_page(serve_folder(site))
    page.get_by_text("Ready: draw a digit.").wait_for()
    drawing(280, 16).save(tmp_path / "seven.png")
    page.get_by_label("Or a picture of one").set_input_files(tmp_path / "seven.png")
    page.get_by_text("1 digit in").wait_for()
    shown = [row.split() for row in page.locator("#digits li").all_inner_texts()]
    pipeline = load_pipeline("ascan", "ascan-nano-digits")
    expected = pipeline(read_digit(Image.open(tmp_path / "seven.png")), top_k=3)
    assert [label for label, *_ in shown] == list(expected.labels[0])
    for (_, percent, _), score in zip(shown, expected.scores[0], strict=True):
        assert float(percent) == pytest.approx(100 * score, abs=0.2)


def test_a_person_draws_clears_and_is_told_what_is_wrong(site, serve_folder, open_page, tmp_path):
    page = open_page(serve_folder(site))
    page.get_by_text("Ready: draw a digit.").wait_for()
    frame = page.locator("#board").bounding_box()
    middle = frame["x"] + frame["width"] / 2
    page.mouse.move(middle, frame["y"] + 0.15 * frame["height"])
    page.mouse.down()
    page.mouse.move(middle, frame["y"] + 0.85 * frame["height"], steps=10)
    page.mouse.up()
    page.get_by_text("1 digit in").wait_for()
    assert page.locator("#digits strong").first.inner_text() == "1"
    page.get_by_role("button", name="Clear").click()
    assert page.locator("#digits li").count() == 0
    (tmp_path / "words.png").write_text("no picture")
    page.get_by_label("Or a picture of one").set_input_files(tmp_path / "words.png")
    page.get_by_text("The file is no picture that can be read: use a PNG, JPEG, WebP or GIF file.").wait_for()
    Image.new("RGB", (50, 50), "white").save(tmp_path / "blank.png")
    page.get_by_label("Or a picture of one").set_input_files(tmp_path / "blank.png")
    page.get_by_text("There is no digit to be seen: all of the picture has one shade.").wait_for()
