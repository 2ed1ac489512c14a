"""From a pipeline's folder and prompts to bits by layer, and to a packed folder of that average."""

import json

import pytest
from diffusers import StableDiffusionPipeline
from tiny_stable_diffusion import make_pipeline

from pocket_diffusers.hub_models.assignment_bitsfusion import weight_counts
from pocket_diffusers.hub_models.layers.time_embedding_cache import cached_widths, replaced_layers
from pocket_diffusers.hub_models.quantizer_bitsfusion import average_bits
from pocket_diffusers.pipelines.calibration_bitsfusion import calibrated_bits
from pocket_diffusers.pipelines.quantization_bitsfusion import quantize_folder
from pocket_diffusers.pipelines.sensitivity_bitsfusion import RESULTS

PROMPTS = ["a red cube", "two green cone"]
SETTINGS = {"iterations": 1, "learning_rate": 1e-4, "batch_size": 2, "steps": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("pipeline")
    make_pipeline().save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("sensitivity")


def test_bits_meet_the_average_and_make_a_folder(folder, cache, tmp_path):
    bits = calibrated_bits(folder, PROMPTS, 3.5, cache, **SETTINGS)
    weights = weight_counts(make_pipeline().unet)
    assert list(bits) == list(weights) and bits["conv_in"] == bits["time_embedding.linear_1"] == 8
    assert 3.3 < average_bits(weights, bits) <= 3.5
    measured = (cache / RESULTS).stat().st_mtime_ns
    assert calibrated_bits(folder, PROMPTS, 3.5, cache, **SETTINGS) == bits
    assert (cache / RESULTS).stat().st_mtime_ns == measured
    (tmp_path / "recipe.json").write_text(json.dumps(bits))
    done = quantize_folder(folder, tmp_path / "packed", recipe=tmp_path / "recipe.json")
    assert done.average_bits == pytest.approx(average_bits(weights, bits))
    StableDiffusionPipeline.from_pretrained(tmp_path / "packed")


def test_a_cache_of_time_embeddings_counts(folder, cache):
    timesteps = [1, 501]
    bits = calibrated_bits(folder, PROMPTS, 3.5, cache, **SETTINGS, cached_timesteps=timesteps)
    unet = make_pipeline().unet
    weights, replaced = weight_counts(unet), replaced_layers(unet)
    assert set(bits) == set(weights) - set(replaced)
    assert 3.3 < average_bits(weights, bits, replaced, 2 * cached_widths(unet)) <= 3.5


def test_a_target_that_cannot_be_met_is_refused_before_anything_is_drawn(folder, tmp_path):
    with pytest.raises(ValueError, match=r"the average must be at least \d\.\d+ bits for these layers, not 1.6"):
        calibrated_bits(folder, PROMPTS, 1.6, tmp_path / "cache", **SETTINGS)
    assert not (tmp_path / "cache").exists()


def test_what_is_no_pipeline_with_a_unet_of_prompts_is_refused(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model_index.json is missing"):
        calibrated_bits(folder / "unet", PROMPTS, 3, tmp_path / "cache", **SETTINGS)
    (tmp_path / "model_index.json").write_text('{"_class_name": "Nothing"}')
    with pytest.raises(ValueError, match="_class_name of .* must be a pipeline of diffusers or of pocket_diffusers"):
        calibrated_bits(tmp_path, PROMPTS, 3, tmp_path / "cache", **SETTINGS)
