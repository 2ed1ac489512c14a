"""Drawing a request with a pipeline of tiny real components."""

import json

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from pocket_diffusers.hub_models.transformer_ascan import AsCANModel
from pocket_diffusers.hub_models.unet_ascan import AsCANUNet2DModel
from pocket_diffusers.pipelines import METHODS, generation
from pocket_diffusers.pipelines.generation import (
    ImageRequest,
    generate_images,
    generate_into,
)
from pocket_diffusers.pipelines.loading import load_pipeline
from pocket_diffusers.pipelines.pipeline_ascan import AsCANPipeline
from pocket_diffusers.pipelines.pipeline_ascan_classification import AsCANImageClassificationPipeline
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


# Classes instead of texts


@pytest.fixture
def of_classes(components) -> AsCANPipeline:
    torch.manual_seed(0)
    unet = AsCANUNet2DModel.from_preset(
        "nano", sample_size=4, in_channels=4, out_channels=4, widths=(32, 32, 32), num_classes=3, emb_dim=32
    ).eval()
    torch.nn.init.normal_(unet.conv_out.weight, std=0.1)
    torch.nn.init.normal_(unet.class_embedding.weight)
    names = {0: "red cube", 1: "red cone", 2: "7"}
    vae = components("")["vae"]
    return AsCANPipeline(unet=unet, vae=vae, scheduler=FlowMatchEulerDiscreteScheduler(), id2label=names)


def test_a_class_by_its_name_or_number(of_classes):
    of_classes.set_progress_bar_config(disable=True)
    request = ImageRequest(("red cone", "1"), num_inference_steps=2, guidance_scale=2.0, num_images_per_prompt=2)
    pictures = list(generate_images(of_classes, request))
    assert [(picture.prompt, picture.seed) for picture in pictures] == [
        ("red cone", 0),
        ("red cone", 1),
        ("1", 2),
        ("1", 3),
    ]
    generators = [torch.Generator().manual_seed(seed) for seed in (2, 3)]
    expected = of_classes([1, 1], 2.0, generators, num_inference_steps=2).images
    for picture, image in zip(pictures[2:], expected, strict=True):
        assert np.abs(np.asarray(picture.image, int) - np.asarray(image, int)).max() <= 1
    assert generation._label(of_classes, "7") == "7", "a number that is a name is the name"


def test_requests_that_a_pipeline_of_classes_refuses(of_classes):
    with pytest.raises(ValueError, match="negative_prompt cannot be used: AsCANPipeline draws classes, not texts"):
        list(generate_images(of_classes, ImageRequest(("red cube",), "blue")))
    with pytest.raises(ValueError, match=r"no class is named 'red cub': the nearest are 'red cube'"):
        list(generate_images(of_classes, ImageRequest(("red cub",))))
    with pytest.raises(ValueError, match="class_labels must be numbers from 0 to 2 or class names, not 3"):
        list(generate_images(of_classes, ImageRequest(("3",))))


def test_weights_say_which_of_a_methods_pipelines_they_are_for(of_classes, tmp_path, monkeypatch):
    tasks = {
        "class-to-image": "pipeline_ascan:AsCANPipeline",
        "image-classification": "pipeline_ascan_classification:AsCANImageClassificationPipeline",
    }
    monkeypatch.setitem(METHODS, "ascan", tasks)
    model = AsCANModel.from_preset("nano", image_size=32, widths=(32, 32, 32, 32)).eval()
    looking = save_repository(AsCANImageClassificationPipeline(model), tmp_path / "looking")
    drawing = save_repository(of_classes, tmp_path / "drawing")
    assert type(load_pipeline("ascan", str(drawing))) is AsCANPipeline
    pipeline = load_pipeline("ascan", str(looking))
    assert type(pipeline) is AsCANImageClassificationPipeline
    with pytest.raises(ValueError, match="AsCANImageClassificationPipeline makes no pictures, it looks at them"):
        list(generate_images(pipeline, ImageRequest(("red cube",))))
    (looking / "model_index.json").write_text("{")
    with pytest.raises(ValueError, match=r"model_index\.json is truncated or no JSON file"):
        load_pipeline("ascan", str(looking))
    with pytest.raises(FileNotFoundError, match="no checkpoint folder at ./nowhere"):
        load_pipeline("ascan", "./nowhere")
