"""The Space of ControlMM as programs and people use it."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny_controlmm

from pocket_diffusers.pipelines import outputs
from pocket_diffusers.pipelines.generation import ImageRequest, generate
from pocket_diffusers.pipelines.motion.drawn_path import DrawnPath
from pocket_diffusers.pipelines.motion.motion_controls import MotionControls
from pocket_diffusers.pipelines.motion.motion_preview import preview_frames

gradio = pytest.importorskip("gradio", reason="Spaces need the extra 'demo'")

COLUMNS = ["joint", "frame", "x", "y", "z"]
PROMPT = "a red cube"
FILES = [".glb", ".bvh", ".gif", ".features.npy", ".joints.npy"]


@pytest.fixture(scope="module")
def pipeline():
    return tiny_controlmm.make_pipeline()


@pytest.fixture(scope="module")
def address(pipeline):
    from pocket_diffusers.spaces.controlmm import app
    from pocket_diffusers.spaces.look import serve

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "load_pipeline", lambda slug, model: pipeline)
        patch.setattr(outputs, "preview_frames", partial(preview_frames, size=16))
        demo = app.build()
        yield serve(demo, wait=False)
        demo.close()


@pytest.fixture(scope="module")
def client(address):
    from gradio_client import Client

    return Client(address, verbose=False, analytics_enabled=False)


def table(*rows):
    return {"headers": COLUMNS, "data": [list(row) for row in rows], "metadata": None}


def ask(client, prompt: str = PROMPT, **settings):
    given = {"length": 40, "optimization": "fast", "steps": 2, "seed": 7, "new_seed": False, **settings}
    return client.predict(prompt, api_name="/generate", **given)


def expected(pipeline, **arguments):
    request = ImageRequest((PROMPT,), num_inference_steps=2, guidance_scale=4.0, seed=7, arguments=arguments)
    return generate(pipeline, request).output


def joints_of(motion) -> np.ndarray:
    return np.array(motion["joints"]).reshape(-1, 22, 3)


def test_a_free_motion_is_that_of_the_pipeline_with_its_files(client, pipeline):
    motion, told, files, seed = ask(client)
    theirs = expected(pipeline, length=40).joints[0]
    np.testing.assert_allclose(joints_of(motion), theirs, atol=6e-4)
    assert motion["targets"] == [] and seed == 7
    assert told.startswith("**1 motion** in **") and told.endswith("40 frames, 2 s · guidance 4 · seed 7")
    names = [Path(file).name for file in files]
    made = [name for name in names if name not in ("000-a-red-cube.mp4", "controls.json")]
    assert made == [f"000-a-red-cube{suffix}" for suffix in FILES] and names[-1] == "controls.json"
    kept = np.load(files[names.index("000-a-red-cube.joints.npy")], allow_pickle=False)
    np.testing.assert_allclose(kept, theirs, atol=1e-6)
    assert Path(files[0]).read_bytes()[:4] == b"glTF" and Path(files[1]).read_text().startswith("HIERARCHY")


def test_a_path_is_followed_at_the_heights_of_the_free_motion(client, pipeline):
    path = [[0, 1], [0.5, 1.5]]
    motion, told, files, _ = ask(client, path=path)
    heights = expected(pipeline, length=40).joints[0][:, 0, 1]
    asked = DrawnPath.of(path).controls(40, heights)
    theirs = expected(pipeline, length=40, controls=asked.to_json()["controls"], optimization="fast")
    np.testing.assert_allclose(joints_of(motion), theirs.joints[0], atol=1e-3)
    assert [target["frame"] for target in motion["targets"]] == list(range(40))
    places = [target["position"] for target in motion["targets"]]
    np.testing.assert_allclose(places, asked.targets[:, 0], atol=6e-4)
    errors = 100 * (theirs.joints[0][:, 0] - asked.targets[:, 0]).norm(dim=-1)
    assert told.endswith(f"\n\n**{errors.mean():.1f} cm** from the path on average, {errors.max():.1f} cm at most.")

    given = json.loads(Path(files[-1]).read_text())
    assert given.pop("prompt") == PROMPT, "the file makes the same motion again"
    again = generate(pipeline, ImageRequest((PROMPT,), seed=7, arguments=given)).output
    np.testing.assert_allclose(joints_of(motion), again.joints[0], atol=1e-3)


def test_another_joint_may_follow_the_path_beside_keyframes(client):
    rows = table(("left_wrist", 39, 0.4, 1.2, 0.5), ("", None, None, None, None), (" pelvis ", "10", "0.1", 0.9, 0))
    motion, told, _, _ = ask(client, path=[[0.1, 0.2], [0.1, 0.6]], path_joint="head", keyframes=rows)
    targets = motion["targets"]
    assert len(targets) == 42 and "cm** from the path on average" in told and "cm** from keyframes on average" in told
    assert targets[0]["position"][::2] == [0.1, 0.2], "it is led from no other place"
    for frame, position in ((10, [0.1, 0.9, 0.0]), (39, [0.4, 1.2, 0.5])):
        assert {"frame": frame, "position": position} in targets


@pytest.mark.parametrize(
    ("settings", "frames"),
    [
        ({"path": [[0, 4]]}, DrawnPath.of([[0, 4]]).walking_frames),
        ({"path": [[0, 0.1]]}, 60),
        ({"path": [[0, 30]]}, 196),
        ({"keyframes": table(("head", 80, 0, 1.5, 1))}, 81),
        ({"keyframes": table(("head", 8, 0, 1.5, 1))}, 60),
        ({"path": [[0, 0.1]], "keyframes": table(("head", 70, 0, 1.5, 1))}, 71),
    ],
)
def test_what_is_asked_says_how_long_a_clip_is(settings, frames):
    from pocket_diffusers.spaces.controlmm.app import clip_frames, read_keyframes

    drawn = DrawnPath.of(settings["path"]) if "path" in settings else None
    assert clip_frames(drawn, read_keyframes(settings.get("keyframes", table())["data"], 196)) == frames


def test_without_a_length_the_prompt_says_it(client, pipeline):
    motion, *_ = ask(client, length=0)
    assert len(motion["joints"]) == len(expected(pipeline).joints[0])


def test_keyframes_are_controls_as_json_has_them():
    from pocket_diffusers.spaces.controlmm.app import read_keyframes

    controls = MotionControls.from_json(
        read_keyframes([["head", 12.0, 0, 1.5, 1], [None, "", float("nan"), None, ""]], 40)
    )
    assert controls.mask.nonzero().tolist() == [[12, 15]] and controls.targets[12, 15].tolist() == [0, 1.5, 1]


@pytest.mark.parametrize(
    ("prompt", "settings", "sentence"),
    [
        ("  ", {}, "Prompt is empty: describe the motion in words."),
        ("a" * 501, {}, "Prompt has 501 characters: at most 500 are allowed."),
        (PROMPT, {"length": 7}, "Length must be 20 to 196 frames, not 7."),
        (PROMPT, {"length": 197}, "Frames must be from 0 to 196, not 197."),
        (
            PROMPT,
            {"path": [[0, 1], ["a", 2]]},
            "Point 1 of the path must be [x, z] in metres within 1000, not",
        ),
        (PROMPT, {"path": [[0, 2000]]}, "Point 0 of the path must be"),
        (PROMPT, {"path": "way"}, "Path must be a list of 1 to 10,000 points [x, z] in metres, not"),
        (PROMPT, {"path": [[0, 0.05], [0, 0]]}, "Path must be at least 0.2 m long, not 0.1."),
        (PROMPT, {"path": [[1, 1]], "path_joint": "head"}, "Path must be at least 0.2 m long, not 0.0."),
        (PROMPT, {"path": [[0, 1]], "path_joint": "nose"}, "nose is not in the list of choices"),
        (PROMPT, {"optimization": "slow"}, "slow is not in the list of choices"),
        (PROMPT, {"keyframes": table(("hed", 1, 0, 1, 0))}, "Joint of keyframe 1 'hed' is unknown"),
        (PROMPT, {"keyframes": table(("head", 1, 0, 1, 0), ("head", 2, None, 1, 0))}, "Keyframe 2 has no x."),
        (PROMPT, {"keyframes": table(("head", "b", 0, 1, 0))}, "Frame, x, y and z of keyframe 1 must be numbers"),
        *(
            (
                PROMPT,
                {"keyframes": table(("head", frame, 0, 1, 0))},
                f"Frame of keyframe 1 must be one of the clip, a whole number from 0 to 39, not {frame}.",
            )
            for frame in (1.5, 40, -1, "inf")
        ),
        (
            PROMPT,
            {"keyframes": table(("head", 196, 0, 1, 0)), "length": 0},
            "must be one of the clip, a whole number from 0 to 195, not 196.",
        ),
        (PROMPT, {"keyframes": table(("head", 1, 0, "inf", 0))}, "X, y and z of keyframe 1 must be within 1000 m of"),
        (PROMPT, {"keyframes": table(*[("head", 1, 0, 1, 0)] * 501)}, "There are 501 keyframes: at most 500"),
        (
            PROMPT,
            {"keyframes": table(("head", 1, 0, 1, 0), ("head", 1, 0, 2, 0))},
            "Keyframe 2 must be of a joint and frame that no other is of, not 'head at 1'.",
        ),
        (
            PROMPT,
            {"keyframes": table(("pelvis", 1, 0, 1, 0)), "path": [[0, 1]]},
            "Joint of keyframe 1 must be one that follows no path, not 'pelvis'.",
        ),
    ],
)
def test_bad_input_gets_one_sentence(client, prompt, settings, sentence):
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError) as error:
        ask(client, prompt, **settings)
    assert sentence in str(error.value)


# In a browser


def test_a_person_draws_a_path_and_sees_the_figure_follow_it(address, open_page, tmp_path):
    page = open_page(address)
    page.get_by_label("Prompt", exact=True).fill(PROMPT)
    floor = page.locator("canvas.floor")
    frame = floor.bounding_box()
    start, end = (
        (frame["x"] + right * frame["width"], frame["y"] + down * frame["height"])
        for right, down in ((0.5, 0.75), (0.25, 0.5))
    )
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=10)
    page.mouse.up()
    page.get_by_role("button", name="Animate", exact=True).click()
    page.get_by_text("from the path on average").wait_for()
    figure = page.locator("canvas.figure")
    figure.wait_for()
    page.get_by_role("button", name="Pause").wait_for()
    drawn = "canvas => canvas.toDataURL()"
    first = figure.evaluate(drawn)
    page.wait_for_function("([canvas, first]) => canvas.toDataURL() !== first", arg=[figure.element_handle(), first])
    assert page.screenshot(path=tmp_path / "page.png", full_page=True)
    with page.expect_download() as download:
        page.locator(".pocket-files a").last.click()
    positions = json.loads(Path(download.value.path()).read_text())["controls"][0]["positions"]
    assert positions[0][::2] == [0, 0] and positions[-1][::2] == pytest.approx([2, 2], abs=0.12), "left is +x"


def test_a_click_draws_a_path_and_another_removes_it(address, open_page):
    page = open_page(address, width=390, dark=True)
    floor = page.locator("canvas.floor")
    drawn, look = "canvas => canvas.toDataURL()", []
    changed = "([canvas, before]) => canvas.toDataURL() !== before"
    for name in ("Slalom", "Corner", "No path"):
        look.append(floor.evaluate(drawn))
        page.get_by_role("button", name=name, exact=True).click()
        page.wait_for_function(changed, arg=[floor.element_handle(), look[-1]])
    assert floor.evaluate(drawn) == look[0] and len(set(look)) == 3
