"""Splats in the browser: the decoder against Python's, bit for bit where it is about integers, and the drawing too."""

import math
import os
import shutil
import time
from base64 import b64decode, b64encode

import numpy as np
import pytest
import torch
from pages import PATIENCE

from pocket_diffusers.hub_models.rendering import neighbor_coding
from pocket_diffusers.hub_models.rendering.cameras import intrinsics
from pocket_diffusers.hub_models.rendering.gaussian_rasterizer import rasterize_gaussians
from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.quaternions import rotation_matrices
from pocket_diffusers.hub_models.rendering.splat_codec import SplatCodecConfig, decode_splats, encode_splats
from pocket_diffusers.pipelines.scene_cameras import FIELD_OF_VIEW, turntable
from pocket_diffusers.spaces.build_static import SHARED

HOSTILE_CASES = int(os.environ.get("POCKET_HOSTILE_CASES", "1000")) // 5
SIDE = 96
LEAST_PSNR = 49.0
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
  window.open = async (name, options) => {{
    window.viewer = new SplatViewer(document.querySelector("canvas"), options);
    await viewer.show(await decode(name));
  }};
  window.picture = async () => {{
    await viewer.settled();
    const canvas = document.querySelector("canvas");
    const gl = canvas.getContext("webgl2");
    const bytes = new Uint8Array(4 * canvas.width * canvas.height);
    gl.readPixels(0, 0, canvas.width, canvas.height, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
    return {{ width: canvas.width, bytes: await base64(bytes), viewmat: viewer.camera.viewmat() }};
  }};
  window.ready = true;
</script>"""


def cloud(count: int, degree: int, seed: int = 0, noise: float = 1.0) -> Gaussians:
    """Many small and faint Gaussians, which show blur and cut; with little noise, neighbours are alike."""
    draw = torch.Generator().manual_seed(seed)
    means = torch.randn(count, 3, generator=draw) * torch.tensor([1.0, 0.7, 1.2])

    def field(*shape: int) -> torch.Tensor:
        width = math.prod(shape)
        waves = torch.sin(2 * means @ torch.randn(3, width, generator=draw) + torch.arange(width))
        return (waves + noise * torch.randn(count, width, generator=draw)).reshape(count, *shape) / (1 + noise)

    return Gaussians(
        means + torch.tensor([3.0, -1.0, 0.5]),
        1.2 * field(3) - 2.7,
        field(4) + torch.tensor([2.0, 0, 0, 0]),
        3 * field() - 1,
        0.4 * field((degree + 1) ** 2, 3),
    )


@pytest.fixture(scope="module")
def scenes() -> dict[str, bytes]:
    """By name: every degree, contexts of all kinds, no Gaussian, one, many in one cell, steps of all sizes."""
    crowd = cloud(700, 0, 4)
    crowd = Gaussians(**{**crowd.tensors(), "means": (crowd.means > 3).float()})
    fine = SplatCodecConfig(0.001, 0.02, 2.0, 0.01, 0.01, 0.01, 0.02, 0.02)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbor_coding, "CHOICES", ((32, 5),))  # the encoder would seldom take it for so few Gaussians
        many_contexts = encode_splats(cloud(9000, 1, 2, 0.1), SplatCodecConfig().coarser(0.5))
    return {
        "scene.splats": encode_splats(cloud(600, 2)),
        "degree-0.splats": encode_splats(cloud(5000, 0, 1, 0.1), SplatCodecConfig(position_step=2e-4)),
        "degree-1.splats": many_contexts,
        "degree-3.splats": encode_splats(cloud(600, 3, 3, 0.5), fine),
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
    wait_until(page, "window.ready === true")
    return page


def wait_until(page, condition: str) -> None:
    """The page's rules forbid playwright's own way, which evaluates text inside of the page."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(20)


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


def test_files_with_random_damage_are_read_or_refused_as_python_does(page):
    draw = np.random.default_rng(0)
    data = encode_splats(cloud(40, 1))
    names, code = (
        [],
        """async (texts) => {
        const { decodeSplats } = await import("/splat_decoder.js");
        const results = [];
        for (const text of texts) {
            const data = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            results.push(await decodeSplats(data).then(({ sh }) => base64(sh), (error) => error.message));
        }
        return results;
    }""",
    )
    for _ in range(HOSTILE_CASES):
        damaged = bytearray(data)
        for place in draw.integers(0, len(data), draw.integers(1, 4)):
            damaged[place] = draw.integers(0, 256)
        names.append(bytes(damaged[: draw.integers(0, len(data))] if draw.random() < 0.2 else damaged))
    found = page.evaluate(code, [b64encode(name).decode() for name in names])
    read = 0
    for damaged, said in zip(names, found, strict=True):
        try:
            expected = decode_splats(damaged).sh
        except ValueError:
            assert " must " in said and said.endswith("."), said
        else:
            read += 1
            torch.testing.assert_close(numbers(said).view_as(expected), expected, rtol=1e-6, atol=1e-6)
    assert 0 < read < HOSTILE_CASES / 2


@pytest.mark.parametrize("name", ["scene.splats", "degree-3.splats"])
def test_the_browser_draws_what_python_draws(page, scenes, name):
    gaussians = decode_splats(scenes[name])
    page.evaluate("(name) => open(name, { background: [0.2, 0.4, 0.6] })", name)
    drawn, viewmat = pixels(page)
    torch.testing.assert_close(viewmat, turntable(gaussians, 1, SIDE, SIDE).viewmats[0], rtol=1e-4, atol=1e-4)
    check_picture(drawn, viewmat, gaussians)
    page.evaluate("viewer.camera.turn(1, 0.2); viewer.refresh()")
    page.evaluate("viewer.camera.turn(0.9, 0.3); viewer.camera.zoom(0.6); viewer.camera.pan(0.1, -0.05)")
    page.evaluate("viewer.camera.turn(0.4, 0.1); viewer.refresh(); viewer.camera.turn(1.4, 0.1); viewer.refresh()")
    check_picture(*pixels(page), gaussians)
    page.evaluate("viewer.camera.zoom(0.1); viewer.refresh()")  # among them, and some are behind
    check_picture(*pixels(page), gaussians)


def check_picture(drawn: np.ndarray, viewmat: torch.Tensor, gaussians: Gaussians) -> None:
    K, ground = intrinsics(FIELD_OF_VIEW, SIDE, SIDE), torch.tensor([0.2, 0.4, 0.6])
    rgb = rasterize_gaussians(gaussians, viewmat[None], K[None], SIDE, SIDE, ground, form="torch").rgb[0]
    expected = rgb.clamp(0, 1).permute(1, 2, 0).numpy()
    psnr = -10 * np.log10(((drawn - expected) ** 2).mean())
    assert abs(expected - ground.numpy()).mean() > 0.02  # there is something to see
    assert psnr > LEAST_PSNR


def test_the_order_is_exact_and_stable(page):
    draw = np.random.default_rng(0)
    means = np.concatenate([draw.normal(size=(500, 3)), draw.integers(-2, 3, (500, 3))]).astype("f4")
    viewmat = np.eye(4)
    code = """async ([means, viewmat]) => {
        const { DepthOrder } = await import("/depth_order.js");
        return Array.from(new DepthOrder(Float32Array.from(means)).farToNear(viewmat));
    }"""
    found = page.evaluate(code, [means.ravel().tolist(), viewmat.ravel().tolist()])
    assert found == np.argsort(means[:, 2], kind="stable")[::-1].tolist()


def test_mouse_wheel_keys_and_fingers_move_the_scene(page, scenes):
    page.evaluate("open('scene.splats')")
    first, start = pixels(page)
    center = torch.tensor(page.evaluate("viewer.camera.center"))
    front = center - start[2, :3] / 2  # half a unit nearer to the camera

    drag(page, (40, 40), (60, 40))
    turned, viewmat = pixels(page)
    assert place(front, viewmat)[0] > place(front, start)[0] + 3, "the front follows the hand"
    assert abs(turned - first).mean() > 0.02
    drag(page, (40, 40), (40, 60))
    assert place(front, pixels(page)[1])[1] > place(front, viewmat)[1] + 2

    page.locator("canvas").dblclick(position={"x": 5, "y": 5})
    again, viewmat = pixels(page)
    torch.testing.assert_close(viewmat, start)
    assert (again == first).all()

    for options in ({"button": "right"}, {"shift": True}):
        drag(page, (40, 40), (52, 31), **options)
        moved = place(center, pixels(page)[1])
        torch.testing.assert_close(moved, torch.tensor([SIDE / 2 + 12, SIDE / 2 - 9]), rtol=0, atol=0.01)
        page.locator("canvas").press("Home")

    distance = "viewer.camera.distance"
    far = page.evaluate(distance)
    page.mouse.wheel(0, -200)
    wait_until(page, f"{distance} < {0.8 * far}")
    for key, moves in {
        "-": distance,
        "ArrowLeft": "viewer.camera.azimuth",
        "ArrowUp": "viewer.camera.elevation",
    }.items():
        before = page.evaluate(moves)
        page.locator("canvas").press(key)
        assert page.evaluate(moves) != before, key
    page.locator("canvas").press("0")
    torch.testing.assert_close(pixels(page)[1], start)

    touch(page, [[(30, 40), (60, 40)], [(20, 50), (80, 50)]])  # spread to twice their distance
    viewmat = pixels(page)[1]
    assert page.evaluate(distance) == pytest.approx(far / 2)
    moved = place(center, viewmat)  # finger after finger, so that it is not quite the 5 and 10 of their middle
    torch.testing.assert_close(moved, torch.tensor([SIDE / 2 + 5, SIDE / 2 + 10]), rtol=0, atol=4)
    touch(page, [[(40, 40)], [(60, 40)]])
    assert page.evaluate("viewer.camera.azimuth") < -0.5


def place(point: torch.Tensor, viewmat: torch.Tensor) -> torch.Tensor:
    """Where a camera sees a point, in pixels."""
    x, y, z = intrinsics(FIELD_OF_VIEW, SIDE, SIDE) @ (viewmat[:3, :3] @ point + viewmat[:3, 3])
    return torch.stack([x / z, y / z])


def drag(page, start, stop, button: str = "left", shift: bool = False) -> None:
    box = page.locator("canvas").bounding_box()
    if shift:
        page.keyboard.down("Shift")
    page.mouse.move(box["x"] + start[0], box["y"] + start[1])
    page.mouse.down(button=button)
    page.mouse.move(box["x"] + stop[0], box["y"] + stop[1], steps=3)
    page.mouse.up(button=button)
    if shift:
        page.keyboard.up("Shift")


def touch(page, stations) -> None:
    """Fingers put down on the canvas at the first places, moved to the others, and lifted."""
    box = page.locator("canvas").bounding_box()
    session = page.context.new_cdp_session(page)
    for kind, places in zip(["touchStart", *["touchMove"] * (len(stations) - 1)], stations, strict=True):
        points = [{"x": box["x"] + x, "y": box["y"] + y, "id": i} for i, (x, y) in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_the_picture_follows_its_size_and_the_screen_and_comes_back_after_a_loss(page):
    page.evaluate("open('scene.splats')")
    first = pixels(page)[0]
    session = page.context.new_cdp_session(page)
    for ratio, width in ((2, 2 * SIDE), (3, 2 * SIDE), (1, SIDE)):
        metrics = {"width": 800 + ratio, "height": 600, "deviceScaleFactor": ratio, "mobile": False}
        session.send("Emulation.setDeviceMetricsOverride", metrics)
        wait_until(page, f"document.querySelector('canvas').width === {width}")
    page.evaluate("document.querySelector('canvas').style.width = '150px'")
    wait_until(page, "document.querySelector('canvas').width === 150")
    page.evaluate(f"document.querySelector('canvas').style.width = '{SIDE}px'")
    wait_until(page, f"document.querySelector('canvas').width === {SIDE}")
    assert (pixels(page)[0] == first).all()
    code = """async () => {
        const canvas = document.querySelector("canvas");
        const extension = canvas.getContext("webgl2").getExtension("WEBGL_lose_context");
        const told = (name) => new Promise((resolve) => canvas.addEventListener(name, resolve, { once: true }));
        const lost = told("webglcontextlost");
        extension.loseContext();
        await lost;
        await new Promise((resolve) => setTimeout(resolve));
        const restored = told("webglcontextrestored");
        extension.restoreContext();
        await restored;
    }"""
    page.evaluate(code)
    assert (pixels(page)[0] == first).all()


def test_what_cannot_be_shown_is_said(page):
    said = "(error) => error.message"
    assert page.evaluate(f"open('none.splats').catch({said})") == "The scene is empty: it holds no Gaussian."
    many = "{ count: 1e8, degree: 3 }"
    assert "draws at most" in page.evaluate(f"viewer.show({many}).catch({said})")
    page.evaluate("open('one.splats')")  # and a scene after it
    page.evaluate("HTMLCanvasElement.prototype.getContext = () => null")
    assert page.evaluate(f"open('scene.splats').catch({said})").startswith("This browser has no WebGL2")


def pixels(page) -> tuple[np.ndarray, torch.Tensor]:
    """The picture [SIDE, SIDE, 3] in [0, 1], and from where."""
    found = page.evaluate("picture()")
    assert found["width"] == SIDE
    drawn = numbers(found["bytes"], "u1").numpy().reshape(SIDE, SIDE, 4)[::-1, :, :3] / 255.0
    return drawn, torch.tensor(found["viewmat"]).view(4, 4)
