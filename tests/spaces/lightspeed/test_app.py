"""The Space of LightSpeed as programs and people use it."""

import io
import math
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pocket_diffusers.hub_models.field_lightspeed import LightSpeedField
from pocket_diffusers.hub_models.rendering.cameras import camera_centres
from pocket_diffusers.hub_models.rendering.light_slab import LightSlab
from pocket_diffusers.pipelines.pipeline_lightspeed import LightSpeedPipeline
from pocket_diffusers.pipelines.scene_cameras import Cameras
from pocket_diffusers.pipelines.view_ranges import GridViews, OrbitViews
from pocket_diffusers.training.datasets.pocketworld.records import clips

gradio = pytest.importorskip("gradio", reason="Spaces need the extra 'demo'")

OPTIONS = {"grid_resolutions": (4, 8), "width": 8, "blocks": 1, "tail_channels": (8, 8, 4)}
ORBIT = OrbitViews(
    center=(0.1, 0.5, -0.2), distance=3.0, up="y", low=10.0, high=50.0, focal=(40.0, 40.0), width=32, height=24
)
GRID = GridViews(
    viewmat=tuple(torch.eye(4).flatten().tolist()), half_width=4.0, half_height=2.0, focus=20.0, focal=(40.0, 40.0),
    width=32, height=24,
)  # fmt: skip
STEPS = 50


def make_pipeline(views: OrbitViews | GridViews, sub_scenes: int) -> LightSpeedPipeline:
    """One whose pictures depend on where the camera stands."""
    torch.manual_seed(0)
    field = LightSpeedField(num_sub_scenes=sub_scenes, grid_init=1.0, **OPTIONS).eval()
    for which in range(sub_scenes):
        wide = torch.full((4,), 6.0)
        centre = torch.tensor([3.0 * math.cos(math.pi * which), 2.0, 1.0])
        field.set_slab(which, LightSlab(torch.eye(4), torch.tensor(-9.0), torch.tensor(9.0), -wide, wide), centre)
    pipeline = LightSpeedPipeline(field, views.to_config())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def pipeline():
    return make_pipeline(ORBIT, 2)


@pytest.fixture(scope="module")
def address(pipeline, tmp_path_factory):
    from pocket_diffusers.spaces.look import serve, space_app

    folder = tmp_path_factory.mktemp("weights") / "mine"
    pipeline.save_pretrained(folder)
    demo = space_app("lightspeed").build(str(folder))
    yield serve(demo, wait=False)
    demo.close()


@pytest.fixture(scope="module")
def client(address):
    from gradio_client import Client

    return Client(address, verbose=False, analytics_enabled=False)


def view(row: int, column: int, size: tuple[int, int] = (24, 16)) -> bytes:
    """Gradients that move with their camera."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    colors = np.stack([(x + column) / 26, (y + row) / 18, (x + y) / 50], -1)
    file = io.BytesIO()
    Image.fromarray((255 * colors).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def grid(path: Path, rows: int = 3, columns: int = 3, **extra: bytes) -> Path:
    """An archive of a camera grid, and of other files."""
    with zipfile.ZipFile(path, "w") as archive:
        for place in range(rows * columns):
            row, column = divmod(place, columns)
            archive.writestr(f"{row:02}_{column:02}.png", view(row, column))
        for name, content in extra.items():
            archive.writestr(name, content)
    return path


def fit(client, path: Path | None, **settings):
    from gradio_client import handle_file

    return client.predict(None if path is None else handle_file(path), api_name="/fit", **settings)


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), int)


def drawn(pipeline, cameras: Cameras) -> np.ndarray:
    return np.asarray(pipeline(cameras=cameras).images[0], int)


# Looking around


def test_a_picture_is_that_of_the_azimuth_and_elevation(client, pipeline):
    for azimuth, elevation in ((0, 30), (-180, 10), (90, 50), (45, 17)):
        picture, told, place = client.predict(right=azimuth, up=elevation, api_name="/look")
        assert place == pytest.approx([azimuth / 180, (elevation - 30) / 20])
        cameras = ORBIT.camera(*place)
        away = camera_centres(cameras.viewmats)[0] - torch.tensor(ORBIT.center)
        assert math.degrees(math.asin(away[1] / 3)) == pytest.approx(elevation, abs=1e-3)
        assert math.degrees(math.atan2(away[0], away[2])) % 360 == pytest.approx(azimuth % 360, abs=1e-3)
        assert np.array_equal(pixels(picture), drawn(pipeline, cameras))
        assert re.match(r"\*\*1 picture\*\* in \*\*\d+ ms\*\*", told)
        assert told.endswith(f"· azimuth {azimuth}° · elevation {elevation}°")


def test_places_between_whole_degrees_are_kept_on_the_sliders():
    from pocket_diffusers.spaces.lightspeed.app import axes_of

    _, elevation = axes_of(OrbitViews(**{**vars(ORBIT), "low": 8.06, "high": 43.97}))
    assert elevation.ends == (9, 43) and elevation.value(-1) == 9 and elevation.value(1) == 43
    assert elevation.value(0) == 26 and elevation.place(8.06) == -1 and elevation.place(43.97) == 1
    _, level = axes_of(OrbitViews(**{**vars(ORBIT), "low": 20.5, "high": 20.5}))
    assert level.ends == (20.5, 20.5) and level.place(20.5) == 0 and level.value(1) == 20.5


def test_a_grid_is_looked_at_from_between_its_outermost_cameras():
    from pocket_diffusers.spaces.lightspeed.app import axes_of, seen

    pipeline = make_pipeline(GRID, 1)
    right, up = axes_of(GRID)
    assert (right.label, right.ends, up.label, up.ends) == ("Right", (-1, 1), "Up", (-1, 1))
    picture, told, _ = seen(pipeline, (right, up), (right.place(0.5), up.place(-1)))
    viewmat = torch.eye(4)
    viewmat[:2, 3] = torch.tensor([-2.0, -2.0])  # half of 4 to the right, 2 down
    K = torch.tensor([[40.0, 0, 16 + 40 * 2 / 20], [0, 40, 12 + 40 * 2 / 20], [0, 0, 1]])
    assert np.array_equal(np.asarray(picture, int), drawn(pipeline, Cameras(viewmat[None], K[None], 32, 24)))
    assert told.endswith("· right 0.5 · up -1")


def test_a_walk_is_the_path_of_the_range(client, pipeline):
    path, told = client.predict(api_name="/walk")
    shown = Image.open(path)
    assert (shown.format, shown.n_frames, shown.size) == ("GIF", 48, (32, 24))
    assert told.startswith("**48 pictures** in **") and told.endswith("· 16 a second")
    expected = np.asarray(pipeline(num_frames=48).images[12], int)
    shown.seek(12)
    assert np.abs(np.asarray(shown.convert("RGB"), int) - expected).mean() < 8


def test_a_field_that_does_not_say_from_where_it_is_seen_is_refused(pipeline, tmp_path):
    from pocket_diffusers.spaces.look import space_app

    LightSpeedPipeline(pipeline.field).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="views of the model must be given"):
        space_app("lightspeed").build(str(tmp_path))


# Fitting


def test_a_fit_learns_the_grid_and_is_kept(client, tmp_path):
    told, pair, file = fit(client, grid(tmp_path / "mine.zip"), training_steps=STEPS)
    found = re.fullmatch(
        r"\*\*50 steps\*\* in \*\*[\d.]+ s\*\* · 8 views learned from · ([\d.]+) dB PSNR on 1 held out", told
    )
    with zipfile.ZipFile(file) as archive:
        archive.extractall(tmp_path)
    kept = LightSpeedPipeline.from_pretrained(tmp_path / "light-field")
    middle = kept(cameras=kept.view_range.camera(0, 0), output_type="np").images[0]
    truth = np.asarray(Image.open(io.BytesIO(view(1, 1))), float) / 255
    decibels = -10 * math.log10(np.square(middle - truth).mean())
    assert float(found[1]) == pytest.approx(decibels, abs=0.2)
    assert decibels > -10 * math.log10(np.square(truth).mean()), "no better than black"
    assert kept.view_range.half_width == kept.view_range.half_height == 1
    assert np.array_equal(pixels(pair[0]), np.round(255 * truth))
    assert np.abs(pixels(pair[1]) - 255 * middle).max() <= 2


def test_pictures_are_scaled_down_and_the_example_is_pocketworld_s_grid(monkeypatch):
    from pocket_diffusers.spaces.lightspeed import app

    monkeypatch.setattr(app, "SIDE", 32)
    archive = app.example_grid()
    seen_views, held_out = app.read_grid(archive)
    (clip,) = clips("lightfield", "test", 32, [app.EXAMPLE_SCENE], 0)
    rows, columns = np.divmod(np.arange(25), 5)
    held = (rows % 2 == 1) & (columns % 2 == 1)
    for found, which in ((seen_views, ~held), (held_out, held)):
        torch.testing.assert_close(found.images, torch.from_numpy(clip.rgb[which]).permute(0, 3, 1, 2) / 255)
        torch.testing.assert_close(found.Ks, clip.path.Ks[torch.from_numpy(which)], rtol=1e-5, atol=1e-4)
    middle, step = clip.path.viewmats[12, :3, 3], clip.path.viewmats[torch.from_numpy(held), :3, 3]
    torch.testing.assert_close(held_out.viewmats[:, :3, 3], 1000 * (step - middle), atol=2e-3, rtol=0)
    monkeypatch.setattr(app, "SIDE", 16)
    small, _ = app.read_grid(archive)
    assert small.images.shape == (21, 3, 16, 16) and small.Ks[0, 0, 0] == pytest.approx(clip.path.Ks[0, 0, 0] / 2)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "There is no camera grid: upload a zip archive of its pictures or take the example."),
        (lambda path: path.write_text("no zip"), "bad.zip is no zip archive, or a damaged one."),
        (lambda path: grid(path, **{"../../a.png": b""}), "bad.zip must hold files that lie inside of it, not '../"),
        (lambda path: grid(path, bomb=bytes(3_000_000)), "bad.zip must unpack to at most 2 MB, not 3 MB."),
        (lambda path: grid(path, 1, 1), "bad.zip must hold at least two views of a grid, named by row and column"),
        (lambda path: grid(path, 2, 2), "A grid to hold views out of must be at least 3 views long, not '2 x 2'."),
        (lambda path: grid(path, 11, 11), "The number of views in bad.zip must be at most 100 here, not 121."),
        (lambda path: grid(path, **{"00_03.png": view(0, 3)}), "views of its grid, but 2 of them"),
        (lambda path: grid(path, 1, 3, **{"00_03.png": view(0, 3, (8, 9))}), "00_03.png must have 24 x 16 pixels"),
        (lambda path: grid(path, 1, 3, **{"00_03.png": b"no picture"}), "00_03.png"),
        (lambda path: grid(path, 1, 3, **{"00_03.png": view(0, 3)[:60]}), "00_03.png"),
    ],
)  # fmt: skip
def test_bad_grids_get_one_sentence(client, tmp_path, make, sentence, monkeypatch):
    from gradio_client.exceptions import AppError

    from pocket_diffusers.spaces.lightspeed import app

    monkeypatch.setattr(app, "LARGEST_GRID", 2_000_000)
    path = tmp_path / "bad.zip"
    make(path)
    with pytest.raises(AppError) as error:
        fit(client, path if path.exists() else None, training_steps=STEPS)
    assert sentence in str(error.value) and "/tmp" not in str(error.value)


def test_what_takes_too_long_here_gets_one_sentence(client, tmp_path, monkeypatch):
    from gradio_client.exceptions import AppError

    from pocket_diffusers.spaces.lightspeed import app

    path = grid(tmp_path / "mine.zip")
    monkeypatch.setattr(app, "LARGEST_VIEW", 20)
    with pytest.raises(AppError, match=r"longer side of views in mine\.zip must be at most 20 pixels, not 24\."):
        fit(client, path, training_steps=STEPS)
    monkeypatch.undo()
    monkeypatch.setattr(app, "LONGEST", 0.0)
    with pytest.raises(AppError, match=r"50 steps take about \d+ s here, longer than the 0 s of this page: take fewer"):
        fit(client, path, training_steps=STEPS)


def test_how_long_a_fit_takes_is_known_and_told_after_few_steps(monkeypatch):
    from pocket_diffusers.spaces.lightspeed import app

    now, told = [0.0], []
    monkeypatch.setattr(app, "perf_counter", lambda: now[0])
    countdown = app.Countdown(1000, lambda share, desc: told.append((share, desc)))
    now[0] = 5.0
    countdown(19)
    assert told == [(0.019, "Fitting · about 258 s left")]
    now[0] = 7.0
    with pytest.raises(ValueError, match="1000 steps take about 350 s here, longer than the 300 s of this page"):
        countdown(20)


# In a browser


def test_a_person_drags_the_picture(address, open_page, tmp_path):
    page = open_page(address)
    picture = page.locator(".pocket-view img").first
    picture.wait_for()
    before = picture.get_attribute("src")
    frame = picture.bounding_box()
    x, y = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 100, y, steps=5)
    page.mouse.up()
    turned = -round(math.degrees(3 * 100 / page.locator(".pocket-view").first.bounding_box()["height"]))
    wait_for_azimuth(page, turned)
    assert int(page.get_by_label("number input for Azimuth").input_value()) == pytest.approx(turned, abs=1)
    page.wait_for_function("before => document.querySelector('.pocket-view img').src !== before", arg=before)
    page.locator(".pocket-view").first.press("ArrowLeft")
    wait_for_azimuth(page, turned + 7)
    assert page.screenshot(path=tmp_path / "look.png", full_page=True)


def wait_for_azimuth(page, degrees: int) -> None:
    said = re.compile(rf"azimuth ({degrees - 1}|{degrees}|{degrees + 1})° · elevation 30°")
    page.locator(".pocket-timing", has_text=said).first.wait_for()


def test_a_person_fits_the_example_and_saves_it(address, open_page, tmp_path, monkeypatch):
    from pocket_diffusers.spaces.lightspeed import app

    monkeypatch.setattr(app, "SIDE", 32)
    page = open_page(address, width=390, dark=True)
    page.get_by_role("tab", name="Fit your own").click()
    page.get_by_label("number input for Steps").fill(str(STEPS))
    page.get_by_role("button", name="Take an example").click()
    page.get_by_text("21 views learned from").wait_for()
    page.get_by_text("right 0 · up 0").wait_for()
    page.get_by_label("number input for Right").fill("0.5")
    page.get_by_label("number input for Right").press("Enter")
    page.get_by_text("right 0.5 · up 0").wait_for()
    with page.expect_download() as download:
        page.locator(".pocket-files a").filter(visible=True).first.click()
    download.value.save_as(tmp_path / "field.zip")
    assert "light-field/model_index.json" in zipfile.ZipFile(tmp_path / "field.zip").namelist()
    page.wait_for_function("document.documentElement.scrollWidth <= 390")
    assert page.screenshot(path=tmp_path / "fit.png", full_page=True)
