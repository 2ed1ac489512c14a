"""`pocket quantize --train`: what two steps of a tiny Stable Diffusion leave, diffusers as the oracle, and refusals."""

import json
import math
import shutil
from pathlib import Path

import datasets
import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel, UNet2DModel
from PIL import Image
from safetensors.torch import load_file
from tiny_stable_diffusion import make_pipeline

from pocket_diffusers.pipelines import quantization_choice_bitsfusion
from pocket_diffusers.pipelines.quantization_bitsfusion import quantize_folder
from pocket_diffusers.training import quantization_bitsfusion
from pocket_diffusers.training.quantization_bitsfusion import quantize_by_training, training_folder
from pocket_diffusers.training.training_chain import read_chain

WEIGHTS = "diffusion_pytorch_model.safetensors"
RECIPE = {"conv_in": 8, "down_blocks.0.resnets.0.conv1": 1}
TINY = {"steps": "2", "batch_size": "2", "image_size": "8"}
STEPS_OF_5 = [801, 601, 401, 201, 1]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A pipeline with a file that is no model's, four captioned pictures, and a recipe."""
    place = tmp_path_factory.mktemp("given")
    make_pipeline().save_pretrained(place / "sd")
    (place / "sd" / "notes.txt").write_text("mine")
    (place / "pictures").mkdir()
    lines = []
    for i in range(4):
        Image.new("RGB", (11, 9), (60 * i, 90, 200)).save(place / "pictures" / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "text": "a red cube" if i % 2 else "two"}))
    (place / "pictures" / "metadata.jsonl").write_text("\n".join(lines))
    (place / "bits.json").write_text(json.dumps(RECIPE))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield place


def trained(place: Path, target: Path, **changed):
    given = {
        "data": str(place / "pictures"), "bits": 2, "recipe": place / "bits.json", "cache_steps": 5, "settings": TINY,
    }  # fmt: skip
    return quantize_by_training(place / "sd", target, **{**given, **changed})


@pytest.fixture(scope="module")
def result(place):
    return trained(place, place / "results" / "out"), place / "results" / "out"


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_the_folder_is_the_user_s_with_a_packed_unet(place, result):
    before, after = bytes_of(place / "sd"), bytes_of(result[1])
    added = {"run.json", "training.json"}
    assert after.keys() == before.keys() | added
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"unet/config.json", f"unet/{WEIGHTS}"}
    own, packed = (json.loads(files["unet/config.json"]) for files in (before, after))
    quantization = packed.pop("quantization_config")
    assert packed == own and quantization["cached_timesteps"] == STEPS_OF_5
    assert (
        after[f"unet/{WEIGHTS}"] == (training_folder(result[1]) / "finetune" / "model" / "unet" / WEIGHTS).read_bytes()
    )
    assert not [path for path in result[1].parent.iterdir() if path.name.startswith(".")]


def test_plain_diffusers_draws_with_it(result):
    pipeline = StableDiffusionPipeline.from_pretrained(result[1], safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    draw = {"num_inference_steps": 5, "generator": torch.Generator().manual_seed(0), "output_type": "pt"}
    assert pipeline("a red cube", **draw).images.isfinite().all()
    layers = {name: module.levels.bits for name, module in pipeline.unet.named_modules() if hasattr(module, "levels")}
    assert {name: bits for name, bits in layers.items() if bits != 2} == RECIPE | {"conv_out": 8} and len(layers) > 15


def test_numbers_are_those_of_the_weights(place, result):
    done, out = result
    plain = load_file(place / "sd" / "unet" / WEIGHTS)
    packed = dict(UNet2DConditionModel.from_pretrained(out / "unet").named_modules())
    layers = {name: module.rounded_weight() for name, module in packed.items() if hasattr(module, "levels")}
    error = sum(float((plain[f"{name}.weight"] - weight).square().sum()) for name, weight in layers.items())
    whole = sum(float(plain[f"{name}.weight"].square().sum()) for name in layers)
    assert done.relative_error == pytest.approx(math.sqrt(error / whole), rel=1e-5)
    assert done.bytes_before == (place / "sd" / "unet" / WEIGHTS).stat().st_size
    assert done.bytes_after == (out / "unet" / WEIGHTS).stat().st_size < done.bytes_before / 2
    assert done.layers == len(layers) < done.layers_in_all and done.cached_timesteps == 5
    assert done.trained and done.output_error > 0
    assert "will not hold" not in done.told(out) and 'StableDiffusionPipeline.from_pretrained("' in done.told(out)
    record = json.loads((out / "run.json").read_text())["inputs"]
    assert (record["source"], record["settings"], record["result"]["trained"]) == ("sd", TINY, True)


def test_its_weights_have_learnt(place, result):
    """Two steps of Adam move every scale, which rounding alone sets to the same value each time."""
    quantize_folder(place / "sd", place / "results" / "rounded", 2, place / "bits.json", cache_steps=5)
    learnt, rounded = (load_file(place / "results" / name / "unet" / WEIGHTS) for name in ("out", "rounded"))
    scales = [name for name in rounded if name.endswith(".scales")]
    assert learnt.keys() == rounded.keys() and torch.equal(
        *(each["time_proj.projections"] for each in (learnt, rounded))
    )
    assert sum(not torch.equal(learnt[name], rounded[name]) for name in scales) > len(scales) / 2


def test_the_record_is_the_chain_of_both_stages(result):
    distill, finetune = read_chain(result[1] / "training.json")
    assert [distill["stage"], finetune["stage"]] == ["distill", "finetune"]
    assert distill["preset"] == finetune["preset"] == "paper" and distill["settings"]["steps"] == 2
    assert finetune["digest_in"]["distilled"] == distill["digest_out"]


def test_a_stopped_training_goes_on_to_the_same_result(place, result, tmp_path, monkeypatch):
    real = quantization_bitsfusion.run

    def stopped(stage, *given, **options):
        if stage == "finetune":
            raise KeyboardInterrupt
        return real(stage, *given, **options)

    monkeypatch.setattr(quantization_bitsfusion, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        trained(place, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out-training"]
    checkpoint = next((tmp_path / "out-training" / "distill" / "checkpoints").iterdir())
    made = checkpoint.stat().st_mtime_ns
    monkeypatch.undo()
    trained(place, tmp_path / "out", settings=TINY | {"save_every": "1"})
    assert checkpoint.stat().st_mtime_ns == made
    name = f"unet/{WEIGHTS}"
    assert bytes_of(tmp_path / "out")[name] == bytes_of(result[1])[name]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"bits": 3}, "other bits"),
        ({"recipe": None, "settings": TINY | {"steps": "3"}}, "other bits and settings"),
        ({"cache_steps": 4}, "other cache_steps"),
        ({"data": "owner/pictures"}, "other data"),
    ],
)
def test_another_training_is_not_gone_on_with(place, result, changed, named):
    with pytest.raises(ValueError, match=rf"out-training holds a training with {named}: remove it to begin anew, or"):
        trained(place, result[1], overwrite=True, **changed)
    assert (training_folder(result[1]) / "finetune" / "training.json").is_file()


def test_a_folder_of_the_user_s_is_left_alone(place, tmp_path):
    (tmp_path / "out-training").mkdir()
    (tmp_path / "out-training" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="out-training is already there and no training of out: choose another"):
        trained(place, tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out-training", "notes.txt"]


def test_calibrated_bits_are_trained_too(place, tmp_path, monkeypatch):
    layers = ["conv_in", "conv_out", "up_blocks.0.resnets.0.conv1"]
    asked = []

    def calibrated(folder, prompts, bits, measured, *, cached_timesteps, progress):
        asked.append((folder, prompts, bits, measured, cached_timesteps))
        return dict.fromkeys(layers, 3)

    monkeypatch.setattr(quantization_choice_bitsfusion, "calibrated_bits", calibrated)
    (tmp_path / "prompts.txt").write_text("a red cube\ntwo\n")
    done = trained(place, tmp_path / "out", bits=3.5, recipe=None, calibrate=tmp_path / "prompts.txt")
    assert asked == [(place / "sd", ["a red cube", "two"], 3.5, tmp_path / "sensitivity", STEPS_OF_5)]
    config = json.loads((tmp_path / "out" / "unet" / "config.json").read_text())["quantization_config"]
    assert config["bits"] == dict.fromkeys(layers, 3) and done.layers == 3


# What cannot be trained


def other_denoiser(folder: Path) -> None:
    unet = UNet2DModel(
        sample_size=8, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4, add_attention=False,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    )  # fmt: skip
    shutil.rmtree(folder)
    DDIMPipeline(unet, DDIMScheduler()).save_pretrained(folder)


def alone(folder: Path) -> None:
    shutil.copytree(folder / "unet", folder.with_name("unet"))
    shutil.rmtree(folder)
    folder.with_name("unet").rename(folder)


def of_two_conditions(folder: Path) -> None:
    config = json.loads((folder / "unet" / "config.json").read_text())
    (folder / "unet" / "config.json").write_text(json.dumps({**config, "class_embed_type": "timestep"}))


def other_encoder(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "text_encoder": ["transformers", "T5EncoderModel"]}))


def half(folder: Path) -> None:
    (folder / "unet" / WEIGHTS).rename(folder / "unet" / "diffusion_pytorch_model.fp16.safetensors")


WANTED = "a model to train must be the UNet2DConditionModel of a pipeline like Stable Diffusion 1.5's, not "


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (other_denoiser, f"{WANTED}'UNet2DModel, unet of a DDIMPipeline'"),
        (alone, f"{WANTED}'UNet2DConditionModel without a pipeline'"),
        (of_two_conditions, "conditions of a UNet to train must be a text alone, not 'by its class_embed_type'"),
        (other_encoder, "text_encoder of a pipeline to train must be a CLIPTextModel, not 'T5EncoderModel'"),
        (half, "weights to train must be there without variant, not \"of variant 'fp16' alone\""),
    ],
    ids=["denoiser", "alone", "conditions", "encoder", "variant"],
)
def test_models_that_are_not_trained(place, tmp_path, change, sentence):
    shutil.copytree(place / "sd", tmp_path / "sd")
    change(tmp_path / "sd")
    with pytest.raises(ValueError, match=sentence):
        quantize_by_training(tmp_path / "sd", tmp_path / "out", str(place / "pictures"), settings=TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["sd"]


@pytest.mark.parametrize(
    ("changed", "error", "sentence"),
    [
        ({"settings": {"step": "2"}}, ValueError, "setting of the training 'step' is unknown: .*steps"),
        ({"settings": {"base": "x"}}, ValueError, "setting of the training 'base' is unknown"),
        ({"settings": {"steps": "many"}}, ValueError, "steps must be a whole number, not 'many'"),
        ({"settings": {"feature_weight": "-1"}}, ValueError, "feature_weight must be at least 0, not -1"),
        ({"data": "/none"}, FileNotFoundError, "source '/none' is no folder"),
        ({"data": ""}, ValueError, "source must be your captioned pictures"),
        ({"bits": 9}, ValueError, "bits must be a whole number from 1 to 8"),
        ({"cache_steps": 0}, ValueError, "cache_steps must be a whole number from 1 to 1000, not 0"),
        ({"settings": TINY | {"image_size": "12"}}, ValueError, "image_size must be a multiple of 8, not 12"),
    ],
    ids=["name", "option", "no-number", "range", "no-data", "data-blank", "bits", "cache", "size"],
)
def test_what_is_asked_wrongly_leaves_nothing(place, tmp_path, changed, error, sentence):
    with pytest.raises(error, match=sentence):
        trained(place, tmp_path / "out", **changed)
    assert not list(tmp_path.iterdir())
