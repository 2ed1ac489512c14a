"""What every Space keeps, whatever its method: pinned files, named settings, sentences for bad input, pages that work.

A method adds a line to `ASKS`; what only its own page can do is tested in `tests/spaces/<slug>/`.
"""

import json
import re
from pathlib import Path
from urllib.parse import urlsplit
from zipfile import ZipFile

import pytest
import torch
from pages import site_of
from PIL import Image, ImageDraw

from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.splat_files import write_splats
from pocket_diffusers.pipelines import METHODS
from pocket_diffusers.pipelines.loading import load_pipeline
from pocket_diffusers.spaces.build_static import runs_networks, weights_of_page

gradio = pytest.importorskip("gradio", reason="Spaces need the extra 'demo'")

SPACES = Path(__file__).resolve().parents[2] / "spaces"
SCENE, DIGIT, SPLATS, VIEWS = "scene.png", "digit.png", "splats.ply", "views.zip"
GIVEN = (SCENE, DIGIT, SPLATS, VIEWS)

ASKS: dict[str, dict[str, dict]] = {
    "snapgen": {"/generate": {"prompt": "a red cube", "steps": 2, "num_images": 1}},
    "ascan": {
        "/detect": {"image": SCENE},
        "/read_digit": {"image": DIGIT},
        "/generate": {"color": "red", "shape": "cube", "steps": 2, "num_images": 1},
    },
    "lpgs": {"/compress": {"scene": SPLATS}, "/show": {"pictures": 1}},
    "bitsfusion": {"/generate": {"prompt": "a red cube", "steps": 2}, "/quantize": {"folder": "my-model"}},
    "controlmm": {"/generate": {"prompt": "a person walks forward", "length": 40, "steps": 2}},
    "lightspeed": {"/look": {}, "/walk": {}, "/fit": {"archive": VIEWS, "training_steps": 50}},
}
"""slug -> endpoint -> what a caller says at least, the names of files among it; other settings keep their defaults."""
ENDPOINTS = [(slug, endpoint) for slug, endpoints in ASKS.items() for endpoint in endpoints]
STATIC = [slug for slug in METHODS if (SPACES / slug / "static").is_dir()]
BOTH_SIZES = pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["desk", "dark-phone"])
DRAWING = [(slug, endpoint) for slug, endpoint in ENDPOINTS if "steps" in ASKS[slug][endpoint]]
"""Those that start from noise: their last answer is the seed."""


@pytest.fixture(scope="module")
def spaces():
    """`spaces(slug)` is the running Space of a method, `(gr.Blocks, address, client)`, built once."""
    from gradio_client import Client

    from pocket_diffusers.spaces.look import serve, space_app

    running = {}

    def space(slug: str):
        if slug not in running:
            demo = space_app(slug).build()
            address = serve(demo, wait=False)
            running[slug] = demo, address, Client(address, verbose=False, analytics_enabled=False)
        return running[slug]

    yield space
    for demo, _, _ in running.values():
        demo.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    scene, digit = Image.new("RGB", (64, 64), "grey"), Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(scene).rectangle((20, 20, 40, 40), "red")
    ImageDraw.Draw(digit).line((32, 10, 32, 54), "black", 5)
    scene.save(folder / SCENE)
    digit.save(folder / DIGIT)
    with ZipFile(folder / VIEWS, "w") as archive:
        for name in ("00_00", "00_01", "00_02", "01_00", "01_01", "01_02"):
            scene.resize((16, 16)).save(folder / f"{name}.png")
            archive.write(folder / f"{name}.png", f"{name}.png")
    ball = torch.nn.functional.normalize(torch.randn(200, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    rotations, opacities = torch.tensor([[1.0, 0, 0, 0]]).expand(200, 4), torch.full((200,), 2.0)
    write_splats(Gaussians(ball, torch.full((200, 3), -2.0), rotations, opacities, ball[:, None]), folder / SPLATS)
    return folder


def ask(client, files: Path, slug: str, endpoint: str, **changes):
    from gradio_client import handle_file

    given = {**ASKS[slug][endpoint], **changes}
    given = {key: handle_file(files / value) if value in GIVEN else value for key, value in given.items()}
    return client.predict(api_name=endpoint, **given)


def content_of(result):
    """Pixels of a gallery's first picture, or the numbers that a page plays."""
    return Image.open(result[0]["image"]).tobytes() if isinstance(result, list) else result


def settings_of(demo, endpoint: str) -> dict:
    """The components of an endpoint, by the names of its parameters."""
    names = [
        parameter["parameter_name"] for parameter in demo.get_api_info()["named_endpoints"][endpoint]["parameters"]
    ]
    (work,) = (work for work in demo.fns.values() if f"/{work.api_name}" == endpoint)
    return dict(zip(names, work.inputs, strict=True))


def test_every_method_has_a_space_here():
    assert ASKS.keys() == METHODS.keys()


@pytest.mark.parametrize("slug", METHODS)
def test_files_are_those_of_a_space(slug):
    front_matter = (SPACES / slug / "README.md").read_text(encoding="utf-8").split("---\n")[1]
    for line in ("sdk: gradio", "app_file: app.py", "license: apache-2.0"):
        assert line in front_matter
    pinned = re.search(r"sdk_version: (\S+)", front_matter).group(1)
    assert f"gradio=={pinned}\n" in (SPACES.parent / "constraints.txt").read_text(encoding="utf-8")
    assert len(re.search(r"short_description: (.*)", front_matter).group(1)) <= 60, "the Hub cuts it"
    lines = (SPACES / slug / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("pocket-diffusers")] == ["pocket-diffusers[demo] @ WHEEL"]


@pytest.mark.parametrize("slug", METHODS)
def test_the_api_names_its_endpoints_and_nothing_else(spaces, slug):
    demo, _, _ = spaces(slug)
    endpoints = demo.get_api_info()["named_endpoints"]
    assert endpoints.keys() == ASKS[slug].keys()
    for endpoint, given in ASKS[slug].items():
        names = {parameter["parameter_name"] for parameter in endpoints[endpoint]["parameters"]}
        assert given.keys() <= names and not [name for name in names if re.match(r"param_\d", name)]


@pytest.mark.parametrize(("slug", "endpoint"), ENDPOINTS)
def test_an_endpoint_answers(spaces, files, slug, endpoint):
    demo, _, client = spaces(slug)
    (work,) = (work for work in demo.fns.values() if f"/{work.api_name}" == endpoint)
    answer = ask(client, files, slug, endpoint)
    told = [output for output in work.outputs if not isinstance(output, gradio.State)]
    assert len(answer) == len(told) and None not in answer


@pytest.mark.parametrize(("slug", "endpoint"), ENDPOINTS)
def test_settings_out_of_range_get_one_sentence(spaces, files, slug, endpoint):
    from gradio_client.exceptions import AppError

    demo, _, client = spaces(slug)
    sliders = {name: one for name, one in settings_of(demo, endpoint).items() if isinstance(one, gradio.Slider)}
    for name, slider in sliders.items():
        for value in (slider.minimum - slider.step, slider.maximum + slider.step, 1e9):
            with pytest.raises(AppError) as error:
                ask(client, files, slug, endpoint, **{name: value})
            said = f"{slider.label} must be from {slider.minimum:g} to {slider.maximum:g}, not {value:g}."
            assert said in str(error.value)


@pytest.mark.parametrize(("slug", "endpoint"), DRAWING)
def test_a_seed_is_kept_and_a_bad_one_gets_one_sentence(spaces, files, slug, endpoint):
    from gradio_client.exceptions import AppError

    _, _, client = spaces(slug)
    first = ask(client, files, slug, endpoint, new_seed=True)
    other = ask(client, files, slug, endpoint, new_seed=True)
    assert first[-1] != other[-1]
    again = ask(client, files, slug, endpoint, seed=first[-1], new_seed=False)
    shown = [content_of(answer[0]) for answer in (first, again, other)]
    assert shown[0] == shown[1] != shown[2]
    for seed, said in ((-1, "-1"), (2**31, "2147483648"), (None, "nothing")):
        with pytest.raises(AppError) as error:
            ask(client, files, slug, endpoint, seed=seed, new_seed=False)
        assert f"Seed must be a whole number from 0 to 2147483647, not {said}." in str(error.value)


@BOTH_SIZES
@pytest.mark.parametrize("slug", METHODS)
def test_a_click_on_the_page_makes_a_result_and_it_fits_names_itself_and_asks_no_other_host(
    spaces, open_page, tmp_path, slug, width, dark
):
    _, address, _ = spaces(slug)
    page = open_page(address, width=width, dark=dark)
    title = re.search(r"^title: (.*)$", (SPACES / slug / "README.md").read_text(encoding="utf-8"), re.MULTILINE).group(
        1
    )
    heading = page.locator(".pocket-header h1")
    heading.wait_for()
    assert heading.inner_text() in title
    button = page.locator("button.primary").filter(visible=True).first
    button.wait_for()
    page.wait_for_function(f"document.documentElement.scrollWidth <= {width}")  # or it scrolls sideways
    tabs = page.get_by_role("tab").filter(visible=True).all()
    assert (len(tabs) > 1) == (len(ASKS[slug]) > 1)
    for tab in tabs:
        tab.click()
        page.wait_for_function("tab => tab.getAttribute('aria-selected') == 'true'", arg=tab.element_handle())
        button.wait_for()
        page.wait_for_function(f"document.documentElement.scrollWidth <= {width}")
    if tabs:
        tabs[0].click()
    page.locator(".pocket-examples .thumbnail-item, .gallery-item").filter(visible=True).first.click()
    page.get_by_text(re.compile(r"^\d+ \w+ in [\d.]+ m?s")).first.wait_for()
    page.wait_for_function(f"document.documentElement.scrollWidth <= {width}")
    assert page.screenshot(path=tmp_path / "page.png", full_page=True)


@pytest.mark.parametrize("slug", STATIC)
def test_a_static_page_is_a_static_space_that_names_no_other_host(slug, tmp_path_factory):
    site = site_of(slug, tmp_path_factory)
    assert "sdk: static\n" in (site / "README.md").read_text()
    for file in [*site.glob("*.js"), *site.glob("*.css")]:
        assert "//" not in "".join(line.partition("// ")[0] for line in file.read_text().splitlines()), file.name
    html = (site / "index.html").read_text()
    assert "default-src 'none'" in html and "http" not in html.replace("http-equiv", "")
    assert json.loads((site / "run.json").read_text())["inputs"]["method"] == slug


@pytest.mark.parametrize("slug", [slug for slug in STATIC if runs_networks(slug)])
def test_a_static_page_that_runs_networks_brings_them_and_the_runtime(slug, tmp_path_factory):
    site = site_of(slug, tmp_path_factory)
    assert "MIT License" in (site / "ort" / "LICENSE").read_text()
    promised = json.loads((site / "model" / "contract.json").read_text())["components"]
    assert {path.stem for path in (site / "model").glob("*.onnx")} == {component["name"] for component in promised}


@pytest.mark.parametrize("slug", [slug for slug in STATIC if not runs_networks(slug)])
def test_a_static_page_that_shows_a_scene_brings_that_of_its_weights_alone(slug, tmp_path_factory):
    site = site_of(slug, tmp_path_factory)
    assert [path.name for path in site.iterdir() if path.is_dir()] == []
    expected = load_pipeline(slug, weights_of_page(slug), on_cpu=True)
    assert (site / f"scene.{slug}").read_bytes() == expected.container()


def ask_static(page) -> None:
    """A click on the first example, or a stroke down the board of a page that one draws on."""
    examples, board = page.locator(".examples button"), page.locator("canvas.board")
    if examples.count():
        return examples.first.click()
    frame = board.bounding_box()
    middle = frame["x"] + frame["width"] / 2
    page.mouse.move(middle, frame["y"] + 0.15 * frame["height"])
    page.mouse.down()
    page.mouse.move(middle, frame["y"] + 0.85 * frame["height"], steps=10)
    page.mouse.up()


@BOTH_SIZES
@pytest.mark.parametrize("slug", STATIC)
def test_a_gesture_on_the_static_page_makes_a_result_in_the_browser(
    slug, tmp_path_factory, serve_folder, open_page, tmp_path, width, dark
):
    site = site_of(slug, tmp_path_factory)
    page = open_page(serve_folder(site), width=width, dark=dark)
    page.get_by_text("Ready").wait_for()
    ask_static(page)
    page.get_by_text(re.compile(r"^1 \w+ in [\d.]+ s, in this browser")).wait_for()
    page.wait_for_function(f"document.documentElement.scrollWidth <= {width}")
    assert page.screenshot(path=tmp_path / "static.png", full_page=True)
    asked = {Path(urlsplit(url).path).name for url in open_page.asked}
    assert {path.name for path in [*site.glob("*.js"), *site.glob("*.css")]} <= asked, "it ships what it never loads"
