"""`pocket quantize`: diffusers as the oracle of its files, numbers by hand, memory, and refusals."""

import errno
import json
import math
import os
import re
import resource
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    PNDMScheduler,
    SD3Transformer2DModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from safetensors.torch import load_file, save_file
from tiny_stable_diffusion import make_pipeline
from torch import nn

from pocket_diffusers import SnapGenPipeline, checkpoint
from pocket_diffusers.hub_models.quantizer_bitsfusion import BitsFusionConfig
from pocket_diffusers.pipelines import quantization_choice_bitsfusion, sharded_weights, unfinished_work
from pocket_diffusers.pipelines.calibration_bitsfusion import calibrated_bits
from pocket_diffusers.pipelines.output_error import noise_inputs
from pocket_diffusers.pipelines.quantization_bitsfusion import quantize_folder

WEIGHTS = "diffusion_pytorch_model.safetensors"
RECIPE = {"conv_in": 8, "mid_block.resnets.0.conv1": 1}


def conditional_unet(*widths: int, layers_per_block: int = 1) -> UNet2DConditionModel:
    """Shaped like Stable Diffusion's."""
    torch.manual_seed(0)
    others = len(widths) - 1
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=widths, layers_per_block=layers_per_block, cross_attention_dim=12,
        attention_head_dim=4, norm_num_groups=4,
        down_block_types=(*["CrossAttnDownBlock2D"] * others, "DownBlock2D"),
        up_block_types=("UpBlock2D", *["CrossAttnUpBlock2D"] * others),
    ).eval()  # fmt: skip


def answer(unet: nn.Module, timestep: float | torch.Tensor = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x, text = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 5, 12, generator=generator)
    with torch.no_grad():
        return unet(x, timestep, text).sample


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("models") / "unet"
    conditional_unet(16, 32).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """With fewer layers, where any serve."""
    place = tmp_path_factory.mktemp("models") / "unet"
    conditional_unet(16).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def shaped_like_sd(tmp_path_factory) -> Path:
    """A pipeline whose UNet has the layers of Stable Diffusion 1.5, narrow ones."""
    place = tmp_path_factory.mktemp("shaped")
    conditional_unet(8, 16, 32, 32, layers_per_block=2).save_pretrained(place / "sd")
    return conditional_pipeline(place / "source", place / "sd", PNDMScheduler(**PNDM))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "bits.json"
    path.write_text(json.dumps(RECIPE))
    return path


def test_diffusers_packs_and_saves_the_same_bytes(folder, recipe, tmp_path):
    quantize_folder(folder, tmp_path / "ours", 3, recipe)
    loaded = UNet2DConditionModel.from_pretrained(folder, quantization_config=BitsFusionConfig(RECIPE, 3))
    loaded.save_pretrained(tmp_path / "theirs")
    assert (tmp_path / "ours" / WEIGHTS).read_bytes() == (tmp_path / "theirs" / WEIGHTS).read_bytes()
    mine, theirs = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("ours", "theirs"))
    assert mine == {key: value for key, value in theirs.items() if key != "_name_or_path"}
    assert torch.equal(answer(UNet2DConditionModel.from_pretrained(tmp_path / "ours")), answer(loaded))


def test_numbers_of_the_result(folder, recipe, tmp_path):
    parts = []
    done = quantize_folder(folder, tmp_path / "out", 2, recipe, progress=parts.append)
    plain = dict(UNet2DConditionModel.from_pretrained(folder).named_modules())
    packed = dict(UNet2DConditionModel.from_pretrained(tmp_path / "out").named_modules())
    before = {name: m.weight.detach().double() for name, m in plain.items() if isinstance(m, nn.Linear | nn.Conv2d)}
    after = {name: packed[name].weight.double() for name in before}
    levels = {1: 3, 2: 5, 8: 256}
    chosen = {**dict.fromkeys(before, 2), "conv_out": 8, **RECIPE}
    bits = sum(math.log2(levels[chosen[name]]) * value.numel() for name, value in before.items())
    error = sum(float((before[name] - after[name]).square().sum()) for name in before)
    whole = sum(float(value.square().sum()) for value in before.values())
    assert done.layers == done.layers_in_all == len(before) > 40
    assert done.average_bits == pytest.approx(bits / sum(value.numel() for value in before.values()), rel=1e-12)
    assert done.packed_bits == done.average_bits
    assert done.relative_error == pytest.approx(math.sqrt(error / whole), rel=1e-5)
    assert done.bytes_before == (folder / WEIGHTS).stat().st_size
    assert done.bytes_after == (tmp_path / "out" / WEIGHTS).stat().st_size < done.bytes_before / 5
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["inputs"]["bits"] == 2 and record["inputs"]["result"]["layers"] == done.layers
    assert sum(parts) == pytest.approx(1) and min(parts) > 0


def test_the_error_of_the_output_is_that_of_whole_models(folder, tmp_path):
    source = conditional_pipeline(tmp_path / "source", folder, PNDMScheduler(**PNDM))
    done = {steps: quantize_folder(source, tmp_path / str(steps), 2, cache_steps=steps) for steps in (None, 5)}
    for steps, timestep in ((None, 500), (5, 401)):  # the cache has 1, 201, 401, 601 and 801
        whole, packed = (
            UNet2DConditionModel.from_pretrained(place / "unet") for place in (source, tmp_path / str(steps))
        )
        with torch.no_grad():
            expected, found = (unet(**noise_inputs(whole, timestep)).sample for unet in (whole, packed))
        error = float((found - expected).norm() / expected.norm())
        assert done[steps].output_error == pytest.approx(error, rel=1e-4) and error > 0.05
    assert f"Relative error of the model's output on noise and random text: {error:.4f}" in done[5].told(tmp_path)


@pytest.mark.parametrize(("bits", "said"), [(2, True), (3, False), (4, False)])
def test_what_is_said_of_pictures(small, tmp_path, bits, said):
    text = quantize_folder(small, tmp_path / "out", bits).told(tmp_path / "out")
    assert ("Below 3 bits pictures will not hold without training" in text) == said
    assert "from diffusers import UNet2DConditionModel" in text


def test_half_precision_of_a_variant_stays_one(small, tmp_path):
    half = UNet2DConditionModel.from_pretrained(small).half()
    half.save_pretrained(tmp_path / "half", variant="fp16")
    half.float().save_pretrained(tmp_path / "rounded")
    quantize_folder(tmp_path / "half", tmp_path / "out")
    quantize_folder(tmp_path / "rounded", tmp_path / "oracle")
    stored = load_file(tmp_path / "out" / "diffusion_pytorch_model.fp16.safetensors")
    oracle = load_file(tmp_path / "oracle" / WEIGHTS)
    assert stored.keys() == oracle.keys() and all(
        torch.equal(stored[key].to(oracle[key]), oracle[key]) for key in oracle
    )
    assert {value.dtype for value in stored.values()} == {torch.int64, torch.float16}
    read = UNet2DConditionModel.from_pretrained(tmp_path / "out", variant="fp16")
    assert torch.equal(answer(read), answer(UNet2DConditionModel.from_pretrained(tmp_path / "oracle")))


def test_shards_in_and_out(folder, tmp_path):
    UNet2DConditionModel.from_pretrained(folder).save_pretrained(tmp_path / "shards", max_shard_size="100KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 5
    done = quantize_folder(tmp_path / "shards", tmp_path / "out", shard_bytes=50_000)
    quantize_folder(folder, tmp_path / "oracle")
    files = list((tmp_path / "out").glob("*-of-*.safetensors"))
    assert len(files) > 2 and done.bytes_after == sum(file.stat().st_size for file in files)
    read, oracle = (UNet2DConditionModel.from_pretrained(tmp_path / name) for name in ("out", "oracle"))
    assert torch.equal(answer(read), answer(oracle))


def test_a_pipeline_s_denoiser_is_packed_and_the_rest_copied(tmp_path):
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8, block_out_channels=(16,), layers_per_block=1, norm_num_groups=8, add_attention=False,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    )  # fmt: skip
    source, out = tmp_path / "source", tmp_path / "out"
    DDIMPipeline(unet, DDIMScheduler()).save_pretrained(source)
    save_file({"all": torch.zeros(9)}, source / "all-in-one.safetensors")
    (source / "notes").mkdir()
    (source / "notes" / "a.txt").write_text("mine")
    (source / ".cache").mkdir()
    (source / ".cache" / "b.txt").write_text("a machine's")
    (tmp_path / "linked.json").write_text("{}")
    (source / "linked.json").symlink_to(tmp_path / "linked.json")  # as the Hub's cache has them
    done = quantize_folder(source, out)
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    copied = {"model_index.json", "scheduler/scheduler_config.json", "notes/a.txt", "linked.json"}
    assert files == copied | {"run.json", "unet/config.json", f"unet/{WEIGHTS}"}
    assert all((out / name).read_bytes() == (source / name).read_bytes() for name in copied)
    assert not (out / "linked.json").is_symlink()
    pipeline, oracle = DiffusionPipeline.from_pretrained(out), DiffusionPipeline.from_pretrained(source)
    oracle.unet = UNet2DModel.from_pretrained(source / "unet", quantization_config=BitsFusionConfig())
    drawn = [
        p(num_inference_steps=2, generator=torch.Generator().manual_seed(1), output_type="np").images
        for p in (pipeline, oracle)
    ]
    assert (drawn[0] == drawn[1]).all() and "DDIMPipeline.from_pretrained" in done.told(out)


def test_a_pipeline_of_this_package(tmp_path):
    done = quantize_folder(checkpoint("snapgen-nano"), tmp_path / "out")
    assert "from pocket_diffusers import SnapGenPipeline" in done.told(tmp_path / "out")
    pipeline = SnapGenPipeline.from_pretrained(tmp_path / "out")
    assert pipeline.unet.config["quantization_config"].default_bits == 4
    assert pipeline("a red cube", num_inference_steps=1).images[0].size[0] > 8


def test_transformers_are_packed_by_the_classes_of_their_layers(tmp_path):
    torch.manual_seed(0)
    SD3Transformer2DModel(
        sample_size=8, num_layers=1, attention_head_dim=8, num_attention_heads=2, joint_attention_dim=12,
        caption_projection_dim=16, pooled_projection_dim=10, out_channels=4, in_channels=4, pos_embed_max_size=8,
    ).save_pretrained(tmp_path / "transformer")  # fmt: skip
    done = quantize_folder(tmp_path / "transformer", tmp_path / "out", 8)
    stored = load_file(tmp_path / "out" / WEIGHTS)
    assert done.layers == sum(key.endswith(".words") for key in stored) > 10 and done.average_bits == 8
    assert not any(key == "pos_embed.pos_embed.words" for key in stored) and done.relative_error < 0.01
    SD3Transformer2DModel.from_pretrained(tmp_path / "out")


def test_the_published_recipe_is_for_the_layers_of_stable_diffusion_1_5(folder, shaped_like_sd, tmp_path):
    done = quantize_folder(shaped_like_sd / "unet", tmp_path / "out", 1.99)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["quantization_config"]["bits"] == BitsFusionConfig.published().bits
    left = done.layers_in_all - done.layers
    assert (done.layers, left) == (258, 22 + 2)  # those of time: a projection for each of 22 blocks, and two before
    assert 1.99 < done.packed_bits < done.average_bits
    UNet2DConditionModel.from_pretrained(tmp_path / "out")
    what = r"bits 1.99 is the published recipe for Stable Diffusion 1.5's UNet, which .*unet does not hold: .*nearest: "
    with pytest.raises(ValueError, match=what):
        quantize_folder(folder, tmp_path / "other", 1.99)
    assert not (tmp_path / "other").exists()


# The cache of time embeddings


def conditional_pipeline(place: Path, unet: Path, scheduler) -> Path:
    """A folder with what the cache is made of: diffusers' pipelines of such UNets have text encoders too."""
    shutil.copytree(unet, place / "unet")
    scheduler.save_pretrained(place / "scheduler")
    index = {"_class_name": "StableDiffusionPipeline", "scheduler": ["diffusers", type(scheduler).__name__]}
    (place / "model_index.json").write_text(json.dumps({**index, "unet": ["diffusers", "UNet2DConditionModel"]}))
    return place


PNDM = {"skip_prk_steps": True, "steps_offset": 1}  # as of Stable Diffusion 1.5


def test_a_cache_of_the_scheduler_s_timesteps_is_that_of_diffusers(folder, recipe, tmp_path):
    scheduler = PNDMScheduler(**PNDM)
    source = conditional_pipeline(tmp_path / "source", folder, scheduler)
    done = quantize_folder(source, tmp_path / "ours", 3, recipe, cache_steps=50)
    scheduler.set_timesteps(50)
    steps = scheduler.timesteps.tolist()
    assert len(steps) == 51 and done.cached_timesteps == len(set(steps)) == 50
    config = BitsFusionConfig(RECIPE, 3, cached_timesteps=sorted(set(steps), reverse=True))
    loaded = UNet2DConditionModel.from_pretrained(folder, quantization_config=config)
    loaded.save_pretrained(tmp_path / "theirs")
    assert (tmp_path / "ours/unet" / WEIGHTS).read_bytes() == (tmp_path / "theirs" / WEIGHTS).read_bytes()
    mine, theirs = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("ours/unet", "theirs"))
    assert mine == {key: value for key, value in theirs.items() if key != "_name_or_path"}
    read = UNet2DConditionModel.from_pretrained(tmp_path / "ours/unet")
    assert all(answer(read, step).isfinite().all() for step in steps)
    with pytest.raises(ValueError, match=r"one of the 50 that are cached \(981, 961, 941, ..., 41, 21, 1\), not 7: "):
        answer(read, 7)
    assert "Time embeddings of 50 timesteps are cached, others refused" in done.told(tmp_path / "ours")
    assert json.loads((tmp_path / "ours/run.json").read_text())["inputs"]["cache_steps"] == 50


def test_timesteps_between_whole_numbers_survive_the_file(small, tmp_path):
    scheduler = EulerDiscreteScheduler(timestep_spacing="linspace")
    source = conditional_pipeline(tmp_path / "source", small, scheduler)
    quantize_folder(source, tmp_path / "out", cache_steps=7)
    read = UNet2DConditionModel.from_pretrained(tmp_path / "out/unet")
    scheduler.set_timesteps(7)
    assert len(scheduler.timesteps) == 7 and any(step % 1 for step in scheduler.timesteps.tolist())
    assert all(answer(read, step).isfinite().all() for step in scheduler.timesteps)


def test_a_model_alone_has_a_cache_of_every_timestep(folder, tmp_path):
    cached = quantize_folder(folder, tmp_path / "out", 8, cache_steps=1000)
    plain = quantize_folder(folder, tmp_path / "plain", 8)
    read = UNet2DConditionModel.from_pretrained(tmp_path / "out")
    kept = BitsFusionConfig(default_bits=8, modules_to_not_convert=["time_embedding", "time_emb_proj"])
    oracle = UNet2DConditionModel.from_pretrained(folder, quantization_config=kept)
    for step in (0, 333, 999):
        expected = answer(oracle, step)
        assert float((answer(read, step) - expected).norm() / expected.norm()) < 2**-10
    layers = load_file(folder / WEIGHTS)
    widths = sum(len(value) for key, value in layers.items() if key.endswith("time_emb_proj.weight"))
    weights = sum(value.numel() for key, value in layers.items() if key.endswith(".weight") and value.dim() > 1)
    replaced = sum(value.numel() for key, value in layers.items() if "time_emb" in key and value.dim() > 1)
    assert cached.average_bits == (8 * (weights - replaced) + 16 * 1000 * widths) / weights
    assert (plain.average_bits, plain.layers - cached.layers) == (8, 2 + 2 + 2 + 4)


def test_bits_of_the_published_recipe_with_its_cache(shaped_like_sd, tmp_path):
    done = quantize_folder(shaped_like_sd, tmp_path / "out", 1.99, cache_steps=2)
    assert (done.layers, done.layers_in_all) == (258, 258 + 22 + 2)
    assert done.average_bits < done.packed_bits  # with the layers of time it is more, since those count 32 bits
    UNet2DConditionModel.from_pretrained(tmp_path / "out/unet")


@pytest.mark.parametrize(
    ("steps", "scheduler", "message"),
    [
        (50, None, "cache_steps must be 1000 for a model without the pipeline whose scheduler .*, not 50"),
        (0, PNDMScheduler(), "cache_steps must be a whole number from 1 to 1000, not 0"),
        (1001, PNDMScheduler(), "cache_steps must be a whole number from 1 to 1000, not 1001"),
        (101, DDIMScheduler(num_train_timesteps=100), "cache_steps must be a whole number from 1 to 100, not 101"),
        (True, PNDMScheduler(), "cache_steps must be a whole number from 1 to 1000, not True"),
    ],
    ids=["alone", "none", "too-many", "short-scheduler", "no-number"],
)
def test_steps_that_the_scheduler_cannot_take(folder, tmp_path, steps, scheduler, message):
    source = folder if scheduler is None else conditional_pipeline(tmp_path / "source", folder, scheduler)
    with pytest.raises(ValueError, match=message):
        quantize_folder(source, tmp_path / "out", cache_steps=steps)
    assert not (tmp_path / "out").exists()


def test_models_and_pipelines_without_a_cache_to_make(folder, tmp_path):
    source = conditional_pipeline(tmp_path / "source", folder, PNDMScheduler(**PNDM))
    index = json.loads((source / "model_index.json").read_text())
    (source / "model_index.json").write_text(json.dumps({**index, "scheduler": ["other", "OwnScheduler"]}))
    with pytest.raises(ValueError, match="model_index.json must name a scheduler of diffusers .*, not 'OwnScheduler'"):
        quantize_folder(source, tmp_path / "out", cache_steps=50)
    shutil.copytree(folder, tmp_path / "model")
    _with_config(tmp_path / "model", time_cond_proj_dim=8)
    with pytest.raises(
        ValueError, match="^the time embedding of UNet2DConditionModel must depend on the timestep alone"
    ):
        quantize_folder(tmp_path / "model", tmp_path / "out", cache_steps=1000)
    _with_config(tmp_path / "model", time_cond_proj_dim=None)
    _without_tensor(tmp_path / "model", "mid_block.resnets.0.time_emb_proj.bias")
    with pytest.raises(ValueError, match="tensor mid_block.resnets.0.time_emb_proj.bias is missing"):
        quantize_folder(tmp_path / "model", tmp_path / "out", cache_steps=1000)
    assert not (tmp_path / "out").exists()


MEASURED = """
import re, sys
from pathlib import Path
import torch
from pocket_diffusers.pipelines.quantization_bitsfusion import quantize_folder

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

quantize_folder(sys.argv[1], sys.argv[2])  # what is imported and compiled at first use
before = peak()
done = quantize_folder(sys.argv[3], sys.argv[4])
print(peak() - before, done.bytes_before, done.bytes_after)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read as Linux tells it")
def test_the_whole_model_is_never_in_memory(folder, tmp_path):
    torch.manual_seed(0)
    with torch.device("meta"):
        model = SD3Transformer2DModel(
            sample_size=8, num_layers=7, attention_head_dim=64, num_attention_heads=8, joint_attention_dim=64,
            caption_projection_dim=512, pooled_projection_dim=64, out_channels=4, in_channels=4, pos_embed_max_size=8,
        )  # fmt: skip
    model.save_config(tmp_path / "large")
    weights = {key: torch.full(value.shape, 0.5) for key, value in model.state_dict().items()}
    save_file(weights, tmp_path / "large" / WEIGHTS)
    largest = max(value.nbytes for value in weights.values())
    del weights
    arguments = [folder, tmp_path / "small", tmp_path / "large", tmp_path / "out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, arguments)], capture_output=True, text=True, check=True,
        env=environment,
    )  # fmt: skip
    more, before, after = map(int, ran.stdout.split())
    shutil.rmtree(tmp_path / "large")
    allowed = after + 8 * largest
    assert before > 2 * allowed, "the model must be large enough to tell"
    assert more <= allowed


@pytest.mark.parametrize(
    ("bits", "content", "message"),
    [
        (0, None, "bits must be a whole number from 1 to 8, or 1.99, not 0"),
        (9.0, None, "bits must be a whole number from 1 to 8, or 1.99, not 9.0"),
        (2.5, None, "bits must be a whole number from 1 to 8, or 1.99, not 2.5"),
        (math.nan, None, "bits must be a whole number from 1 to 8, or 1.99, not nan"),
        (1.99, "{}", "bits must be a whole number from 1 to 8 beside a recipe, not 1.99"),
        (4, '{"conv_in": 9}', "bits.json: conv_in: bits must be a whole number from 1 to 8, not 9"),
        (4, '{"conv_in": "2"}', "bits.json: conv_in: bits must be a whole number from 1 to 8, not '2'"),
        (4, '{"conv_inn": 2}', "bits.json: .*not 'conv_inn' \\(nearest: 'conv_in'\\)"),
        (4, "[]", "bits.json must hold a JSON object"),
        (4, '{"conv_in": 2', "bits.json is truncated or no JSON file"),
    ],
    ids=["0", "9", "2.5", "nan", "1.99-and-recipe", "recipe-9", "recipe-text", "recipe-layer", "list", "cut"],
)
def test_bad_bits(folder, tmp_path, bits, content, message):
    recipe = None
    if content is not None:
        recipe = tmp_path / "bits.json"
        recipe.write_text(content)
    with pytest.raises(ValueError, match=message):
        quantize_folder(folder, tmp_path / "out", bits, recipe)
    assert not (tmp_path / "out").exists()


def _with_tensor(folder: Path, key: str, change) -> None:
    weights = load_file(folder / WEIGHTS)
    weights[key] = change(weights[key])
    save_file(weights, folder / WEIGHTS)


def _without_tensor(folder: Path, key: str) -> None:
    weights = load_file(folder / WEIGHTS)
    del weights[key]
    save_file(weights, folder / WEIGHTS)


def _as_pickle(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "diffusion_pytorch_model.bin")


def _cut(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, 200_000)


def _with_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


FAULTS = {
    "no-model": (lambda f: (f / "config.json").unlink(), "holds no model: neither model_index.json .* nor config.json"),
    "no-weights": (lambda f: (f / WEIGHTS).unlink(), "diffusion_pytorch_model.safetensors is missing"),
    "pickle": (_as_pickle, "diffusion_pytorch_model.bin is a pickle"),
    "truncated": (_cut, "diffusion_pytorch_model.safetensors is truncated"),
    "no-denoiser": (
        lambda f: (f / "model_index.json").write_text('{"vae": ["diffusers", "AutoencoderKL"], "unet": [null, null]}'),
        "model_index.json must name a unet or a transformer, which it does not",
    ),
    "denoiser-missing": (
        lambda f: (f / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}'),
        "unet/config.json is missing",
    ),
    "unknown-class": (lambda f: _with_config(f, _class_name="Net"), "must name a model of diffusers .*, not 'Net'"),
    "other-class": (lambda f: _with_config(f, _class_name="DDIMScheduler"), "must name a model .*'DDIMScheduler'"),
    "other-shape": (
        lambda f: _with_config(f, in_channels=5),
        r"tensor conv_in.weight must be \[16, 5, 3, 3\], not \[16, 4, 3, 3\]",
    ),
    "missing-tensor": (lambda f: _without_tensor(f, "conv_out.weight"), "tensor conv_out.weight is missing"),
    "nan-weight": (
        lambda f: _with_tensor(f, "conv_out.weight", lambda w: w * math.nan),
        "tensor conv_out.weight must be finite, not nan",
    ),
    "infinite-bias": (
        lambda f: _with_tensor(f, "conv_out.bias", lambda w: w + math.inf),
        "tensor conv_out.bias must be finite, not inf",
    ),
    "whole-numbers": (
        lambda f: _with_tensor(f, "conv_out.weight", lambda w: w.to(torch.int8)),
        "tensor conv_out.weight must be of floating-point numbers, not torch.int8",
    ),
    "too-large": (
        lambda f: _with_tensor(f, "conv_out.weight", lambda w: w + 1e9),
        "conv_out.weight: weights must be finite and at most",
    ),
    "quantised": (
        lambda f: _with_config(f, quantization_config={"quant_method": "gguf"}),
        "is quantised already, by gguf: give the folder that it was made of",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_models(folder, tmp_path, fault):
    damage, message = FAULTS[fault]
    shutil.copytree(folder, tmp_path / "model")
    damage(tmp_path / "model")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        quantize_folder(tmp_path / "model", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_our_own_result_is_not_quantised_again(small, tmp_path):
    quantize_folder(small, tmp_path / "out")
    with pytest.raises(ValueError, match="is quantised already, by bitsfusion"):
        quantize_folder(tmp_path / "out", tmp_path / "again")


def test_weights_of_zeros_stay_zeros(small, tmp_path):
    shutil.copytree(small, tmp_path / "model")
    _with_tensor(tmp_path / "model", "conv_out.weight", torch.zeros_like)
    quantize_folder(tmp_path / "model", tmp_path / "out", 1)
    assert not UNet2DConditionModel.from_pretrained(tmp_path / "out").conv_out.weight.any()


def test_outputs_that_must_not_be_written(small, tmp_path):
    shutil.copytree(small, tmp_path / "models" / "unet")
    source = tmp_path / "models" / "unet"
    for inside in (source, source / "out", tmp_path / "models"):
        with pytest.raises(ValueError, match=f"output must be a folder apart from .*, not {re.escape(str(inside))}"):
            quantize_folder(source, inside, overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("kept")
    with pytest.raises(FileExistsError, match="mine' is already there and no earlier result"):
        quantize_folder(source, tmp_path / "mine", overwrite=True)
    quantize_folder(source, tmp_path / "out", 4)
    with pytest.raises(FileExistsError, match="out' holds an earlier result"):
        quantize_folder(source, tmp_path / "out", 2)
    quantize_folder(source, tmp_path / "out", 2, overwrite=True)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]["default_bits"] == 2
    with pytest.raises(FileNotFoundError, match="none must be a folder"):
        quantize_folder(tmp_path / "none", tmp_path / "new")


# Interrupted runs


def content(folder: Path) -> dict[str, bytes]:
    """Files of a result but its record, which has date and duration."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "run.json"
    }


def stop_after(seconds: float):
    """Of the progress that it is told."""
    left = [seconds]

    def progress(part: float) -> None:
        left[0] -= part
        if left[0] < 0:
            raise KeyboardInterrupt

    return progress


def test_an_interrupted_run_goes_on_where_it_was(small, recipe, tmp_path):
    source = conditional_pipeline(tmp_path / "source", small, PNDMScheduler(**PNDM))
    oracle = quantize_folder(source, tmp_path / "oracle", 2, recipe, cache_steps=5, shard_bytes=4_000)
    for part in (0.3, 0.6):
        with pytest.raises(KeyboardInterrupt):
            quantize_folder(source, tmp_path / "out", 2, recipe, progress=stop_after(part), cache_steps=5)
        assert not (tmp_path / "out").exists()
    pieces = sorted((tmp_path / ".out.unfinished").glob("*.safetensors"))
    pieces[0].write_bytes(pieces[0].read_bytes()[:-1])  # as a failing disk may leave it
    parts = []
    done = quantize_folder(source, tmp_path / "out", 2, recipe, progress=parts.append, cache_steps=5, shard_bytes=4_000)
    assert 0.5 < parts[0] < 0.8 and sum(parts) == pytest.approx(1) and done == oracle
    assert content(tmp_path / "out") == content(tmp_path / "oracle") and len(content(tmp_path / "out")) > 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["oracle", "out", "source"]


@pytest.mark.parametrize("changed", ["bits", "recipe", "source"])
def test_a_run_of_other_settings_or_another_source_begins_anew(small, recipe, tmp_path, changed):
    source = shutil.copytree(small, tmp_path / "source")
    with pytest.raises(KeyboardInterrupt):
        quantize_folder(source, tmp_path / "out", 2, progress=stop_after(0.9))
    if changed == "source":
        _with_tensor(source, "conv_in.weight", lambda weight: weight * 2)
    arguments = (3 if changed == "bits" else 2, recipe if changed == "recipe" else None)
    parts = []
    quantize_folder(source, tmp_path / "out", *arguments, progress=parts.append)
    quantize_folder(source, tmp_path / "oracle", *arguments)
    assert parts[0] < 0.1 and content(tmp_path / "out") == content(tmp_path / "oracle")


KILLED = """
import os, signal, sys
from pathlib import Path
from pocket_diffusers.pipelines.diffusers_folder import DiffusersFolder
from pocket_diffusers.pipelines.quantization_bitsfusion import quantize_folder

def die(*given):
    os.kill(os.getpid(), signal.SIGKILL)

done = 0
def packing(part):
    global done
    done += part
    if done > 0.5:
        die()

for name, progress in {"packing": packing, "writing": lambda part: None}.items():
    child = os.fork()
    if not child:
        DiffusersFolder.copy_rest = die
        quantize_folder(sys.argv[1], Path(sys.argv[2]) / name, progress=progress)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_a_killed_run_leaves_no_half_target(small, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", KILLED, str(small), str(tmp_path)], env=environment, check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".packing.unfinished", ".writing.unfinished"]
    quantize_folder(small, tmp_path / "oracle")
    for name, kept in {"packing": 0.5, "writing": 1}.items():
        parts = []
        quantize_folder(small, tmp_path / name, progress=parts.append)
        assert parts[0] >= kept - 1e-9 and content(tmp_path / name) == content(tmp_path / "oracle")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["oracle", "packing", "writing"]


@pytest.mark.parametrize("place", ["pieces", "result"])
def test_a_disk_that_is_full_half_way(small, tmp_path, monkeypatch, place):
    module = unfinished_work if place == "pieces" else sharded_weights
    real, written = module.save_file, []

    def save_file(*given, **options):
        written.append(given)
        if len(written) > (60 if place == "pieces" else 2):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*given, **options)

    monkeypatch.setattr(module, "save_file", save_file)
    message = r"cannot write .*out: No space left on device\. What is done so far is in .*/\.out\.unfinished: run the"
    with pytest.raises(OSError, match=message):
        quantize_folder(small, tmp_path / "out", shard_bytes=6_000)
    assert [path.name for path in tmp_path.iterdir()] == [".out.unfinished"]
    monkeypatch.undo()
    parts = []
    quantize_folder(small, tmp_path / "out", progress=parts.append, shard_bytes=6_000)
    quantize_folder(small, tmp_path / "oracle", shard_bytes=6_000)
    assert parts[0] > 0.05 and content(tmp_path / "out") == content(tmp_path / "oracle")


def test_an_earlier_result_stays_until_the_next_is_whole(small, tmp_path):
    quantize_folder(small, tmp_path / "out", 2)
    before = content(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        quantize_folder(small, tmp_path / "out", 4, overwrite=True, progress=stop_after(0.5))
    assert content(tmp_path / "out") == before
    quantize_folder(small, tmp_path / "out", 4, overwrite=True)
    assert content(tmp_path / "out") != before


def test_two_runs_do_not_share_a_target(small, tmp_path):
    refused = []

    def progress(part: float) -> None:
        if not refused:
            with pytest.raises(OSError, match="out' is being written by another run: wait for it or stop it") as error:
                quantize_folder(small, tmp_path / "out")
            refused.append(error)

    quantize_folder(small, tmp_path / "out", progress=progress)
    assert refused and (tmp_path / "out" / WEIGHTS).is_file()


def test_a_full_disk_leaves_no_half_target(small, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, hard))
    try:
        with pytest.raises(OSError, match=r"cannot write .*out: .*[Ff]ile too large"):
            quantize_folder(small, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == [".out.unfinished"]


# Several models in a pipeline


def test_a_pipeline_with_two_denoisers(small, tmp_path):
    source = conditional_pipeline(tmp_path / "source", small, PNDMScheduler(**PNDM))
    shutil.copytree(small, source / "unet_2")
    index = json.loads((source / "model_index.json").read_text())
    (source / "model_index.json").write_text(json.dumps({**index, "unet_2": ["diffusers", "UNet2DConditionModel"]}))
    done = quantize_folder(source, tmp_path / "first", 2)
    told = done.told(tmp_path / "first")
    assert done.component == "unet" and "Left as they were: unet_2; --component NAME packs one of the result's" in told
    quantize_folder(tmp_path / "first", tmp_path / "both", 3, component="unet_2")
    quantize_folder(small, tmp_path / "oracle", 3)
    assert content(tmp_path / "both" / "unet_2") == content(tmp_path / "oracle")
    assert content(tmp_path / "both" / "unet") == content(tmp_path / "first" / "unet")
    with pytest.raises(ValueError, match="component must be one of unet, unet_2, not 'scheduler'"):
        quantize_folder(source, tmp_path / "none", component="scheduler")
    with pytest.raises(ValueError, match="component must be left out for a model without pipeline, not 'unet'"):
        quantize_folder(small, tmp_path / "none", component="unet")
    assert not (tmp_path / "none").exists()


# Calibration


@pytest.fixture(scope="module")
def prompted(tmp_path_factory) -> tuple[Path, Path]:
    """A pipeline that draws, and prompts for it."""
    place = tmp_path_factory.mktemp("prompted")
    make_pipeline().save_pretrained(place / "pipeline")
    (place / "prompts.txt").write_text("a red cube\n\n two green cones \n")
    return place / "pipeline", place / "prompts.txt"


def test_calibrated_bits_are_those_of_the_config(prompted, tmp_path, monkeypatch):
    settings = {"iterations": 1, "learning_rate": 1e-4, "batch_size": 2, "steps": 2}
    monkeypatch.setattr(quantization_choice_bitsfusion, "calibrated_bits", partial(calibrated_bits, **settings))
    parts = []
    done = quantize_folder(prompted[0], tmp_path / "out", 3.8, progress=parts.append, calibrate=prompted[1])
    prompts = ["a red cube", "two green cones"]
    expected = calibrated_bits(prompted[0], prompts, 3.8, tmp_path / "sensitivity", **settings)
    config = json.loads((tmp_path / "out" / "unet" / "config.json").read_text())["quantization_config"]
    assert config["bits"] == expected and config["default_bits"] is None and len(set(expected.values())) > 2
    assert 3.5 < done.average_bits <= 3.8 and sum(parts) == pytest.approx(1)
    StableDiffusionPipeline.from_pretrained(tmp_path / "out")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"recipe": "bits.json"}, "recipe must be left out where layers get calibrated bits, not 'bits.json'"),
        ({"bits": 1.5}, "bits must be a number from 1.6 to 8 where they are calibrated, not 1.5"),
        ({"bits": math.nan}, "bits must be a number from 1.6 to 8 where they are calibrated, not nan"),
        ({"component": "vae"}, "calibrate must be left out for what is no pipeline's unet, not '.*prompts.txt'"),
        ({"calibrate": "none.txt"}, "none.txt is missing: it must be a text file of prompts, one a line"),
        ({"calibrate": "/dev/null"}, "null is missing: it must be a text file of prompts"),
    ],
)
def test_what_calibration_cannot_do(prompted, tmp_path, changed, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        quantize_folder(prompted[0], tmp_path / "out", **{"calibrate": prompted[1], **changed})
    assert not list(tmp_path.iterdir())


def test_a_file_without_prompts(prompted, tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(ValueError, match="empty.txt must be of at least one prompt, not 'an empty file'"):
        quantize_folder(prompted[0], tmp_path / "out", calibrate=tmp_path / "empty.txt")
