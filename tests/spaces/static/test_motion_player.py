"""The player of motions in a browser: where joints are drawn, and what time, hands and bad numbers do."""

import io
import shutil
import time
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

from pocket_diffusers.pipelines.motion.skeleton import JOINTS, PARENTS
from pocket_diffusers.spaces.build_static import SHARED

SIDE = 300
LEFT, RIGHT, RED = (0x2A, 0x8C, 0xA8), (0xDB, 0x7D, 0x38), (0xD6, 0x27, 0x28)
PAGE = f"""<!doctype html><title>motion</title><link rel="icon" href="data:,">
<canvas style="width: {SIDE}px; height: {SIDE}px"></canvas>
<script type="module">
  import {{ MotionPlayer }} from "./motion_player.js";
  window.seen = [];
  const skeleton = {{ names: {list(JOINTS)}, parents: {list(PARENTS)}, framesPerSecond: 20 }};
  window.player = new MotionPlayer(document.querySelector("canvas"), skeleton, (frame) => seen.push(frame));
  window.picture = () => document.querySelector("canvas").toDataURL().split(",")[1];
</script>"""


@pytest.fixture(scope="module")
def address(tmp_path_factory, serve_folder) -> str:
    folder = tmp_path_factory.mktemp("player")
    for name in ("motion_player.js", "orbit_camera.js", "orbit_controls.js"):
        shutil.copyfile(SHARED / name, folder / name)
    (folder / "index.html").write_text(PAGE)
    return serve_folder(folder)


@pytest.fixture
def page(address, open_page):
    page = open_page(address)
    page.wait_for_function("window.player !== undefined")
    return page


def walk(frames: int = 30) -> np.ndarray:
    """A stiff figure that goes ahead along +Z: left is +X."""
    standing = np.zeros((22, 3))
    for joint, name in enumerate(JOINTS):
        side = 0.3 if name.startswith("left") else -0.3 if name.startswith("right") else 0
        height = 0.1 if "foot" in name or "ankle" in name else 1.6 if name == "head" else 0.5 if "knee" in name else 1.1
        standing[joint] = side, height, 0
    ways = np.linspace(0, 2, frames)[:, None, None] * np.array([0, 0, 1.0])
    return standing + ways


def show(page, joints: np.ndarray, targets: list | None = None) -> None:
    """Stands still at the first frame."""
    page.evaluate(
        "([j, t]) => { player.show(Float32Array.from(j), t); player.pause(); }",
        [joints.ravel().tolist(), targets or []],
    )


def picture(page) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(b64decode(page.evaluate("picture()")))).convert("RGBA")).astype(int)


def middle_of(pixels: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """x and y of what has that colour."""
    rows, columns = np.nonzero((np.abs(pixels[..., :3] - color).max(-1) < 12) & (pixels[..., 3] > 200))
    assert len(rows) > 20, "nothing has this colour"
    return np.array([columns.mean(), rows.mean()])


def test_left_is_left_up_is_up_and_the_nearer_is_larger(page):
    show(page, walk(), [{"frame": 0, "position": [0, 1.6, 0]}, {"frame": 9, "position": [0, 0.1, 0]}])
    left, right = (middle_of(picture(page), color) for color in (LEFT, RIGHT))
    assert abs(left[0] - right[0]) > 20, "both sides are seen apart"
    found = {joint: page.evaluate(f"player.project([...player.joints.subarray({3 * joint}, {3 * joint} + 3)])")
             for joint in (0, 7, 15)}  # fmt: skip
    assert found[15]["y"] < found[0]["y"] < found[7]["y"] and found[15]["y"] > 0 and found[7]["y"] < SIDE
    near, far = (page.evaluate(f"player.project([0, 1, {z}]).metre") for z in (1, -1))
    depths = [page.evaluate(f"player.project([0, 1, {z}]).depth") for z in (1, -1)]
    assert (near > far) == (depths[0] < depths[1]) and near != far
    one, other = found[15], middle_of(picture(page), RED)
    assert abs(one["x"] - other[0]) < 40 and abs(one["y"] - other[1]) < 40, "the frame's own target is the larger"


def test_it_plays_over_and_over_at_its_own_speed_and_stops(page):
    joints = walk(6)
    page.evaluate("(j) => player.show(Float32Array.from(j))", joints.ravel().tolist())
    start = time.monotonic()
    page.wait_for_function("seen.filter((frame) => frame === 5).length >= 2 && player.frame < 5")
    assert time.monotonic() - start > 0.4, "eleven frames take over half a second, but for the first ones before"
    page.evaluate("player.pause()")
    before = page.evaluate("player.frame")
    page.wait_for_timeout(200)
    assert page.evaluate("player.frame") == before
    for asked, got in ((3, 3), (2.6, 3), (-4, 0), (99, 5)):
        page.evaluate(f"player.seek({asked})")
        assert page.evaluate("player.frame") == got


def test_a_drag_turns_it_and_a_double_click_turns_it_back(page):
    show(page, walk())
    first = picture(page)
    page.mouse.move(150, 150)
    page.mouse.down()
    page.mouse.move(230, 150)
    page.mouse.up()
    turned = picture(page)
    assert (turned != first).any() and page.evaluate("player.camera.azimuth") != 0
    page.locator("canvas").dblclick()
    assert (picture(page) == first).all()


def test_numbers_of_no_whole_frames_are_refused(page):
    said = page.evaluate(
        "(() => { try { player.show(new Float32Array(67)); } catch (error) { return error.message; } })()"
    )
    assert said == "joints must be frames of 66 numbers, not 67 numbers."
    assert page.evaluate("player.frames") == 0
    page.mouse.move(100, 100)
    page.mouse.down()
    page.mouse.move(120, 120)
    page.mouse.up()
