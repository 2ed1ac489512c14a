"""The Space of AsCAN as programs and people use it."""

from types import SimpleNamespace

import numpy as np
import pytest
import tiny_ascan
import torch
from PIL import Image, ImageDraw

from pocket_diffusers.pipelines.loading import load_pipeline
from pocket_diffusers.pipelines.outputs import Detections
from pocket_diffusers.training.datasets.pocketworld.records import pictures

gradio = pytest.importorskip("gradio", reason="Spaces need the extra 'demo'")


@pytest.fixture(scope="module")
def address():
    from pocket_diffusers.spaces.look import serve, space_app

    demo = space_app("ascan").build()
    yield serve(demo, wait=False)
    demo.close()


@pytest.fixture(scope="module")
def client(address):
    from gradio_client import Client

    return Client(address, verbose=False, analytics_enabled=False)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A file of a picture with known objects, and what it shows."""
    (picture,) = pictures("test", 256, [9])
    path = tmp_path_factory.mktemp("scene") / "scene.png"
    Image.fromarray(picture.rgb).save(path)
    return path, picture


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """A drawn four."""
    drawing = Image.new("RGB", (300, 300), "white")
    lines = ImageDraw.Draw(drawing)
    lines.line([(150, 40), (80, 170), (220, 170)], "black", 16, joint="curve")
    lines.line([(185, 110), (185, 270)], "black", 16)
    path = tmp_path_factory.mktemp("digit") / "four.png"
    drawing.save(path)
    return path


def ask(client, endpoint: str, *given, **settings):
    from gradio_client import handle_file

    files = [handle_file(value) if hasattr(value, "suffix") else value for value in given]
    return client.predict(*files, api_name=endpoint, **settings)


def draw(client, color: str = "red", shape: str = "cube", **settings):
    return ask(
        client, "/generate", color, shape, **{"steps": 2, "num_images": 1, "seed": 7, "new_seed": False, **settings}
    )


def test_detections_are_those_of_the_pipeline(client, scene):
    path, _ = scene
    overlay, table, record = ask(client, "/detect", path, threshold=0.4)
    (expected,) = load_pipeline("ascan", "ascan-nano-judge")(str(path), threshold=0.4).detections
    assert Detections.from_dict(record) == expected
    assert f"**{len(expected)} object" in table and "threshold 0.4 · 256 × 256 pixels" in table
    shown = np.asarray(Image.open(overlay).convert("RGB"), int)
    plain = np.asarray(Image.open(path).convert("RGB").resize(shown.shape[1::-1], Image.Resampling.BICUBIC), int)
    assert shown.shape == (512, 512, 3) and (np.abs(shown - plain).max(2) > 30).mean() > 0.01


def test_objects_of_a_scene_are_found(client, scene):
    path, picture = scene
    _, table, record = ask(client, "/detect", path)
    assert sorted(zip(record["colors"], record["labels"], strict=True)) == sorted(
        (entry.color, entry.shape) for entry in picture.scene.objects
    )
    assert all(f"| {entry.color} {entry.shape} |" in table for entry in picture.scene.objects)


def test_a_drawn_digit_is_read(client, four):
    label, seen, line = ask(client, "/read_digit", four)
    assert label["label"] == "4"
    scores = [entry["confidence"] for entry in label["confidences"]]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True) and sum(scores) <= 1.0001
    assert line.startswith("**1 digit** in **")
    cells = np.asarray(Image.open(seen).convert("L"))[17::35, 17::35]
    assert cells.shape == (8, 8) and cells[5].max() > 128 and cells[0, 0] == 0


def test_pictures_are_those_of_the_pipeline(client):
    gallery, timing, files, seed = draw(client, "blue", "torus", num_images=2, steps=3, guidance=5)
    generators = [torch.Generator().manual_seed(number) for number in (7, 8)]
    pipeline = load_pipeline("ascan")
    expected = pipeline("blue torus", 5.0, generators, num_inference_steps=3, num_images_per_class=2).images
    for made in ([Image.open(entry["image"]) for entry in gallery], [Image.open(path) for path in files]):
        assert [np.asarray(image).tolist() for image in made] == [np.asarray(image).tolist() for image in expected]
    assert seed == 7 and [entry["caption"] for entry in gallery] == ["seed 7", "seed 8"]
    assert timing.startswith("**2 pictures** in **") and "blue torus · 3 steps · guidance 5" in timing
    kept = Image.open(files[1]).text
    assert kept == {"class": "blue torus", "steps": "3", "guidance": "5", "seed": "8"}


def test_a_generator_of_other_classes_is_asked_for_one(tmp_path):
    from gradio_client import Client

    from pocket_diffusers.spaces.look import serve, space_app

    tiny_ascan.make_generator().save_pretrained(tmp_path / "mine")
    demo = space_app("ascan").build(str(tmp_path / "mine"))
    try:
        client = Client(serve(demo, wait=False), verbose=False, analytics_enabled=False)
        gallery, timing, _, seed = client.predict(
            "blue cone", steps=2, num_images=2, seed=3, new_seed=False, api_name="/generate"
        )
    finally:
        demo.close()
    assert [entry["caption"] for entry in gallery] == ["seed 3", "seed 4"] and seed == 3
    assert "blue cone · 2 steps" in timing


def test_a_generator_without_classes_is_refused():
    from pocket_diffusers.spaces.ascan.app import color_shape_names, generate_desk

    with pytest.raises(ValueError, match="this page draws classes, but the model has none"):
        generate_desk(SimpleNamespace(labels={}))
    assert color_shape_names(["red cube", "blue cube"]) == (["red", "blue"], ["cube"])
    assert color_shape_names(["red cube", "blue cone"]) is None and color_shape_names(["tench"]) is None


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    Image.effect_noise((64, 64), 50).save(folder / "noise.png")
    (folder / "cut.png").write_bytes((folder / "noise.png").read_bytes()[:600])
    (folder / "words.png").write_text("no picture")
    (folder / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    Image.new("1", (10_000, 9_000)).save(folder / "bomb.png")
    Image.new("1", (20_000, 10_000)).save(folder / "larger-bomb.png")
    Image.new("RGB", (40, 40), "pink").save(folder / "blank.png")
    return folder


@pytest.mark.parametrize(
    ("endpoint", "name", "sentence"),
    [
        ("/detect", "words.png", "Image is no picture that can be read: use a PNG, JPEG, WebP or GIF file."),
        ("/detect", "drawing.svg", "Image is no picture that can be read"),
        ("/detect", "cut.png", "Image is damaged: "),
        ("/detect", "bomb.png", "Image has more than 89,478,485 pixels: make it smaller first."),
        ("/detect", "larger-bomb.png", "Image has more than 89,478,485 pixels: make it smaller first."),
        ("/read_digit", "words.png", "Image is no picture that can be read"),
        ("/read_digit", "blank.png", "There is no digit to be seen: all of the picture has one shade."),
        ("/detect", None, "There is no picture: draw something, upload a picture or choose an example."),
        ("/read_digit", None, "The board is empty: draw a digit or upload a picture of one."),
    ],
)
def test_bad_pictures_get_one_sentence(client, bad_files, endpoint, name, sentence):
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError) as error:
        ask(client, endpoint, None if name is None else bad_files / name)
    assert sentence in str(error.value) and "/tmp" not in str(error.value)


@pytest.mark.parametrize("settings", [{"color": "mauve"}, {"shape": "cub"}])
def test_classes_that_are_not_there_get_one_sentence(client, settings):
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError, match=r"(mauve|cub) is not in the list of choices"):
        draw(client, **settings)


def test_large_uploads_are_reduced(client, scene, tmp_path):
    Image.open(scene[0]).resize((3000, 1500)).save(tmp_path / "wide.jpg")
    _, table, _ = ask(client, "/detect", tmp_path / "wide.jpg")
    assert "1024 × 512 pixels" in table


# In a browser


def draw_line(page, board, *corners: tuple[float, float]) -> None:
    """Drags the mouse over the canvas, from corner to corner in parts of its sides."""
    canvas = board.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    frame = canvas.bounding_box()
    places = [(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=12)
    page.mouse.up()


def test_a_person_finds_objects(address, open_page):
    page = open_page(address)
    page.locator(".pocket-examples .thumbnail-item").nth(1).click()
    page.get_by_text("objects in").or_(page.get_by_text("object in")).first.wait_for()
    page.wait_for_timeout(1000)
    page.get_by_role("button", name="Find objects").click()  # the example now lies on the board
    page.get_by_text("256 × 256 pixels").first.wait_for()


def test_a_person_uploads_a_picture(address, open_page, scene):
    page = open_page(address)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload a picture").click()
    chooser.value.set_files(scene[0])
    page.get_by_text("256 × 256 pixels").first.wait_for()


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["desk", "dark-phone"])
def test_a_person_draws_a_digit(address, open_page, tmp_path, width, dark):
    page = open_page(address, width=width, dark=dark)
    page.get_by_role("tab", name="Digits").click()
    page.get_by_role("button", name="Read", exact=True).click()
    page.get_by_text("There is no digit to be seen: all of the picture has one shade.").first.wait_for()
    board = page.locator(".pocket-board").filter(visible=True)
    draw_line(page, board, (0.5, 0.25), (0.5, 0.75))  # a stroke that starts beside the white board draws nothing
    page.get_by_role("button", name="Read", exact=True).click()
    page.get_by_text("1 digit in").wait_for()
    page.wait_for_timeout(500)
    assert page.screenshot(path=tmp_path / "digits.png", full_page=True)
    assert page.locator("[data-testid='label-output-value'], .output-class").first.inner_text().strip() == "1"


def test_a_person_draws_by_class(address, open_page, tmp_path):
    page = open_page(address)
    page.get_by_role("tab", name="Generate").click()
    page.get_by_role("button", name="Draw", exact=True).click()
    page.get_by_text("4 pictures").wait_for()
    shown = page.locator(".pocket-pictures .thumbnail-item img")
    assert shown.count() == 4
    assert shown.first.evaluate("image => image.complete && image.naturalWidth") == 64
    with page.expect_download() as download:
        page.locator(".pocket-files a").first.click()
    saved = tmp_path / "saved.png"
    download.value.save_as(saved)
    assert Image.open(saved).size == (64, 64)
    assert page.screenshot(path=tmp_path / "generate.png", full_page=True)
