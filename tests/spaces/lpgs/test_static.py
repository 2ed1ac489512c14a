"""The page that unpacks scenes wholly in the browser: its scripts against Python, and its picture against ours."""

import io
import os
import shutil
import time
from base64 import b64decode, b64encode
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from damaged_files import damaged
from pages import PATIENCE, site_of
from PIL import Image
from tiny_lpgs import MODELS, make_scene

from pocket_diffusers import checkpoint
from pocket_diffusers.hub_models import container_lpgs
from pocket_diffusers.hub_models.container_lpgs import (
    LPGSSteps,
    decode_scene,
    encode_scene,
    storage_report,
    stored_circle,
)
from pocket_diffusers.hub_models.rendering.entropy_coding import encode
from pocket_diffusers.hub_models.rendering.gaussian_rasterizer import rasterize_gaussians
from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.splat_codec import decode_splats, encode_splats
from pocket_diffusers.pipelines.scene_cameras import Circle, circle_of
from pocket_diffusers.spaces.build_static import SHARED, SPACES

HOSTILE_CASES = int(os.environ.get("POCKET_HOSTILE_CASES", "1000")) // 5
LEAST_PSNR = 40.0
STEPS = LPGSSteps(0.001, 0.1, 0.02)
LAYOUTS = MODELS["gaussians"].layouts | {
    "hashed levels": {"hash_max_resolution": 300, "hash_levels": 4, "hash_log2_size": 6},
    "three levels of uneven growth": {"grid_dim": 6, "hash_levels": 3, "hash_max_resolution": 23},
    "many frequencies": {"encoding": "frequency", "hash_max_resolution": 300, "grid_dim": 8},
    "parents alone": {"children_per_parent": 0},
    "parents without attention": {"children_per_parent": 0, "attention": False, "mlp_distance": False},
    "no harmonics": {"sh_degree": 0, "mlp_position": False},
    "all harmonics": {"sh_degree": 3, "mlp_distance": False},
    "one parent": {"num_parents": 1},
    "more than a batch": {"num_parents": 1100},
    "far from the box": {"radius": 0.2, "center": (0.1, -0.2, 0.3)},
    "beside the box": {"radius": 0.2, "center": (0.1, -0.2, 0.3), "contraction": "box"},
}
DECODE = """async (texts) => {
    const { decodeScene } = await import("/lpgs_decoder.js");
    const base64 = (array) => new Promise((resolve) => {
        const reader = new FileReader();
        reader.onload = () => resolve(reader.result.split(",")[1]);
        reader.readAsDataURL(new Blob([array]));
    });
    const results = [];
    for (const text of texts) {
        const data = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
        try {
            const { means, logScales, quaternions, opacityLogits, sh, degree } = await decodeScene(data);
            const values = [means, logScales, quaternions, opacityLogits, sh];
            results.push({ degree, values: await Promise.all(values.map(base64)) });
        } catch (error) {
            results.push(error.message);
        }
    }
    return results;
}"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory, serve_folder) -> str:
    """The scripts alone, on a page that forbids nothing."""
    folder = tmp_path_factory.mktemp("scripts")
    for script in [*SHARED.glob("*.js"), *(SPACES / "lpgs" / "static").glob("*.js")]:
        shutil.copyfile(script, folder / script.name)
    (folder / "index.html").write_text("<!doctype html><title>blank</title>")
    return serve_folder(folder)


def read(page, files: list[bytes]) -> list[Gaussians | str]:
    """What the browser unpacks, or the sentence that it says."""
    return [
        said if isinstance(said, str) else splats_of(**said)
        for said in page.evaluate(DECODE, [b64encode(data).decode() for data in files])
    ]


def splats_of(degree: int, values: list[str]) -> Gaussians:
    means, log_scales, quaternions, opacity_logits, sh = (
        torch.from_numpy(np.frombuffer(b64decode(text), "<f4").copy()) for text in values
    )
    harmonics = sh.view(-1, (degree + 1) ** 2, 3)
    return Gaussians(means.view(-1, 3), log_scales.view(-1, 3), quaternions.view(-1, 4), opacity_logits, harmonics)


@torch.no_grad()
def unpacked(data: bytes) -> Gaussians:
    return decode_scene(data).expand()


def test_the_browser_unpacks_what_python_unpacks(scripts, open_page):
    files = [encode_scene(make_scene(**layout), STEPS) for layout in LAYOUTS.values()]
    for name, data, found in zip(LAYOUTS, files, read(open_page(scripts), files), strict=True):
        assert isinstance(found, Gaussians), (name, found)
        for field, expected in unpacked(data).tensors().items():
            torch.testing.assert_close(
                getattr(found, field), expected, rtol=1e-4, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
            )


def test_halves_are_numpy_s(scripts, open_page):
    halves = np.arange(1 << 16, dtype="<u2").view("<f2")
    code = """async () => {
        const { halvesToFloats } = await import("/half_precision.js");
        const bytes = new Uint8Array(new Uint16Array(1 << 16).map((_, i) => i).buffer);
        return Array.from(halvesToFloats(bytes), (value) => Number.isFinite(value) ? value : String(value));
    }"""
    found = np.array([float(value) for value in open_page(scripts).evaluate(code)])
    np.testing.assert_array_equal(found, halves.astype(float))


def test_a_file_with_random_damage_is_unpacked_or_refused_as_python_does(scripts, open_page):
    whole = encode_scene(make_scene(num_parents=20), STEPS)
    draw = np.random.default_rng(0)
    files = [damaged(whole, draw) for _ in range(HOSTILE_CASES)]
    unpacked_too = 0
    for data, found in zip(files, read(open_page(scripts), files), strict=True):
        try:
            expected = unpacked(data)
        except ValueError:
            assert isinstance(found, str) and " must " in found and found.endswith("."), found
            continue
        unpacked_too += 1
        assert isinstance(found, Gaussians), found
        for field, values in expected.tensors().items():
            scale = float(values.nan_to_num(0, 0, 0).abs().max())
            torch.testing.assert_close(
                getattr(found, field), values, rtol=1e-4, atol=1e-4 * (1 + scale), equal_nan=True
            )
    assert 0 < unpacked_too < HOSTILE_CASES / 2


def changed(data: bytes, old: str, new: str) -> bytes:
    """The file with other words in its metadata."""
    size = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + size].decode()
    assert old in header
    other = header.replace(old, new).encode()
    return len(other).to_bytes(8, "little") + other + data[8 + size :]


def test_claims_are_checked_before_they_are_believed(scripts, open_page):
    whole = encode_scene(make_scene(), STEPS)
    sentences = {
        ('num_parents\\": 120', 'num_parents\\": 121'): "num_parents of an LPGS file must be what its streams hold",
        ('head_width\\": 8', 'head_width\\": 1024'): "numbers of the networks of an LPGS file must be what",
        ('hash_log2_size\\": 8', 'hash_log2_size\\": 2'): "numbers of the grid of an LPGS file must be what",
        ('head_width\\": 8', 'head_width\\": 1e9'): "head_width of an LPGS file must be a whole number from 1 to 1024",
        ('sh_degree\\": 1', 'sh_degree\\": 1.5'): "sh_degree of an LPGS file must be a whole number from 0 to 3, not 1",
        ('grid_dim\\": 4', 'grid_dim\\": 5'): "grid_dim of an LPGS file must be a multiple of hash_levels=2, not 5.",
        ('resolution\\": 4', 'resolution\\": 1'): "hash_max_resolution of an LPGS file must be at least hash_base_reso",
        ('radius\\": 2.0', 'radius\\": 0.0'): "radius of an LPGS file must be a number above 0, at most 1000000000",
        ("[0.0, 0.0, 0.0]", "[0.0, 0.0]"): "center of an LPGS file must be three numbers",
        ('\\"hash\\"', '\\"hush\\"'): "encoding of an LPGS file must be hash or frequency, not",
        ('attention\\": true', 'attention\\": 1'): "attention of an LPGS file must be true or false, not 1.",
        ('\\"sh_degree', '\\"my_degree'): "An LPGS file must say of its model num_parents, ",
        ('\\"version\\": 1', '\\"version\\": 9'): "An LPGS file must be of version 1, not 9.",
        ('grid_step\\": 0.02', 'grid_step\\": -0.2'): "grid_step must be a number from 1e-9 to 1e9, not -0.2.",
        ('grid_step\\": 0.02', 'grod_step\\": 0.02'): "An LPGS file must say its position_step, scale_step, grid_step.",
        ('\\"version', '\\"\\"version'): "An LPGS file must be in the safetensors format with the metadata `lpgs`.",
        ('"networks":{"dtype":"F16"', '"networks":{"dtype":"I16"'): "networks of an LPGS file must be a row of F16",
        ('"grid":', '"grad":'): "An LPGS file must hold positions, scales, grid, networks, not",
    }  # fmt: skip
    files = [changed(whole, *words) for words in sentences]
    for data, sentence, found in zip(files, sentences.values(), read(open_page(scripts), files), strict=True):
        with pytest.raises(ValueError, match="must"):
            decode_scene(data)
        assert isinstance(found, str) and found.startswith(sentence) and found.endswith("."), (sentence, found)


def test_a_file_of_more_splats_than_a_browser_bears_is_refused_at_once(scripts, open_page, monkeypatch):
    """Four kilobytes of an entropy coder tell a million scales that are alike."""
    count, none = 1_000_001, np.zeros(3_000_003, np.int64)
    scales = bytes([3, 1, 1]) + bytes(12) + encode([(none, none)], num_contexts=9, alphabet=1)
    monkeypatch.setattr(container_lpgs, "encode_values", lambda *given: scales)
    whole = encode_scene(make_scene(num_parents=2), STEPS)
    data = changed(whole, 'num_parents\\": 2', f'num_parents\\": {count}')
    assert len(data) < 20_000
    (found,) = read(open_page(scripts), [data])
    assert found == "A scene in the browser must have at most 3000000 splats, not 3000003."


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return site_of("lpgs", tmp_path_factory)


def test_the_browser_draws_what_python_draws_and_tells_the_bytes(site, serve_folder, open_page):
    page = open_page(serve_folder(site))
    page.get_by_text("Ready").wait_for()
    page.locator(".examples button").click()
    page.get_by_text("in this browser ·").wait_for()
    data = (site / "scene.lpgs").read_bytes()
    gaussians, circle = unpacked(data), circle_of(stored_circle(data))
    assert f"{len(gaussians):,} splats · {len(data):,} bytes" in page.inner_text("#words")
    assert page.locator("#up").input_value() == circle.up == "y"
    check_picture(page, gaussians, circle)
    page.locator("#up").select_option("x")
    check_picture(page, gaussians, replace(circle, up="x"))
    rows = [row.split("\t") for row in page.locator("#storage tbody tr").all_inner_texts()]
    told = {name: int(size.replace(",", "")) for name, size, _ in rows}
    assert told == {**storage_report(data), "all": len(data)}


def check_picture(page, gaussians: Gaussians, circle: Circle) -> None:
    """The canvas must come to show what the rasteriser does, its round corners apart."""
    inner = np.s_[12:-12, 12:-12]
    drawn = picture(page)
    height, width, _ = drawn.shape
    view = circle.cameras(1, width, height)
    rgb = rasterize_gaussians(gaussians, view.viewmats, view.Ks, width, height, torch.zeros(3), form="torch").rgb[0]
    expected = rgb.clamp(0, 1).permute(1, 2, 0).numpy()
    assert expected[inner].mean() > 0.01, "there is something to see"
    deadline = time.monotonic() + PATIENCE / 1000
    while (psnr := -10 * np.log10(((drawn - expected)[inner] ** 2).mean())) < LEAST_PSNR:
        assert time.monotonic() < deadline, psnr
        drawn = picture(page)


def picture(page) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.locator("#splats").screenshot())).convert("RGB")) / 255


def test_files_of_one_s_own_and_what_is_said_of_bad_ones(site, serve_folder, open_page, tmp_path):
    page = open_page(serve_folder(site))
    page.get_by_text("Ready").wait_for()
    data = encode_scene(make_scene(num_parents=30), STEPS)
    splats = encode_splats(unpacked(data))
    empty = encode_splats(unpacked(data).select(slice(0, 0)))
    count = len(decode_splats(splats))
    for name, content, said in (
        ("mine.lpgs", data, f"{90} splats · {len(data):,} bytes"),
        ("mine.ply", data, "The file's name must end in .lpgs or .splatz, not mine.ply."),
        ("MINE.SPLATZ", splats, f"{count} splats · {len(splats):,} bytes"),
        ("cut.lpgs", data[:-1], "A safetensors file must hold its tensors one after another"),
        ("wrong.lpgs", splats, "An LPGS file must be in the safetensors format with the metadata `lpgs`."),
        ("none.splatz", empty, "The scene is empty: it holds no Gaussian."),
        ("nothing.lpgs", b"", "A safetensors file must hold at least 8 bytes, not 0."),
        ("again.lpgs", data, f"{90} splats · {len(data):,} bytes"),
    ):
        (tmp_path / name).write_bytes(content)
        page.get_by_label("Or a file of yours").set_input_files(tmp_path / name)
        page.locator("#words", has_text=said).wait_for()
    page.evaluate("""() => {
        const data = new DataTransfer();
        data.items.add(new File(["ply"], "dropped.lpgs"));
        document.dispatchEvent(new DragEvent("drop", { dataTransfer: data }));
    }""")
    page.get_by_text("A safetensors file must hold at least 8 bytes, not 3.").wait_for()


def test_a_scene_that_is_not_there_is_said(site, tmp_path, serve_folder, open_page):
    shutil.copytree(site, tmp_path / "site", ignore=shutil.ignore_patterns("scene.lpgs"))
    page = open_page(serve_folder(tmp_path / "site"))
    page.get_by_text("Ready").wait_for()
    page.locator(".examples button").click()
    page.get_by_text("scene.lpgs cannot be fetched: status 404.").wait_for()


def test_weights_of_the_page_come_with_the_package():
    assert (checkpoint("lpgs-nano") / "model_index.json").is_file()
