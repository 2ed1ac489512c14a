"""Sensitivity of a tiny Stable Diffusion: its numbers, resuming, batches, and that the model stays as it was."""

import copy
import json

import pytest
import torch
from diffusers import StableDiffusionPipeline
from tiny_snapgen import make_pipeline as make_snapgen
from tiny_stable_diffusion import make_pipeline
from torch import nn

from pocket_diffusers.hub_models.assignment_bitsfusion import Sensitivity, measured_layers, weight_counts
from pocket_diffusers.hub_models.layers.low_bit import LOW_BIT
from pocket_diffusers.pipelines.sensitivity_bitsfusion import (
    RESULTS,
    Lesson,
    RecordedLessons,
    low_bit_layer,
    measure_sensitivity,
    tune,
)

PROMPTS = ["a red cube", "two green cone", "the blue sphere"]
SETTINGS = {"iterations": 2, "learning_rate": 1e-3, "batch_size": 4, "steps": 2, "seed": 3}


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return make_pipeline()


@pytest.fixture(scope="module")
def whole(pipeline, tmp_path_factory):
    """Folder and result of an uninterrupted measurement."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, measure_sensitivity(pipeline, PROMPTS, folder, **SETTINGS, image_text_similarity=brightness)


def brightness(pictures: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    assert pictures.shape == (len(prompts), 3, 8, 8) and pictures.min() >= 0 and pictures.max() <= 1
    return pictures.flatten(1).mean(1)


def drawn(pipeline: StableDiffusionPipeline) -> torch.Tensor:
    generators = [torch.Generator().manual_seed(3 + i) for i in range(len(PROMPTS))]
    return pipeline(PROMPTS, generator=generators, num_inference_steps=2, output_type="pt").images


def test_each_layer_is_measured_at_each_number_of_bits_and_more_bits_cost_less(pipeline, whole):
    folder, found = whole
    layers = measured_layers(weight_counts(pipeline.unet))
    assert [(each.layer, each.bits) for each in found] == [(layer, bits) for layer in layers for bits in (1, 2, 3)]
    assert len(layers) == 20
    total = [sum(each.mse for each in found if each.bits == bits) for bits in (1, 2, 3)]
    assert total[0] > 2 * total[1] > 4 * total[2] > 0
    lines = [json.loads(line) for line in (folder / RESULTS).read_text().splitlines()]
    assert [Sensitivity.from_json(line) for line in lines[1:]] == found


def test_without_tuning_the_error_is_that_of_rounded_weights(pipeline, tmp_path):
    name, reference, plain = "down_blocks.0.resnets.0.conv1", drawn(pipeline), copy.deepcopy(pipeline.unet)
    settings = {**SETTINGS, "iterations": 0}
    found = measure_sensitivity(pipeline, PROMPTS, tmp_path, **settings, bits=[2], image_text_similarity=brightness)
    layer = pipeline.unet.get_submodule(name)
    before = layer.weight.data
    try:
        layer.weight.data = LOW_BIT[type(layer)].of(copy.deepcopy(layer), 2).rounded_weight()
        pictures = drawn(pipeline)
    finally:
        layer.weight.data = before
    one = next(each for each in found if each.layer == name)
    assert one.mse == pytest.approx(float(((pictures - reference) * 255).square().mean()), rel=1e-4)
    assert one.clip_drop == pytest.approx(float(reference.mean() - pictures.mean()), abs=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), pipeline.unet.parameters(), strict=True))


def test_the_model_is_unchanged_afterwards(tmp_path):
    pipeline = make_pipeline()
    pipeline.unet.conv_in.weight.requires_grad_(False)
    before = {key: value.clone() for key, value in pipeline.unet.state_dict().items()}
    modules = dict(pipeline.unet.named_modules())
    learning = [parameter.requires_grad for parameter in pipeline.unet.parameters()]
    state = torch.get_rng_state()
    measure_sensitivity(pipeline, PROMPTS[:1], tmp_path, **SETTINGS, bits=[1])
    after = pipeline.unet.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[key], before[key]) for key in before)
    assert all(modules[name] is module for name, module in pipeline.unet.named_modules())
    assert [parameter.requires_grad for parameter in pipeline.unet.parameters()] == learning
    assert all(parameter.grad is None for parameter in pipeline.unet.parameters())
    assert not pipeline.unet._forward_hooks and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("cut", ["between lines", "within a line"])
def test_an_interrupted_measurement_goes_on_to_the_same_result(pipeline, whole, tmp_path, cut):
    folder, found = whole
    lines = (folder / RESULTS).read_text().splitlines(keepends=True)
    rest = "" if cut == "between lines" else lines[58][:20]
    (tmp_path / RESULTS).write_text("".join(lines[:58]) + rest)
    parts = []
    again = measure_sensitivity(
        pipeline, PROMPTS, tmp_path, **SETTINGS, image_text_similarity=brightness, progress=parts.append
    )
    assert again == found and (tmp_path / RESULTS).read_text() == (folder / RESULTS).read_text()
    assert parts == pytest.approx([57 / 60, *[1 / 60] * 3])


def test_pictures_at_once_change_nothing_but_rounding(pipeline, whole, tmp_path):
    _, found = whole
    one_by_one = measure_sensitivity(
        pipeline, PROMPTS, tmp_path, **SETTINGS, image_text_similarity=brightness, pictures_at_once=2
    )
    assert [each.mse for each in one_by_one] == pytest.approx([each.mse for each in found], rel=1e-3, abs=1e-4)


def test_tuning_lowers_the_error(pipeline):
    lessons = recorded(pipeline)
    generator = torch.Generator().manual_seed(0)
    lesson = lessons.draw(12, generator)
    for parameter in pipeline.unet.parameters():
        parameter.requires_grad_(False)
    with low_bit_layer(pipeline.unet, "up_blocks.0.resnets.0.conv1", 1) as layer:
        losses = tune(pipeline.unet, layer, [lesson] * 20, 3e-3)
    pipeline.unet.requires_grad_(True)
    assert losses[-1] < 0.8 * losses[0]
    assert type(pipeline.unet.up_blocks[0].resnets[0].conv1) is nn.Conv2d


def recorded(pipeline) -> RecordedLessons:
    lessons = RecordedLessons()
    with lessons.recording(pipeline.unet, len(PROMPTS)):
        drawn(pipeline)
    return lessons


def test_lessons_are_rows_of_the_unets_own_calls(pipeline):
    lesson = recorded(pipeline).draw(200, torch.Generator().manual_seed(0))
    with torch.no_grad():
        again = pipeline.unet(*lesson.args, **lesson.kwargs)[0]
    assert torch.allclose(again, lesson.prediction, atol=1e-5)
    assert len(lesson.args[0].flatten(1).unique(dim=0)) == 6  # 3 pictures in 2 steps
    assert len(lesson.prediction.flatten(1).unique(dim=0)) == 12  # under guidance with and without the prompt
    assert len(set(lesson.args[1].tolist())) == 2


def test_lessons_may_be_others(pipeline, tmp_path):
    class Twice:
        drawn = 0

        def draw(self, rows: int, generator: torch.Generator) -> Lesson:
            self.drawn += 1
            return recorded(pipeline).draw(rows, generator)

    lessons = Twice()
    measure_sensitivity(pipeline, PROMPTS[:1], tmp_path, **SETTINGS, bits=[3], lessons=lessons)
    assert lessons.drawn == 2
    assert json.loads((tmp_path / RESULTS).read_text().splitlines()[0])["lessons"] == "Twice"


def test_pipelines_of_other_kinds_are_measured_too(tmp_path):
    pipeline = make_snapgen("l")
    found = measure_sensitivity(pipeline, PROMPTS[:1], tmp_path, **{**SETTINGS, "iterations": 1, "steps": 1}, bits=[1])
    layers = measured_layers(weight_counts(pipeline.unet))
    assert [each.layer for each in found] == layers and all("time_emb" not in layer for layer in layers)
    assert all(each.clip_drop is None for each in found) and sum(each.mse for each in found) > 0


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"seed": 4}, "seed"), ({"steps": 3}, "steps"), ({"image_text_similarity": None}, "clip")],
)
def test_a_folder_of_other_settings_is_refused(pipeline, whole, changed, named):
    options = {**SETTINGS, "image_text_similarity": brightness, **changed}
    with pytest.raises(ValueError, match=f"{RESULTS} was measured with other {named}: name another folder"):
        measure_sensitivity(pipeline, PROMPTS, whole[0], **options)


def test_a_folder_of_other_prompts_or_another_model_is_refused(pipeline, whole):
    options = {**SETTINGS, "image_text_similarity": brightness}
    with pytest.raises(ValueError, match="was measured with other prompts"):
        measure_sensitivity(pipeline, PROMPTS[:2], whole[0], **options)
    other = make_pipeline()
    with torch.no_grad():
        other.unet.conv_out.bias[0] += 1
    with pytest.raises(ValueError, match="was measured with other model"):
        measure_sensitivity(other, PROMPTS, whole[0], **options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first line of .* must be an object of settings"),
        ("[]\n", "the first line of .* must be an object of settings"),
        ("{\n", "must hold a JSON object in each line"),
    ],
)
def test_a_damaged_file_is_refused(pipeline, tmp_path, text, message):
    (tmp_path / RESULTS).write_text(text)
    with pytest.raises(ValueError, match=message):
        measure_sensitivity(pipeline, PROMPTS, tmp_path, **SETTINGS)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prompts": "a"}, "prompts must be a list of at least one text, not 'a'"),
        ({"prompts": []}, "prompts must be a list of at least one text"),
        ({"prompts": ["a", " "]}, "prompts must be a list of at least one text"),
        ({"iterations": -1}, "iterations must be a whole number"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, not 0"),
        ({"steps": 0}, "steps must be"),
        ({"learning_rate": -1}, "learning_rate must be"),
        ({"bits": [1, 1]}, "bits must be a list of distinct numbers"),
        ({"bits": [0]}, "bits must be a whole number from 1 to 8, not 0"),
    ],
)
def test_bad_arguments_are_refused(pipeline, tmp_path, changed, message):
    options = {**SETTINGS, **changed}
    with pytest.raises(ValueError, match=message):
        measure_sensitivity(pipeline, options.pop("prompts", PROMPTS), tmp_path, **options)
    assert not list(tmp_path.iterdir())
