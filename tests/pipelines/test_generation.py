"""Drawing a request with pipelines of tiny real components."""

import json

import numpy as np
import pytest
import torch
from tiny_ascan import make_generator
from tiny_controlmm import make_pipeline as make_mover
from tiny_snapgen import make_pipeline

from pocket_diffusers.pipelines.generation import ImageRequest, generate, generate_into
from pocket_diffusers.pipelines.motion.motion_controls import MotionControls
from pocket_diffusers.pipelines.repository import save_repository

REQUEST = ImageRequest(("a red cube", "a blue sphere"), num_inference_steps=3, num_images_per_prompt=2, seed=7)


@pytest.fixture(scope="module")
def of_texts():
    return make_pipeline("l")


@pytest.fixture(scope="module")
def of_classes():
    return make_generator({0: "red cube", 1: "red cone", 2: "7"}, num_classes=3)


@pytest.fixture(scope="module")
def of_motions():
    return make_mover()


HOLD = {"joint": "pelvis", "frames": [0, 39], "positions": [[0, 0.9, 0], [0, 0.9, 1.5]]}


def difference(first, second) -> int:
    return np.abs(np.asarray(first, int) - np.asarray(second, int)).max()


def test_every_picture_can_be_made_alone(of_texts):
    made = generate(of_texts, REQUEST)
    assert made.prompts == ("a red cube", "a red cube", "a blue sphere", "a blue sphere")
    assert made.seeds == (7, 8, 9, 10)
    images = made.output.images
    alone = generate(of_texts, ImageRequest(("a blue sphere",), num_inference_steps=3, seed=10))
    assert difference(alone.output.images[0], images[3]) <= 1 < difference(images[2], images[3])


def test_progress_adds_up_to_the_prompts(of_texts):
    parts = []
    generate(of_texts, REQUEST, parts.append)
    assert len(parts) == 6 and sum(parts) == pytest.approx(2)


def test_options_reach_the_pipeline(of_texts):
    made = generate(of_texts, ImageRequest(("a cube",), num_inference_steps=1, height=12, width=16))
    assert made.output.images[0].size == (16, 12)
    with pytest.raises(ValueError, match="height.*7"):
        generate(of_texts, ImageRequest(("a cube",), height=7))
    with pytest.raises(ValueError, match="there is no prompt"):
        generate(of_texts, ImageRequest(()))


def test_generate_into_writes_pictures_sheet_and_record(of_texts, tmp_path):
    model = save_repository(of_texts, tmp_path / "tiny")
    output = tmp_path / "out"
    output.mkdir()
    made = generate_into(output, "snapgen", REQUEST, str(model))
    inputs = json.loads((output / "run.json").read_text())["inputs"]
    assert list(inputs) == [
        "method", "model", "runtime", "prompts", "negative_prompt", "num_inference_steps", "guidance_scale",
        "num_images_per_prompt", "height", "width", "seed", "arguments", "pictures",
    ]  # fmt: skip
    assert [entry["seed"] for entry in inputs["pictures"]] == [7, 8, 9, 10] == list(made.seeds)
    files = {entry["file"] for entry in inputs["pictures"]}
    assert {path.name for path in output.iterdir()} == {"run.json", "sheet.png"} | files
    assert inputs["pictures"][2] == {"file": "002-a-blue-sphere.png", "prompt": "a blue sphere", "seed": 9}


def test_further_arguments_reach_the_call_and_other_fields_go_before(of_texts):
    plain = generate(of_texts, ImageRequest(("a cube",), num_inference_steps=2, guidance_scale=2.0)).output.images[0]
    arguments = {"num_inference_steps": 2, "guidance_scale": 7.0, "height": 16}
    made = generate(of_texts, ImageRequest(("a cube",), guidance_scale=2.0, height=24, arguments=arguments)).output
    assert made.images[0].size == (plain.width, 24)
    made = generate(of_texts, ImageRequest(("a cube",), guidance_scale=2.0, height=plain.height, arguments=arguments))
    assert difference(made.output.images[0], plain) == 0


def test_controls_of_a_motion_are_read_as_json_has_them(of_motions):
    arguments = {"length": 44, "controls": [HOLD], "optimization": "fast"}
    made = generate(of_motions, ImageRequest(("a cube",), num_inference_steps=2, seed=5, arguments=arguments))
    expected = of_motions(
        "a cube",
        length=44,
        controls=MotionControls.from_json([HOLD], 44),
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(5),
    )
    assert torch.equal(made.output.features[0], expected.features[0]) and made.seeds == (5,)
    (asked,) = made.output.controls
    assert asked.frames == 44 and asked.mask.nonzero().tolist() == [[0, 0], [39, 0]], "previews show them"
    made = generate(of_motions, ImageRequest(("a cube",), num_inference_steps=1, arguments={"controls": [HOLD]}))
    assert len(made.output.joints[0]) == 40, "no longer than they need"


def test_a_record_lists_motions_as_motions(of_motions, tmp_path):
    model = save_repository(of_motions, tmp_path / "tiny")
    (output := tmp_path / "out").mkdir()
    request = ImageRequest(("a person waits",), num_inference_steps=1, seed=3, arguments={"length": 20})
    generate_into(output, "controlmm", request, str(model))
    inputs = json.loads((output / "run.json").read_text())["inputs"]
    assert inputs["motions"] == [{"file": "000-a-person-waits.glb", "prompt": "a person waits", "seed": 3}]
    assert "pictures" not in inputs and (output / "000-a-person-waits.glb").is_file()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"lenght": 40}, r"argument of ControlMMPipeline 'lenght' is unknown: .* \(nearest: 'length'\)"),
        ({"prompt": "a cube"}, "argument of ControlMMPipeline 'prompt' is unknown"),
        ({"num_motions_per_prompt": 2}, "argument of ControlMMPipeline 'num_motions_per_prompt' is unknown"),
        ({"generator": 1}, "argument of ControlMMPipeline 'generator' is unknown"),
        ({"self": 1}, "argument of ControlMMPipeline 'self' is unknown"),
        ({"length": 7}, "length must be 20 to 196 frames, not 7"),
        ({"length": "long"}, "length must be int, a list of them or None, not 'long'"),
        (
            {"length": 30, "controls": [HOLD]},
            r"controls\[0\]\.frames must be .* from 0 to 29, not 39",
        ),
        ({"controls": "other.json"}, "controls must be a list of at least one control, not 'other.json'"),
        ({"controls": [{**HOLD, "joint": "pelvs"}]}, r"controls\[0\]\.joint 'pelvs' is unknown.*nearest: 'pelvis'"),
        ({"optimization": {"each": 1}}, "optimization must be one of fast, balanced, accurate"),
        ({"objective": "far"}, "objective must be a callable"),
    ],
)
def test_arguments_that_a_motion_cannot_have(of_motions, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        generate(of_motions, ImageRequest(("a cube",), arguments=arguments))


def test_settings_that_a_motion_does_not_have(of_motions):
    with pytest.raises(ValueError, match="^height cannot be used: ControlMMPipeline has no such argument"):
        generate(of_motions, ImageRequest(("a cube",), height=64))


def test_a_class_by_its_name_or_number(of_classes):
    request = ImageRequest(("red cone", "1"), num_inference_steps=2, guidance_scale=2.0, num_images_per_prompt=2)
    made = generate(of_classes, request)
    assert made.prompts == ("red cone", "red cone", "1", "1") and made.seeds == (0, 1, 2, 3)
    generators = [torch.Generator().manual_seed(seed) for seed in (2, 3)]
    expected = of_classes([1, 1], 2.0, generators, num_inference_steps=2).images
    assert max(map(difference, made.output.images[2:], expected)) <= 1
    assert of_classes.prompt_arguments("1")["class_labels"] == 1
    assert of_classes.prompt_arguments("7")["class_labels"] == "7", "a number that is a name is the name"


def test_requests_that_a_pipeline_of_classes_refuses(of_classes):
    with pytest.raises(ValueError, match="negative_prompt cannot be used: AsCANPipeline draws classes, not texts"):
        generate(of_classes, ImageRequest(("red cube",), "blue"))
    with pytest.raises(ValueError, match=r"no class is named 'red cub': the nearest are 'red cube'"):
        generate(of_classes, ImageRequest(("red cub",)))
    with pytest.raises(ValueError, match="class_labels must be numbers from 0 to 2 or class names, not 3"):
        generate(of_classes, ImageRequest(("3",)))
