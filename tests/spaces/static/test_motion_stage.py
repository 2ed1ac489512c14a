"""The moving person with its button and slider."""

import shutil

import pytest

from pocket_diffusers.pipelines.motion.skeleton import JOINTS, PARENTS
from pocket_diffusers.spaces.build_static import SHARED

FRAMES = 40
PAGE = f"""<!doctype html><title>motion</title><link rel="icon" href="data:,"><div></div>
<script type="module">
  import {{ MotionStage }} from "./motion_stage.js";
  const skeleton = {{ names: {list(JOINTS)}, parents: {list(PARENTS)}, framesPerSecond: 20 }};
  window.stage = new MotionStage(document.querySelector("div"), skeleton);
  window.show = () => stage.show(new Float32Array(66 * {FRAMES}).map(Math.random));
</script>"""


@pytest.fixture
def page(tmp_path, serve_folder, open_page):
    for name in ("motion_stage.js", "motion_player.js", "orbit_camera.js", "orbit_controls.js"):
        shutil.copyfile(SHARED / name, tmp_path / name)
    (tmp_path / "index.html").write_text(PAGE)
    page = open_page(serve_folder(tmp_path))
    page.wait_for_function("window.stage !== undefined")
    return page


def test_it_shows_while_there_is_a_motion_that_a_button_stops_and_a_slider_moves(page):
    canvas, slider = page.locator("canvas"), page.get_by_label("Frame")
    assert not canvas.is_visible()
    page.evaluate("show()")
    page.wait_for_function("stage.player.frame > 3")
    page.get_by_role("button", name="Pause").click()
    frame = page.evaluate("stage.player.frame")
    page.wait_for_timeout(200)
    assert page.evaluate("stage.player.frame") == frame == int(slider.input_value())
    slider.fill(str(FRAMES - 1))
    assert page.evaluate("stage.player.frame") == FRAMES - 1 and page.get_by_text("1.9 s", exact=True).is_visible()
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("stage.player.frame < 20")
    page.evaluate("stage.show(null)")
    assert not canvas.is_visible() and not page.evaluate("stage.player.playing")


def test_it_does_not_play_by_itself_where_people_want_less_motion(page):
    page.emulate_media(reduced_motion="reduce")
    page.evaluate("show()")
    assert page.get_by_role("button", name="Play").is_visible() and not page.evaluate("stage.player.playing")
