"""Drawing a request with a pipeline of tiny real components."""

import json

import numpy as np
import pytest

from pocket_diffusers.pipelines import generation
from pocket_diffusers.pipelines.generation import ImageRequest, find_model, generate_images, generate_into
from pocket_diffusers.pipelines.repository import save_repository

REQUEST = ImageRequest(("a red cube", "a blue sphere"), num_inference_steps=3, num_images_per_prompt=2, seed=7)


def test_every_picture_can_be_made_alone(one_encoder):
    pictures = list(generate_images(one_encoder, REQUEST))
    assert [(p.prompt, p.seed) for p in pictures] == [
        ("a red cube", 7),
        ("a red cube", 8),
        ("a blue sphere", 9),
        ("a blue sphere", 10),
    ]
    alone = ImageRequest((pictures[3].prompt,), num_inference_steps=3, seed=pictures[3].seed)
    (picture,) = generate_images(one_encoder, alone)
    difference = np.asarray(picture.image, int) - np.asarray(pictures[3].image, int)
    assert np.abs(difference).max() <= 1
    assert np.asarray(pictures[2].image, int).tolist() != np.asarray(pictures[3].image, int).tolist()


def test_progress_adds_up_to_the_prompts(one_encoder):
    parts = []
    list(generate_images(one_encoder, REQUEST, parts.append))
    assert len(parts) == 6 and sum(parts) == pytest.approx(2)


def test_options_reach_the_pipeline(one_encoder):
    (picture,) = generate_images(one_encoder, ImageRequest(("a cube",), num_inference_steps=1, height=12, width=16))
    assert picture.image.size == (16, 12)
    with pytest.raises(ValueError, match="height.*7"):
        list(generate_images(one_encoder, ImageRequest(("a cube",), height=7)))


def test_generate_into_writes_pictures_sheet_and_record(one_encoder, tmp_path):
    model = save_repository(one_encoder, tmp_path / "tiny")
    output = tmp_path / "out"
    output.mkdir()
    generate_into(output, "snapgen", REQUEST, str(model))
    made = json.loads((output / "run.json").read_text())["inputs"]["pictures"]
    assert [entry["seed"] for entry in made] == [7, 8, 9, 10]
    assert {path.name for path in output.iterdir()} == {"run.json", "sheet.png"} | {entry["file"] for entry in made}
    assert made[2]["file"] == "002-a-blue-sphere.png"


@pytest.mark.parametrize(("prompt", "words"), [("A red: Cube!", "a-red-cube"), ("红色", ""), ("x" * 99, "x" * 48)])
def test_file_names(prompt, words):
    assert generation._words(prompt) == words


def test_what_a_model_may_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert find_model("here") == "here"
    assert find_model("owner/name") == "owner/name"
    with pytest.raises(ValueError, match="checkpoint 'nowhere' is unknown"):
        find_model("nowhere")
