"""Splats in the browser: the decoder against Python's, bit for bit where it is about integers, and the drawing too."""

import shutil
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
import torch

from pocket_diffusers.hub_models.rendering.cameras import intrinsics
from pocket_diffusers.hub_models.rendering.gaussian_projection import rotation_matrices
from pocket_diffusers.hub_models.rendering.gaussian_rasterizer import rasterize_gaussians
from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.splat_codec import SplatCodecConfig, decode_splats, encode_splats
from pocket_diffusers.pipelines.splat_rendering import FIELD_OF_VIEW, turntable
from pocket_diffusers.spaces.build_static import SHARED

SIDE = 96
LEAST_PSNR = 35.0
"""Decibels; the browser rounds to a byte after each splat, Python once."""
PAGE = f"""<!doctype html><title>splats</title><link rel="icon" href="data:,">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'self' 'unsafe-inline';
  connect-src 'self'; worker-src 'self'; style-src 'unsafe-inline'">
<canvas style="width: {SIDE}px; height: {SIDE}px"></canvas>
<script type="module">
  import {{ Background }} from "./background.js";
  import {{ SplatViewer }} from "./splat_viewer.js";
  const decoder = new Background("./splat_decoder_worker.js");
  const loaded = decoder.load();
  window.decode = async (name) => {{
    await loaded;
    return decoder.generate(new Uint8Array(await (await fetch(name)).arrayBuffer()));
  }};
  window.base64 = (array) => new Promise((resolve) => {{
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(",")[1]);
    reader.readAsDataURL(new Blob([array]));
  }});
  window.open = async (options) => {{
    window.viewer = new SplatViewer(document.querySelector("canvas"), options);
    await viewer.show(await decode("scene.splats"));
  }};
  window.picture = async () => {{
    await viewer.settled();
    viewer.refresh();
    await viewer.settled();
    const canvas = document.querySelector("canvas");
    const gl = canvas.getContext("webgl2");
    const bytes = new Uint8Array(4 * canvas.width * canvas.height);
    gl.readPixels(0, 0, canvas.width, canvas.height, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
    return {{ width: canvas.width, bytes: await base64(bytes), viewmat: viewer.camera.viewmat() }};
  }};
  window.ready = true;
</script>"""


def cloud(count: int, degree: int, seed: int = 0) -> Gaussians:
    draw = torch.Generator().manual_seed(seed)
    return Gaussians(
        torch.randn(count, 3, generator=draw) * torch.tensor([1.0, 0.7, 1.2]) + torch.tensor([3.0, -1.0, 0.5]),
        0.7 * torch.randn(count, 3, generator=draw) - 2.2,
        torch.randn(count, 4, generator=draw),
        2 * torch.randn(count, generator=draw),
        0.3 * torch.randn(count, (degree + 1) ** 2, 3, generator=draw),
    )


@pytest.fixture(scope="module")
def scenes() -> dict[str, bytes]:
    """By name: every degree, no Gaussian, one, many in one cell, and steps and units of all sizes."""
    crowd = cloud(700, 0, 4)
    crowd = Gaussians(**{**crowd.tensors(), "means": (crowd.means > 3).float()})
    fine = SplatCodecConfig(0.001, 0.02, 2.0, 0.01, 0.01, 0.01, 0.02, 0.02)
    return {
        "scene.splats": encode_splats(cloud(400, 2)),
        "degree-0.splats": encode_splats(cloud(5000, 0, 1), SplatCodecConfig().coarser(2)),
        "degree-1.splats": encode_splats(cloud(9000, 1, 2)),
        "degree-3.splats": encode_splats(cloud(300, 3, 3), fine),
        "none.splats": encode_splats(cloud(0, 1)),
        "one.splats": encode_splats(cloud(1, 3)),
        "crowd.splats": encode_splats(crowd),
    }


@pytest.fixture(scope="module")
def address(tmp_path_factory, serve_folder, scenes) -> str:
    folder = tmp_path_factory.mktemp("splats")
    for script in SHARED.glob("*.js"):
        shutil.copyfile(script, folder / script.name)
    (folder / "index.html").write_text(PAGE)
    for name, data in {**scenes, **damaged(scenes["scene.splats"])}.items():
        (folder / name).write_bytes(data)
    return serve_folder(folder)


def damaged(data: bytes) -> dict[str, bytes]:
    start = 8 + int.from_bytes(data[:8], "little")
    flipped = bytearray(data)
    flipped[-3] ^= 0x40
    return {
        "cut.bad": data[:-5],
        "empty.bad": b"",
        "text.bad": b"ply\nformat ascii 1.0\n" * 9,
        "flipped.bad": bytes(flipped),
        "version.bad": data.replace(b'version\\": 1', b'version\\": 7'),
        "step.bad": data.replace(b'unit\\": ', b'unit\\":-'),
        "tables.bad": data[: start + 40] + b"\xff" * 20 + data[start + 60 :],
    }


@pytest.fixture
def page(address, open_page):
    page = open_page(address)
    page.wait_for_function("window.ready")
    return page


def read(page, name: str) -> Gaussians:
    """What the browser decodes."""
    code = """async (name) => {
        const { count, degree, means, logScales, quaternions, opacityLogits, sh } = await decode(name);
        const values = [means, logScales, quaternions, opacityLogits, sh];
        return { count, degree, values: await Promise.all(values.map(base64)) };
    }"""
    found = page.evaluate(code, name)
    shapes = [(-1, 3), (-1, 3), (-1, 4), (-1,), (found["count"], (found["degree"] + 1) ** 2, 3)]
    return Gaussians(*(numbers(v).reshape(shape) for v, shape in zip(found["values"], shapes, strict=True)))


def numbers(text: str, dtype: str = "<f4") -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(b64decode(text), dtype).copy())


def test_the_browser_decodes_what_python_decodes(page, scenes):
    for name, data in scenes.items():
        found, expected = read(page, name), decode_splats(data)
        assert len(found) == len(expected), name
        torch.testing.assert_close(found.means, expected.means, rtol=3e-7, atol=0, msg=name)
        for field in ("log_scales", "opacity_logits", "sh"):
            torch.testing.assert_close(getattr(found, field), getattr(expected, field), rtol=1e-6, atol=1e-6, msg=name)
        # Of the four rotations that turn an ellipsoid into itself either side may take any.
        torch.testing.assert_close(log_covariances(found), log_covariances(expected), rtol=1e-5, atol=1e-5, msg=name)


def log_covariances(gaussians: Gaussians) -> torch.Tensor:
    axes = rotation_matrices(gaussians.quaternions.double())
    return axes @ torch.diag_embed(gaussians.log_scales.double()) @ axes.mT


def test_a_damaged_file_gives_one_sentence(page):
    sentences = {
        "cut.bad": "A safetensors file must hold its tensors one after another",
        "empty.bad": "A safetensors file must hold at least 8 bytes, not 0.",
        "text.bad": "A safetensors file must hold a header",
        "flipped.bad": "A coded sequence must",
        "version.bad": "A splat file must be of version 1, but its metadata says 7.",
        "step.bad": "unit must be a number from 1e-9 to 1e9, not -",
        "tables.bad": "A coded sequence must",
    }
    for name, sentence in sentences.items():
        said = page.evaluate("(name) => decode(name).then(() => 'nothing', (error) => error.message)", name)
        assert said.startswith(sentence) and said.count("\n") == 0, (name, said)


def test_the_browser_draws_what_python_draws(page, scenes):
    gaussians = decode_splats(scenes["scene.splats"])
    page.evaluate("open({ background: [0.2, 0.4, 0.6] })")
    first = pixels(page)
    expected = turntable(gaussians, 1, SIDE, SIDE).viewmats[0]
    torch.testing.assert_close(first[1], expected, rtol=1e-4, atol=1e-4)
    page.evaluate("viewer.camera.turn(1.9, 0.5); viewer.camera.zoom(0.6); viewer.camera.pan(0.1, -0.05)")
    second = pixels(page)
    for drawn, viewmat in (first, second):
        K = intrinsics(FIELD_OF_VIEW, SIDE, SIDE)
        ground = torch.tensor([0.2, 0.4, 0.6])
        rgb = rasterize_gaussians(gaussians, viewmat[None], K[None], SIDE, SIDE, ground, form="torch").rgb[0]
        expected = rgb.clamp(0, 1).permute(1, 2, 0).numpy()
        error = float(((drawn - expected) ** 2).mean())
        print("PSNR", -10 * np.log10(error))
        assert -10 * np.log10(error) > LEAST_PSNR
        assert expected.std() > 0.1  # there is something to see
    assert abs(first[0] - second[0]).mean() > 0.05


def pixels(page) -> tuple[np.ndarray, torch.Tensor]:
    """The picture [SIDE, SIDE, 3] in [0, 1], and from where."""
    found = page.evaluate("picture()")
    assert found["width"] == SIDE
    drawn = numbers(found["bytes"], "u1").numpy().reshape(SIDE, SIDE, 4)[::-1, :, :3] / 255.0
    return drawn, torch.tensor(found["viewmat"]).view(4, 4)
