"""The page that draws wholly in the browser: its parts against torch and tokenizers, and the whole against Python."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pages import site_of
from PIL import Image

from pocket_diffusers import checkpoint
from pocket_diffusers.pipelines.loading import load_pipeline
from pocket_diffusers.spaces.build_static import SHARED, build_static, copy_pages

BLANK = "<!doctype html><title>blank</title>"


@pytest.fixture(scope="module")
def scripts(tmp_path_factory, serve_folder) -> str:
    """The shared scripts alone, on a page that forbids nothing."""
    folder = tmp_path_factory.mktemp("scripts")
    for name in ("random.js", "tokenizer.js", "flow_match_euler.js", "pixels.js", "saved_file.js"):
        shutil.copyfile(SHARED / name, folder / name)
    shutil.copyfile(checkpoint("snapgen-nano") / "tokenizer" / "tokenizer.json", folder / "tokenizer.json")
    (folder / "index.html").write_text(BLANK)
    return serve_folder(folder)


def test_noise_is_torch_s(scripts, open_page):
    asked = [[seed, count] for seed in (0, 7, 2**31 - 1, 2**32 + 5) for count in (16, 17, 1000, 1024)]
    code = """async (asked) => {
        const { randn } = await import('/random.js');
        return asked.map(([seed, count]) => Array.from(randn(seed, count)));
    }"""
    for (seed, count), drawn in zip(asked, open_page(scripts).evaluate(code, asked), strict=True):
        expected = torch.randn(count, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(torch.tensor(drawn), expected, rtol=1e-5, atol=2e-6)


def test_tokens_are_those_of_the_tokenizers_package(scripts, open_page):
    from tokenizers import Tokenizer

    texts = [
        "a red cube", "", "  two  yellow\tspheres \n", "A Photo of a BLUE Sphere!", "it's 12 o'clock, we'll see",
        "naïve café Ω ΟΔΟΣ ß İstanbul", "ﬁne ① ½ ｗｉｄｅ", "立方体 🧊🔴 e\u0301", "<|endoftext|>a<pad> b", "x" * 90,
        "a red cube left of a blue sphere and a green cone behind a white torus on a purple cylinder" * 2,
        "tab\u00a0nbsp\u2003em\u0085nel\ufeffbom", "\x00\x07 control", "don't 'S 'Re",
    ]  # fmt: skip
    code = """async ([texts, length]) => {
        const { ByteLevelTokenizer } = await import('/tokenizer.js');
        const tokenizer = new ByteLevelTokenizer(await (await fetch('/tokenizer.json')).json());
        return texts.map((text) => tokenizer.encode(text, length));
    }"""
    found = open_page(scripts).evaluate(code, [texts, 24])
    tokenizer = Tokenizer.from_file(str(checkpoint("snapgen-nano") / "tokenizer" / "tokenizer.json"))
    tokenizer.enable_truncation(24)
    tokenizer.enable_padding(length=24, pad_id=0, pad_token="<pad>")
    for text, ours, theirs in zip(texts, found, tokenizer.encode_batch(texts), strict=True):
        assert ours == {"ids": theirs.ids, "mask": theirs.attention_mask}, repr(text)


def test_schedule_is_diffusers(scripts, open_page):
    from diffusers import FlowMatchEulerDiscreteScheduler

    mu = 0.5 + (1.15 - 0.5) * (16 - 256) / (4096 - 256)
    variants = [{}, {"shift": 3.0}, {"use_dynamic_shifting": True}]
    schedulers = [FlowMatchEulerDiscreteScheduler(**options) for options in variants for _ in range(3)]
    asked = [[dict(scheduler.config), steps] for scheduler, steps in zip(schedulers, [1, 2, 28] * 3, strict=True)]
    code = """async (asked) => {
        const { FlowMatchEuler } = await import('/flow_match_euler.js');
        return asked.map(([config, steps]) => {
            const { sigmas, timesteps } = new FlowMatchEuler(config, steps, 16);
            return [Array.from(sigmas), Array.from(timesteps)];
        });
    }"""
    found = open_page(scripts).evaluate(code, asked)
    for scheduler, (config, steps), (sigmas, timesteps) in zip(schedulers, asked, found, strict=True):
        scheduler.set_timesteps(steps, **({"mu": mu} if config["use_dynamic_shifting"] else {}))
        np.testing.assert_allclose(sigmas, scheduler.sigmas, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(timesteps, scheduler.timesteps, rtol=1e-6, atol=1e-3)


def test_a_schedule_that_is_not_known_is_refused(scripts, open_page):
    code = """async () => {
        const { FlowMatchEuler } = await import('/flow_match_euler.js');
        try { new FlowMatchEuler({ use_karras_sigmas: true }, 2, 16); } catch (error) { return error.message; }
    }"""
    assert "use_karras_sigmas" in open_page(scripts).evaluate(code)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return site_of("snapgen", tmp_path_factory)


@pytest.fixture(scope="module")
def site_address(site, serve_folder) -> str:
    return serve_folder(site)


def test_the_browser_draws_what_python_draws(site_address, open_page, tmp_path):
    page = open_page(site_address)
    page.locator("#draw:enabled").wait_for()
    page.locator("summary").click()
    page.get_by_label("New seed each time").uncheck()
    page.get_by_label("Negative prompt").fill("a blue sphere")
    for label, value in {"Steps": 6, "Guidance": 5, "Seed": 11}.items():
        page.get_by_label(label, exact=False).first.fill(str(value))
    page.get_by_label("Prompt", exact=True).fill("a red cube")
    page.get_by_role("button", name="Draw", exact=True).click()
    page.get_by_text("1 picture in").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    assert download.value.suggested_filename == "a-red-cube-seed-11.png"
    download.value.save_as(tmp_path / "browser.png")
    drawn = np.asarray(Image.open(tmp_path / "browser.png").convert("RGB"), dtype=int)
    generator = torch.Generator().manual_seed(11)
    pipeline = load_pipeline("snapgen")
    options = {"num_inference_steps": 6, "guidance_scale": 5.0, "generator": generator}
    expected = np.asarray(pipeline("a red cube", "a blue sphere", **options).images[0], dtype=int)
    assert abs(drawn - expected).max() <= 2


def test_bad_input_on_the_page_and_a_picture_after_it(site_address, open_page):
    page = open_page(site_address)
    page.locator("#draw:enabled").wait_for()
    page.get_by_role("button", name="Draw", exact=True).click()
    page.get_by_text("The prompt is empty: describe the picture in words.").wait_for()
    page.locator("summary").click()
    page.get_by_label("Steps").fill("0")
    page.get_by_role("button", name="a green cone").click()
    page.get_by_text("Steps must be a whole number from 1 to 100, not 0.").wait_for()
    page.get_by_label("Steps").fill("1")
    page.get_by_role("button", name="a green cone").click()
    page.get_by_text("1 picture in").wait_for()


def test_a_model_that_is_not_there_is_said(site, tmp_path, serve_folder, open_page):
    shutil.copytree(site, tmp_path / "site", ignore=shutil.ignore_patterns("unet.onnx"))
    page = open_page(serve_folder(tmp_path / "site"))
    page.get_by_text("The model could not be loaded").wait_for()
    assert "unet.onnx cannot be fetched: status 404" in page.inner_text("#words")


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"slug": "snapgn"}, ValueError, "static page 'snapgn' is unknown: use one of .*nearest: 'snapgen'"),
        ({"slug": "snapgen", "model": "a", "bundle": "b"}, ValueError, "pass one of them, not both"),
        ({"slug": "lpgs", "bundle": "b"}, ValueError, "bundle must be None, not 'b': the page of lpgs runs no"),
    ],
)
def test_bad_arguments(tmp_path, arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        build_static(output=tmp_path / "site", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_without_npm_and_with_a_folder_that_is_no_bundle(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileNotFoundError, match="is no ONNX export"):
        build_static("snapgen", tmp_path / "site", bundle=tmp_path / "folder")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="npm is missing"):
        build_static("snapgen", tmp_path / "site")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_page_ships_the_shared_scripts_that_it_reaches_and_no_other(tmp_path):
    """What a page of pictures needs not, one of splats does, and the other way round."""
    shared = {"background.js", "style.css"}
    networks, splats = {"networks.js"}, {"splat_viewer.js", "depth_order_worker.js", "octree_decoder.js", "linear.js"}
    pictures = {"text_to_image.js", "drawing_desk.js", "tokenizer.js", "random.js", "pixels.js"}
    motions = {"tokenizer.js", "random.js", "masked_decoding.js", "motion_stage.js", "floor_board.js", "bvh_file.js"}
    fields = {"pixels.js", "look_around.js", "view_ranges.js", "view_clusters.js"}
    flow, packed = {"flow_match_euler.js"}, {"ddim.js", "packed_weights.js", "radix_unpacking.js"}
    pages = {
        "snapgen": networks | pictures | flow,
        "ascan": networks,
        "lpgs": splats,
        "bitsfusion": networks | pictures | packed,
        "controlmm": networks | motions,
        "lightspeed": networks | fields,
    }
    for slug, needed in pages.items():
        copy_pages(slug, tmp_path / slug)
        files = {path.name for path in (tmp_path / slug).iterdir()}
        assert shared | needed <= files and not files & (set().union(*pages.values()) - needed), slug
        for script in (tmp_path / slug).glob("*.js"):
            imported = re.findall(r'from "\./([^"/]+)"', script.read_text())
            assert set(imported) <= files, script.name


def test_lock_file_names_no_registry_and_one_exact_version():
    lock = (SHARED / "package-lock.json").read_text()
    assert "http" not in lock and "resolved" not in lock
    wanted = json.loads((SHARED / "package.json").read_text())["dependencies"]["onnxruntime-web"]
    assert json.loads(lock)["packages"]["node_modules/onnxruntime-web"]["version"] == wanted
