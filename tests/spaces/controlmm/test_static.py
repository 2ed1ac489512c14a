"""The page that makes motions wholly in the browser: its codes and joints beside the pipeline's, and its buttons."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from pages import PATIENCE, site_of

from pocket_diffusers import checkpoint
from pocket_diffusers.pipelines.loading import load_pipeline
from pocket_diffusers.pipelines.motion.drawn_path import DrawnPath
from pocket_diffusers.pipelines.motion.skeleton import JOINTS, PARENTS
from pocket_diffusers.pipelines.pipeline_controlmm import ControlMMPipeline

SEED, FRAMES, STEPS = 7, 60, 4
PROMPT, CORNER = "a person runs forward", [[0, 2.5], [2.5, 2.5]]
SHORT_PATH = [[0, 0.8], [0.5, 1.4]]
MOST_BYTES = 18_000_000
MAKE = """async (request) => {
    const { ControlMM } = await import("/controlmm.js");
    const { MotionCodes } = await import("/motion_codes.js");
    const [found, find] = [[], MotionCodes.prototype.find];
    MotionCodes.prototype.find = async function (...given) {
        const made = await find.apply(this, given);
        found.push(made.codes);
        return made;
    };
    const motion = await (await ControlMM.load()).generate(request);
    return { ...motion, joints: Array.from(motion.joints), codes: found };
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return site_of("controlmm", tmp_path_factory)


@pytest.fixture(scope="module")
def address(site, serve_folder) -> str:
    return serve_folder(site)


@pytest.fixture(scope="module")
def pipeline() -> ControlMMPipeline:
    return load_pipeline("controlmm", on_cpu=True)


@pytest.fixture
def found_codes(monkeypatch) -> list[list[list[int]]]:
    """Codes of each layer that pipelines find, a call after the other."""
    found, find = [], ControlMMPipeline._other_layers

    def find_and_keep(self, *given):
        codes = find(self, *given)
        found.append(codes[0].T.tolist())
        return codes

    monkeypatch.setattr(ControlMMPipeline, "_other_layers", find_and_keep)
    return found


def made(pipeline, prompt: str = PROMPT, **arguments) -> torch.Tensor:
    """Joints that the pipeline makes of the seed."""
    return pipeline(prompt, generator=torch.Generator().manual_seed(SEED), **arguments).joints[0]


def on_path(pipeline, path: list[list[float]], frames: int, **arguments) -> tuple[torch.Tensor, torch.Tensor]:
    """Joints that the pipeline leads along a path, with the pelvis as high as when it is free, and their targets."""
    free = made(pipeline, length=frames, **arguments)
    asked = DrawnPath.of(path).controls(frames, free[:, 0, 1])
    return made(pipeline, controls=asked, optimization="fast", **arguments), asked.targets[:, 0]


def ask(page, **changes):
    given = {"prompt": PROMPT, "path": [], "frames": None, "steps": STEPS, "guidance": 4, "seed": SEED, **changes}
    found = page.evaluate(MAKE, given)
    return found, np.array(found["joints"]).reshape(-1, 22, 3)


def test_a_free_motion_has_the_codes_the_length_and_the_joints_of_the_pipeline(
    address, open_page, pipeline, found_codes
):
    page = open_page(address)
    for guidance in (4, 1):
        found, joints = ask(page, guidance=guidance)
        expected = made(pipeline, num_inference_steps=STEPS, guidance_scale=guidance)
        assert found["codes"] == [found_codes[-1]]
        np.testing.assert_allclose(joints, expected, atol=1e-3)
        assert found["targets"] == found["misses"] == []


def test_a_motion_on_a_path_has_the_codes_of_the_pipeline_and_comes_as_near(address, open_page, pipeline, found_codes):
    found, joints = ask(open_page(address), path=SHORT_PATH)
    assert len(joints) == FRAMES
    expected, targets = on_path(pipeline, SHORT_PATH, FRAMES, num_inference_steps=STEPS)
    assert found["codes"] == found_codes
    np.testing.assert_allclose(joints, expected, atol=0.01)
    assert [target["frame"] for target in found["targets"]] == list(range(FRAMES))
    np.testing.assert_allclose([target["position"] for target in found["targets"]], targets, atol=1e-3)
    misses = np.linalg.norm(joints[:, 0] - targets.numpy(), axis=-1)
    np.testing.assert_allclose(found["misses"], misses, atol=1e-3)
    theirs = (expected[:, 0] - targets).norm(dim=-1)
    assert abs(misses.mean() - theirs.mean()) < 2e-3


def wait_for(page, words: str | re.Pattern) -> None:
    page.get_by_text(words).first.wait_for(timeout=PATIENCE)


def download(page, button: str, place: Path) -> str:
    with page.expect_download() as kept:
        page.get_by_role("button", name=button).click()
    kept.value.save_as(place)
    return kept.value.suggested_filename


def test_an_example_moves_and_is_kept_as_bvh_and_json(address, open_page, pipeline, tmp_path):
    page = open_page(address)
    page.locator("#move:enabled").wait_for()
    page.locator("summary").click()
    page.get_by_label("New seed each time").uncheck()
    page.get_by_label("Seed", exact=False).first.fill(str(SEED))
    page.get_by_role("button", name="Run round a corner").click()
    wait_for(page, "1 motion in")
    frames = DrawnPath.of(CORNER).walking_frames
    assert f"{frames} frames, {frames / 20:g} s · seed {SEED}" in page.inner_text("#words")
    theirs, targets = on_path(pipeline, CORNER, frames)
    average, most = re.findall(r"[\d.]+", page.inner_text("#missed").removesuffix("."))[:2]
    errors = 100 * (theirs[:, 0] - targets).norm(dim=-1)
    assert abs(float(average) - errors.mean()) < 0.3 and abs(float(most) - errors.max()) < 1

    assert download(page, "Save JSON", tmp_path / "motion.json") == f"a-person-runs-forward-seed-{SEED}.json"
    kept = json.loads((tmp_path / "motion.json").read_text())
    assert kept["prompt"] == PROMPT and kept["seed"] == SEED and kept["frames_per_second"] == 20
    assert kept["joints"] == list(JOINTS) and kept["parents"] == list(PARENTS)
    np.testing.assert_allclose(kept["positions"], theirs, atol=0.03)
    assert download(page, "Save BVH", tmp_path / "motion.bvh") == f"a-person-runs-forward-seed-{SEED}.bvh"
    lines = (tmp_path / "motion.bvh").read_text().splitlines()
    assert lines[:2] == ["HIERARCHY", "ROOT pelvis"] and f"Frames: {frames}" in lines
    first = np.array(lines[-frames].split()[:3], float)
    np.testing.assert_allclose(first, kept["positions"][0][0], atol=1e-4)


def test_a_stroke_on_the_floor_is_walked(address, open_page):
    page = open_page(address)
    page.locator("#move:enabled").wait_for()
    frame = page.locator("canvas.floor").bounding_box()
    middle = frame["x"] + frame["width"] / 2
    page.mouse.move(middle, frame["y"] + 0.7 * frame["height"])
    page.mouse.down()
    page.mouse.move(middle, frame["y"] + 0.4 * frame["height"], steps=10)
    page.mouse.up()
    wait_for(page, re.compile(r"The path was missed by \d+\.\d cm on average"))
    page.get_by_role("button", name="Pause").wait_for()


def test_what_cannot_be_used_gets_one_sentence(address, open_page):
    page = open_page(address)
    page.locator("#move:enabled").wait_for()
    page.get_by_role("button", name="No path").click()
    page.locator("summary").click()
    for label, value, said in (
        ("Prompt", " ", "The prompt is empty: describe the motion in words."),
        ("Frames", "10", "Frames must be a whole number from 20 to 196, not 10."),
        ("Steps", "0", "Steps must be a whole number from 1 to 100, not 0."),
        ("Guidance", "-1", "Guidance must be a number from 0 to 100, not -1."),
    ):
        field = page.get_by_label(label).first
        before = field.input_value()
        field.fill(value)
        page.get_by_role("button", name="Move").click()
        page.locator("#words", has_text=said).wait_for()
        field.fill(before)


def test_the_networks_are_small(site):
    assert sum(file.stat().st_size for file in (site / "model").rglob("*") if file.is_file()) < MOST_BYTES


def test_weights_of_the_page_come_with_the_package():
    assert (checkpoint("controlmm-nano") / "model_index.json").is_file()
