"""The page that shows a light field wholly in the browser: its pictures beside the pipeline's, and its gestures."""

import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pages import PATIENCE, site_of
from PIL import Image

from pocket_diffusers import checkpoint
from pocket_diffusers.pipelines.loading import load_pipeline
from pocket_diffusers.pipelines.pipeline_lightspeed import LightSpeedPipeline

MOST_BYTES = 18_000_000
PLACES = [(0.0, 0.0), (0.37, -0.8), (-0.81, 0.6), (0.62, 0.1)]
DRAW = """async (places) => {
    const { LightSpeed } = await import("/lightspeed.js");
    const { viewsOf } = await import("/view_ranges.js");
    const field = await LightSpeed.load();
    const views = viewsOf(field.constants.views);
    const shown = [];
    for (const [right, up] of places) {
        const { pixels, weights } = await field.generate(views.camera(right, up));
        shown.push({ data: Array.from(pixels.data), width: pixels.width, weights });
    }
    return shown;
}"""

NEARLY = 1.0
"""Mean difference of pictures, of 255, where the place of a drag is known to half a pixel of the screen alone."""
WHOLLY_IN_SIGHT = """(place) => {
    const { top, bottom } = document.querySelector(place).getBoundingClientRect();
    return top > -1 && bottom < innerHeight + 1;
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return site_of("lightspeed", tmp_path_factory)


@pytest.fixture(scope="module")
def address(site, serve_folder) -> str:
    return serve_folder(site)


@pytest.fixture(scope="module")
def pipeline() -> LightSpeedPipeline:
    return load_pipeline("lightspeed", on_cpu=True)


def picture(page) -> np.ndarray:
    """What is on the canvas, pixel for pixel."""
    address = page.evaluate("document.getElementById('field').toDataURL().split(',')[1]")
    return pixels_of(address)


def pixels_of(base64: str) -> np.ndarray:
    from base64 import b64decode

    return np.asarray(Image.open(io.BytesIO(b64decode(base64))).convert("RGB"), int)


def expected(pipeline, right: float, up: float) -> np.ndarray:
    return np.asarray(pipeline(cameras=pipeline.view_range.camera(right, up)).images[0], int)


def border(pipeline) -> tuple[float, float]:
    """A place where two sub-scenes share the picture."""
    for right in np.linspace(-1, 1, 400):
        cameras = pipeline.view_range.camera(float(right), 0.0)
        weights = pipeline.field.clusters.weights(
            -(cameras.viewmats[:, :3, :3].mT @ cameras.viewmats[:, :3, 3:])[..., 0]
        )
        if 0.3 < float(weights.max()) < 0.7:
            return float(right), 0.0
    raise AssertionError("no two sub-scenes share a picture")


def test_the_browser_draws_what_python_draws(address, open_page, pipeline):
    places = PLACES + ([border(pipeline)] if len(pipeline.field.clusters) > 1 else [])
    for place, found in zip(places, open_page(address).evaluate(DRAW, places), strict=True):
        shown = np.array(found["data"]).reshape(-1, found["width"], 4)
        assert (shown[..., 3] == 255).all()
        difference = np.abs(shown[..., :3] - expected(pipeline, *place))
        assert difference.max() <= 2 and difference.mean() < 0.3, place
    assert len(pipeline.field.clusters) == 1 or sum(weight > 0 for weight in found["weights"]) == 2


def test_a_drag_and_keys_move_the_picture_and_its_speed_is_told(address, open_page, pipeline, tmp_path):
    page = open_page(address)
    page.get_by_text("Ready").wait_for()
    assert np.abs(picture(page) - expected(pipeline, 0, 0)).max() <= 2
    speed = page.locator("#speed", has_text=re.compile(r"^\d+ ms a frame · [\d.]+ frames a second$"))
    speed.wait_for()
    frame = page.locator("#field").bounding_box()
    x, y = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - frame["height"] / 5, y, steps=4)
    page.mouse.up()
    width = pipeline.view_range.camera(0, 0).width
    assert picture(page).shape[1] == width
    moved = 2 * 0.6 / (2 * np.pi if pipeline.view_range.kind == "orbit" else 3)
    where = page.locator("#where")
    wanted = f"azimuth {180 * moved:.0f}°" if pipeline.view_range.kind == "orbit" else f"right {moved:.2f}"
    where.filter(has_text=wanted).wait_for()
    there = expected(pipeline, moved, 0)
    assert np.abs(there - expected(pipeline, 0, 0)).mean() > 4 * NEARLY
    wait_for_picture(page, lambda seen: np.abs(seen - there).mean() <= NEARLY)
    page.locator("#field").press("Home")
    wait_for_picture(page, lambda seen: np.abs(seen - expected(pipeline, 0, 0)).max() <= 2)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    download.value.save_as(tmp_path / "saved.png")
    saved = np.asarray(Image.open(tmp_path / "saved.png").convert("RGB"), int)
    assert np.abs(saved - expected(pipeline, 0, 0)).max() <= 2


def wait_for_picture(page, is_wanted: Callable[[np.ndarray], bool]) -> None:
    for _ in range(PATIENCE // 100):
        if is_wanted(picture(page)):
            return
        page.wait_for_timeout(100)
    raise AssertionError("the picture never came")


def test_a_walk_comes_back_and_who_looks_elsewhere_ends_it(address, open_page):
    page = open_page(address, width=390, dark=True)
    page.get_by_text("Ready").wait_for()
    page.get_by_role("button", name="Take a walk").click()
    page.get_by_text(re.compile(r"^1 walk in [\d.]+ s, in this browser · \d+ pictures$")).wait_for()
    page.get_by_role("button", name="Take a walk").click()
    page.get_by_role("button", name="From above").click()
    page.get_by_text(re.compile(r"^1 picture in [\d.]+ s, in this browser$")).wait_for()
    page.wait_for_timeout(500)
    assert page.get_by_text("1 picture in").is_visible()
    page.wait_for_function(WHOLLY_IN_SIGHT, arg="#field")
    page.wait_for_function("document.documentElement.scrollWidth <= 390")


def test_a_network_that_is_missing_is_said(site, tmp_path, serve_folder, open_page):
    shutil.copytree(site, tmp_path / "site", ignore=shutil.ignore_patterns("field*.onnx"))
    page = open_page(serve_folder(tmp_path / "site"))
    page.get_by_text("The model could not be loaded:").wait_for()
    assert page.get_by_text("cannot be fetched: status 404.").is_visible()
    assert page.get_by_role("button", name="Take a walk").is_disabled()


def test_the_networks_are_small(site):
    assert sum(file.stat().st_size for file in (site / "model").rglob("*") if file.is_file()) < MOST_BYTES


def test_weights_of_the_page_come_with_the_package():
    assert (checkpoint("lightspeed-nano") / "model_index.json").is_file()
