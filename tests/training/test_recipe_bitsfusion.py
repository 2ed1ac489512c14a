"""BitsFusion's recipe: each stage runs on a little of PocketWorld or of own pictures, and leaves what it promises."""

import json
import shutil

import datasets
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image

from pocket_diffusers import checkpoint
from pocket_diffusers.hub_models.assignment_bitsfusion import FIRST_AND_LAST, weight_counts
from pocket_diffusers.hub_models.autoencoder_snapgen import AutoencoderSnapGen
from pocket_diffusers.hub_models.layers.time_embedding_cache import compute_projections, replaced_layers
from pocket_diffusers.hub_models.quantizer_bitsfusion import BitsFusionConfig, average_bits, low_bit_layers
from pocket_diffusers.hub_models.unet_bitsfusion import BitsFusionUNet2DConditionModel
from pocket_diffusers.pipelines.pipeline_bitsfusion import BitsFusionPipeline
from pocket_diffusers.pipelines.weights import weights_digest
from pocket_diffusers.training.recipe_bitsfusion import STAGES, run
from pocket_diffusers.training.training_chain import gaps, read_chain

SMALL_UNET = {
    **BitsFusionUNet2DConditionModel.presets["nano"],
    "block_out_channels": (16,), "attention_head_dim": 2, "norm_num_groups": 8,
    "down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("CrossAttnUpBlock2D",),
}  # fmt: skip
TINY = {"num_pictures": "32", "steps": "2", "batch_size": "8", "image_size": "32"}
DRAWN = {"num_prompts": "2", "sampling_steps": "1", "iterations": "1", "batch_size": "2", "image_size": "32"}
OVERRIDES = {
    "base": TINY,
    "sensitivity": DRAWN | {"cache_steps": "5", "target": "2.2"},
    "distill": TINY | {"cache_steps": "5"},
    "finetune": TINY,
}
STEPS_OF_5 = [801, 601, 401, 201, 1]


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory):
    """The preset "nano" is of one resolution and few channels here, and pictures are kept elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        patch.setitem(BitsFusionUNet2DConditionModel.presets, "nano", SMALL_UNET)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All stages of the nano model, two steps each, by the committed text encoder."""
    folder = tmp_path_factory.mktemp("runs")
    for stage, overrides in OVERRIDES.items():
        assert run(stage, "nano", folder, overrides=overrides) == folder / stage / "model"
    return folder


def unet_of(folder):
    return UNet2DConditionModel.from_pretrained(folder / "unet")


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def copy_of(runs, place, *stages):
    for stage in stages:
        shutil.copytree(runs / stage, place / stage)
    return place


def stored_bits(folder):
    return json.loads((folder / "quantization.json").read_text())


# Presets


def test_stages_of_the_paper_have_its_numbers():
    with_paper = {stage for stage in OVERRIDES if "paper" in STAGES[stage].presets}
    assert with_paper == {"sensitivity", "distill", "finetune"} and all("nano" in STAGES[s].presets for s in OVERRIDES)
    sensitivity, distill, finetune = (
        STAGES[stage].presets["paper"] for stage in ("sensitivity", "distill", "finetune")
    )
    assert (sensitivity.num_prompts, sensitivity.target) == (100, 1.99)
    assert (distill.steps, finetune.steps, distill.learning_rate) == (20_000, 50_000, 1e-5)
    assert (distill.time_alpha, distill.feature_weight, distill.text_drop, finetune.time_alpha) == (3, 0.01, 0.1, 3)
    assert {preset.base for preset in (sensitivity, distill, finetune)} == {
        "stable-diffusion-v1-5/stable-diffusion-v1-5"
    }


@pytest.mark.parametrize(
    ("stage", "preset", "overrides", "sentence"),
    [
        ("base", "nano", {"text_drop": "2"}, "text_drop must be in 0..1.*not 2.0"),
        ("base", "nano", {"source": "me/cats"}, "source must be 'pocketworld'.*not 'me/cats'"),
        ("base", "paper", {}, "preset 'paper' is unknown: use one of nano"),
        ("sensitivity", "nano", {"num_prompts": "0"}, "num_prompts must be at least 1.*not 0"),
        ("sensitivity", "nano", {"sampling_steps": "0"}, "sampling_steps must be at least 1.*not 0"),
        ("distill", "nano", {"cache_steps": "0"}, "cache_steps must be at least 1.*not 0"),
        ("distill", "nano", {"text_drop": "-0.1"}, "text_drop must be in 0..1.*not -0.1"),
        ("distill", "nano", {"time_alpha": "0"}, "time_alpha must be above 0.*not 0.0"),
        ("distill", "nano", {"feature_weight": "-1"}, "feature_weight must be at least 0.*not -1.0"),
        ("distill", "paper", {}, "source must be your captioned pictures: .*, not ''"),
        ("finetune", "nano", {"text_drop": "1.5"}, "text_drop must be in 0..1.*not 1.5"),
    ],
)
def test_what_does_not_fit_is_named_and_leaves_nothing(tmp_path, stage, preset, overrides, sentence):
    with pytest.raises(ValueError, match=sentence):
        run(stage, preset, tmp_path, overrides=overrides)
    assert not list(tmp_path.iterdir())


def test_a_missing_stage_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("pocket_diffusers.training.stages._CHECKPOINTS", tmp_path / "none")
    for stage in ("sensitivity", "distill", "finetune"):
        with pytest.raises(FileNotFoundError, match=r"no base model in .*: train stage base"):
            run(stage, "nano", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("bits", "error", "sentence"),
    [
        ("published", ValueError, r"^bits must name .* layers of UNet.*, not 'down_[^ ]*' \(nearest: .*\)\.$"),
        ("9", ValueError, "bits must be a whole number from 1 to 8, not 9"),
        ("sensitivity", FileNotFoundError, "no sensitivity model in .*: train stage sensitivity"),
        ("/nowhere.json", FileNotFoundError, "/nowhere.json"),
        ("{list}", ValueError, "list.json must hold a JSON object"),
        ("{other}", ValueError, r"not 'conv_inn' \(nearest: 'conv_in'\)"),
    ],
)  # fmt: skip
def test_bits_that_do_not_fit_are_named_and_leave_nothing(runs, tmp_path, monkeypatch, bits, error, sentence):
    monkeypatch.setattr("pocket_diffusers.training.stages._CHECKPOINTS", tmp_path / "none")
    files = {name: tmp_path / f"{name}.json" for name in ("list", "other")}
    files["list"].write_text("[]")
    files["other"].write_text('{"conv_inn": 2}')
    overrides = TINY | {"base": str(runs / "base" / "model"), "bits": bits.format(**files)}
    with pytest.raises(error, match=sentence):
        run("distill", "nano", tmp_path / "run", overrides=overrides)
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


def test_more_prompts_than_there_are_are_refused(runs, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red cube\n\n  a red cube \ntwo\n")
    own = {"base": str(runs / "base" / "model"), "prompts": str(tmp_path / "prompts.txt"), "num_prompts": "3"}
    with pytest.raises(ValueError, match="num_prompts must be at most 2, the prompts, not 3"):
        run("sensitivity", "nano", tmp_path / "run", overrides=DRAWN | own)


# What the stages leave


def test_base_leaves_a_pipeline_of_full_precision(runs):
    pipeline = BitsFusionPipeline.from_pretrained(runs / "base" / "model")
    assert pipeline.unet.config.sample_size == 4 and not low_bit_layers(pipeline.unet)
    config = pipeline.scheduler.config
    assert (config.prediction_type, config.steps_offset, config.set_alpha_to_one) == ("epsilon", 1, False)
    folders = (runs / "base" / "model" / "vae", checkpoint("snapgen-nano") / "vae")
    own, whole = (AutoencoderSnapGen.from_pretrained(folder) for folder in folders)
    assert {layer.levels.bits for layer in low_bit_layers(own).values()} == {8}
    latents = torch.randn(2, whole.config.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pictures, packed = whole.decode(latents).sample, own.decode(latents).sample
    assert 0 < (packed - pictures).square().mean() < 1e-3 * pictures.square().mean()
    fresh = torch.cat([p.flatten() for p in BitsFusionUNet2DConditionModel.from_preset("nano").parameters()])
    assert len(fresh) == sum(p.numel() for p in pipeline.unet.parameters())


def test_sensitivity_leaves_a_packed_unet_of_the_average_and_what_it_measured(runs):
    unet, full = UNet2DConditionModel.from_pretrained(runs / "sensitivity" / "model"), unet_of(runs / "base" / "model")
    config, weights = unet.config["quantization_config"], weight_counts(full)
    replaced = replaced_layers(full)
    assert set(config.bits) == set(weights) - set(replaced) and config.cached_timesteps == STEPS_OF_5
    assert config.bits["conv_in"] == config.bits["conv_out"] == 8
    cached_values = unet.time_proj.projections.numel()
    assert 2.0 < average_bits(weights, config.bits, replaced, cached_values) <= 2.2
    lines = (runs / "sensitivity" / "sensitivities" / "sensitivities.jsonl").read_text().splitlines()
    measured = [json.loads(line) for line in lines[1:]]
    assert {each["layer"] for each in measured} == set(config.bits) - set(FIRST_AND_LAST)
    assert all(each["clip_drop"] is not None and each["mse"] > 0 for each in measured)
    for name, layer in low_bit_layers(unet).items():  # packed as they were, without training
        plain = full.get_submodule(name)
        assert torch.equal(
            layer.rounded_weight(), type(layer).of(plain, config.bits[name]).freeze().rounded_weight()
        ), name


def test_distill_learns_at_the_bits_of_sensitivity(runs):
    left = runs / "distill" / "model"
    measured = json.loads((runs / "sensitivity" / "model" / "config.json").read_text())["quantization_config"]
    assert stored_bits(left)["bits"] == measured["bits"] and stored_bits(left)["cached_timesteps"] == STEPS_OF_5
    student, teacher = UNet2DConditionModel.from_pretrained(left), unet_of(runs / "base" / "model")
    time, others = split(student, teacher)
    assert len(time) == 2 * len(replaced_layers(teacher)) and all(torch.equal(a, b) for a, b in time)
    assert all(not torch.equal(a, b) for a, b in others)


def split(student, teacher):
    """Pairs of parameters: those of the layers of time, and all others."""
    replaced, theirs = set(replaced_layers(teacher)), dict(teacher.named_parameters())
    pairs = {True: [], False: []}
    for name, value in student.named_parameters():
        pairs[name.rpartition(".")[0] in replaced].append((value, theirs[name]))
    return pairs[True], pairs[False]


def test_finetune_leaves_a_packed_pipeline_that_draws(runs):
    pipeline = BitsFusionPipeline.from_pretrained(runs / "finetune" / "model")
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a red cube", num_inference_steps=5, generator=torch.Generator().manual_seed(0)).images[0]
    assert image.size == (32, 32)
    assert pipeline.unet.is_quantized and all(layer.is_frozen for layer in low_bit_layers(pipeline.unet).values())
    assert pipeline.unet.config["quantization_config"].bits == stored_bits(runs / "distill" / "model")["bits"]
    with pytest.raises(ValueError, match="num_inference_steps"):
        pipeline("a red cube", num_inference_steps=4)
    assert (runs / "finetune" / "model" / "pipeline_bitsfusion.py").is_file()
    embedded = json.loads((runs / "finetune" / "model" / "embedded.json").read_text())
    assert embedded["text_encoder"]["source_sha256"]


def test_layers_of_time_stay_those_of_the_base(runs):
    unet, full = (unet_of(runs / stage / "model") for stage in ("finetune", "base"))
    assert torch.equal(unet.time_proj.projections, compute_projections(full, STEPS_OF_5))
    alone = UNet2DConditionModel.from_pretrained(runs / "sensitivity" / "model")
    assert torch.equal(alone.time_proj.projections, unet.time_proj.projections)
    assert not torch.equal(alone.conv_in.scales, unet.conv_in.scales), "all else learned"


def test_finetune_goes_on_from_the_weights_behind_the_rounded_ones(runs):
    """In two steps at a small rate nearly all levels of nearly all weights are those that distillation left."""
    distilled = UNet2DConditionModel.from_pretrained(runs / "distill" / "model")
    same, count = 0, 0
    for name, layer in low_bit_layers(unet_of(runs / "finetune" / "model")).items():
        oracle = type(layer).of(distilled.get_submodule(name), layer.levels.bits).freeze()
        same += int((oracle.rounded_weight().sign() == layer.rounded_weight().sign()).sum())
        count += layer.weight.numel()
    assert same / count > 0.9


def test_every_stage_leaves_a_record_and_the_last_one_s_is_a_chain(runs):
    chain = read_chain(runs / "finetune" / "training.json")
    assert str(runs) not in json.dumps(chain)
    own = {entry["stage"]: entry for entry in chain if entry["method"] == "bitsfusion"}
    assert set(own) == set(OVERRIDES)
    assert own["finetune"]["digest_in"] == {
        "base": own["base"]["digest_out"], "distilled": own["distill"]["digest_out"],
    }  # fmt: skip
    assert own["distill"]["digest_in"] == {
        "base": own["base"]["digest_out"], "sensitivity": own["sensitivity"]["digest_out"],
    }  # fmt: skip
    assert set(own["sensitivity"]["digest_in"]) == {"base", "clip"}
    committed = ["run 1 began with (vae)", "run 1 began with (text_encoder)", "run 2 began with (clip)"]
    assert gaps([own[stage] for stage in OVERRIDES]) == [f"the run that left what {which}" for which in committed]
    for stage, entry in own.items():
        assert entry["command"].startswith(f"pocket train bitsfusion --stage {stage} --preset nano --set ")
        assert entry["digest_out"] == weights_digest(runs / stage / "model")


def test_finished_stages_resume_to_the_same_files(runs, tmp_path):
    copy_of(runs, tmp_path, "base", "sensitivity", "distill", "finetune")
    for stage in ("sensitivity", "distill", "finetune"):
        before = tree(tmp_path / stage / "model")
        shutil.rmtree(tmp_path / stage / "model")
        run(stage, "nano", tmp_path, overrides=OVERRIDES[stage])
        after = tree(tmp_path / stage / "model")
        assert after.keys() == before.keys()
        assert all(after[name] == before[name] for name in before if name.suffix == ".safetensors")


@pytest.mark.parametrize("bits", ["2", "recipe"])
def test_bits_are_one_number_or_a_recipe(runs, tmp_path, bits):
    recipe = {"conv_in": 8, "mid_block.resnets.0.conv1": 1}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    given = str(tmp_path / "recipe.json") if bits == "recipe" else bits
    own = {"base": str(runs / "base" / "model"), "bits": given, "steps": "1", "cache_steps": "2"}
    left = run("distill", "nano", tmp_path, overrides=TINY | own)
    scales = json.loads((left / "config.json").read_text())
    assert "quantization_config" not in scales, "diffusers alone reads it"
    stored = BitsFusionConfig.from_dict(stored_bits(left))
    full = unet_of(runs / "base" / "model")
    expected = recipe if bits == "recipe" else {
        name: 8 if name in ("conv_in", "conv_out") else 2
        for name in weight_counts(full) if name not in replaced_layers(full)
    }  # fmt: skip
    assert stored.layer_bits(full) == expected and stored.cached_timesteps == [501, 1]


# The paper's way, with small stand-ins


def test_paper_quantises_a_stable_diffusion_with_own_pictures(tmp_path):
    from tiny_bitsfusion import OPTIONS, make_pipeline

    unet = UNet2DConditionModel(**{**OPTIONS, "sample_size": 16})
    vae = AutoencoderKL(latent_channels=4, block_out_channels=(8,), norm_num_groups=4)
    make_pipeline(unet=unet, vae=vae).save_pretrained(tmp_path / "sd")
    (tmp_path / "pictures").mkdir()
    for i in range(4):
        Image.new("RGB", (20, 17), (40 * i, 90, 200)).save(tmp_path / "pictures" / f"{i}.png")
    lines = [json.dumps({"file_name": f"{i}.png", "text": "a red cube" if i % 2 else "two"}) for i in range(4)]
    (tmp_path / "pictures" / "metadata.jsonl").write_text("\n".join(lines))
    own = {
        "source": str(tmp_path / "pictures"), "base": str(tmp_path / "sd"), "image_size": "16", "batch_size": "2",
        "steps": "1", "gradient_accumulation_steps": "2",
    }  # fmt: skip
    run("distill", "paper", tmp_path, overrides=own | {"bits": "2", "cache_steps": "1"})
    model = run("finetune", "paper", tmp_path, overrides=own)
    pipeline = BitsFusionPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a red cube", num_inference_steps=1).images[0].size == (16, 16)
    assert pipeline.unet.conv_in.levels.bits == 8 and pipeline.unet.mid_block.resnets[0].conv1.levels.bits == 2
