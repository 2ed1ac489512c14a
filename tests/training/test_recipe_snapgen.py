"""SnapGen's recipe: each stage runs on a little of PocketWorld or of own pictures, and leaves what it promises."""

import json
import shutil

import datasets
import pytest
import torch
from PIL import Image

from pocket_diffusers.hub_models.autoencoder_snapgen import AutoencoderSnapGen
from pocket_diffusers.hub_models.layers.latent_scaling import scale_latents
from pocket_diffusers.hub_models.unet_snapgen import SnapGenUNet2DConditionModel
from pocket_diffusers.pipelines.pipeline_snapgen import SnapGenPipeline
from pocket_diffusers.pipelines.weights import weights_digest
from pocket_diffusers.training.recipe_snapgen import STAGES, run
from pocket_diffusers.training.training_chain import gaps, read_chain

TINY = {"num_pictures": "48", "steps": "2", "batch_size": "8", "image_size": "32"}
LEARNED = ("clip", "autoencoder", "refine", "base")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All stages of the nano model, two steps each."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        for stage in LEARNED:
            assert run(stage, "nano", folder, overrides=TINY) == folder / stage / "model"
        yield folder


def weights(model):
    return torch.cat([value.float().flatten() for value in model.state_dict().values()])


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Presets


@pytest.mark.parametrize(("stage", "preset"), [(stage, name) for stage in STAGES for name in STAGES[stage].presets])
def test_every_preset_names_models_there_are(stage, preset):
    chosen = STAGES[stage].presets[preset]
    assert chosen.settings().warmup_steps <= chosen.steps
    if stage in ("clip", "judge"):
        return
    cls = SnapGenUNet2DConditionModel if stage == "base" else AutoencoderSnapGen
    with torch.device("meta"):
        model = cls.from_preset(chosen.model)
    assert sum(p.numel() for p in model.parameters()) > (10_000_000 if preset == "paper" else 100_000)


def test_paper_takes_what_is_published_and_one_autoencoder():
    autoencoder, refine, base = (STAGES[stage].presets["paper"] for stage in ("autoencoder", "refine", "base"))
    assert (base.text_drop, base.learning_rate, base.steps, base.image_size) == (0.464, 1e-4, 400_000, 256)
    assert [source.split("/")[0] for source in base.text_encoders.split(",")] == ["openai", "laion", "google"]
    assert autoencoder.encoder == refine.encoder == base.vae
    assert autoencoder.adversarial_weight == 0 < refine.adversarial_weight


@pytest.mark.parametrize(
    ("stage", "preset", "overrides", "sentence"),
    [
        ("base", "nano", {"text_drop": "2"}, "text_drop must be in 0..1.*not 2.0"),
        ("base", "nano", {"time_shift": "0"}, "time_shift must be above 0.*not 0.0"),
        ("base", "nano", {"text_encoders": "a,b,c,d"}, "text_encoders must be at most 3.*not 'a,b,c,d'"),
        ("refine", "nano", {"object_weight": "-1"}, "object_weight must be at least 0.*not -1.0"),
        ("refine", "paper", {"object_weight": "1"}, "object_weight must be 0 for pictures whose objects.*not 1.0"),
    ],
)
def test_what_does_not_fit_is_named_and_leaves_nothing(tmp_path, stage, preset, overrides, sentence):
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(")):
        run(stage, preset, tmp_path, overrides=overrides)
    assert not list(tmp_path.iterdir())


def test_a_missing_source_or_stage_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="'/nowhere' is no folder"):
        run("autoencoder", "paper", tmp_path, overrides={"source": "/nowhere"})
    monkeypatch.setattr("pocket_diffusers.training.stages._CHECKPOINTS", tmp_path)
    for stage in ("refine", "base"):
        with pytest.raises(FileNotFoundError, match=r"no autoencoder model in .*: train stage autoencoder"):
            run(stage, "nano", tmp_path)
    assert not list(tmp_path.iterdir())


# What the stages leave


def test_autoencoder_leaves_latents_of_unit_variance(runs):
    from pocket_diffusers.training.datasets.captioned_images import pocketworld_images

    pixels = pocketworld_images("train_all", 32, 48).images(torch.arange(48))
    for stage in ("autoencoder", "refine"):
        vae = AutoencoderSnapGen.from_pretrained(runs / stage / "model")
        with torch.no_grad():
            latents = scale_latents(vae.encode(pixels).latent_dist.mode(), vae.config)
        std, mean = torch.std_mean(latents, dim=(0, 2, 3))
        assert mean.abs().max() < 1e-3 and (std - 1).abs().max() < 1e-3, "each channel of them"


def test_refine_goes_on_from_autoencoder_and_base_takes_refine(runs):
    fresh, first, second, used = (
        weights(AutoencoderSnapGen.from_pretrained(path)) if path else weights(AutoencoderSnapGen.from_preset("nano"))
        for path in (None, runs / "autoencoder" / "model", runs / "refine" / "model", runs / "base" / "model" / "vae")
    )
    assert 0 < (second - first).norm() < 0.3 * (second - fresh).norm()
    assert torch.equal(used, second.half().float()) and not torch.equal(used, first.half().float())


def test_base_leaves_a_repository_that_generates(runs):
    pipeline = SnapGenPipeline.from_pretrained(runs / "base" / "model")
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a red cube", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
    assert image.size == (32, 32)
    assert (runs / "base" / "model" / "pipeline_snapgen.py").is_file()
    assert json.loads((runs / "base" / "model" / "embedded.json").read_text())["text_encoder"]["source_sha256"]


def test_every_stage_leaves_a_record_of_what_made_it(runs):
    for stage in LEARNED:
        record = json.loads((runs / stage / "training.json").read_text())[-1]
        assert record["command"].startswith(f"pocket train snapgen --stage {stage} --preset nano --set num_pictures=48")
        assert record["settings"]["steps"] == 2 and record["settings"]["seed"] == STAGES[stage].presets["nano"].seed
        assert str(runs) not in json.dumps(record)
        assert not list((runs / stage).glob(".*.partial")), "drafts are gone"


def test_the_record_of_the_last_stage_is_a_chain_that_can_be_run_again(runs):
    chain = read_chain(runs / "base" / "training.json")
    assert gaps(chain) == []
    assert sorted(run["stage"] for run in chain) == ["autoencoder", "base", "clip", "refine"]
    left = {run["stage"]: run["digest_out"] for run in chain}
    assert chain[-1]["digest_in"] == {"vae": left["refine"], "text_encoders": left["clip"]}
    assert left == {stage: weights_digest(runs / stage / "model") for stage in left}


def test_a_finished_stage_resumes_to_the_same_model(runs, tmp_path):
    for stage in ("clip", "autoencoder", "base"):
        shutil.copytree(runs / stage, tmp_path / stage)
    before = tree(tmp_path / "autoencoder" / "model")
    shutil.rmtree(tmp_path / "autoencoder" / "model")
    run("autoencoder", "nano", tmp_path, overrides=TINY)
    assert tree(tmp_path / "autoencoder" / "model") == before
    before = tree(tmp_path / "base" / "model" / "unet")
    run("base", "nano", tmp_path, overrides=TINY)
    assert tree(tmp_path / "base" / "model" / "unet") == before, "replaced by the same"


def test_base_goes_on_at_another_size(runs, tmp_path):
    init = runs / "base" / "model" / "unet"
    own = {name: str(runs / stage / "model") for name, stage in (("vae", "refine"),)}
    shutil.copytree(runs / "clip", tmp_path / "clip")
    run("base", "nano", tmp_path, overrides=TINY | own | {"image_size": "48", "steps": "1", "init": str(init)})
    unet = SnapGenUNet2DConditionModel.from_pretrained(tmp_path / "base" / "model" / "unet")
    before = weights(SnapGenUNet2DConditionModel.from_pretrained(init))
    assert unet.config.sample_size == 6
    assert 0 < (weights(unet) - before).norm() < 0.1 * before.norm()


# The paper's way, with small stand-ins


@pytest.fixture(scope="module")
def own_pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(6):
        Image.new("RGB", (40, 33), (40 * i, 90, 200)).save(folder / f"{i}.png")
    lines = [json.dumps({"file_name": f"{i}.png", "text": "a red cube" if i % 2 else "two"}) for i in range(6)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def test_paper_trains_a_decoder_for_a_frozen_encoder_then_with_an_adversary(own_pictures, tmp_path):
    torch.manual_seed(3)
    AutoencoderSnapGen.from_preset("nano", shift_factor=0.5, scaling_factor=2.0).save_pretrained(tmp_path / "published")
    published = AutoencoderSnapGen.from_pretrained(tmp_path / "published")
    stand_ins = {"source": str(own_pictures), "encoder": str(tmp_path / "published"), "model": "nano"}
    small = stand_ins | {"image_size": "32", "batch_size": "2", "steps": "2", "warmup_steps": "1"}
    decoders = [weights(published.decoder)]
    for stage in ("autoencoder", "refine"):
        run(stage, "paper", tmp_path, overrides=small)
        vae = AutoencoderSnapGen.from_pretrained(tmp_path / stage / "model")
        assert torch.equal(weights(vae.encoder), weights(published.encoder)), "frozen"
        assert (vae.config.shift_factor, vae.config.scaling_factor) == (0.5, 2.0), "its latents are"
        decoders.append(weights(vae.decoder))
    assert (decoders[1] - decoders[2]).norm() < (decoders[1] - decoders[0]).norm(), "refine goes on"
    metrics = json.loads((tmp_path / "refine" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"autoencoder_loss", "discriminator_loss"} <= metrics.keys()


def test_paper_streams_and_drops_three_text_encoders(tiny_components, own_pictures, tmp_path):
    components = tiny_components()
    folders = []
    for name, tokenizer in (
        ("text_encoder", "tokenizer"),
        ("text_encoder_2", "tokenizer_2"),
        ("text_encoder_3", "tokenizer_3"),
    ):
        for part in (name, tokenizer):
            components[part].save_pretrained(tmp_path / name)
        folders.append(str(tmp_path / name))
    AutoencoderSnapGen.from_preset("nano").save_pretrained(tmp_path / "vae")
    overrides = {
        "source": str(own_pictures),
        "vae": str(tmp_path / "vae"),
        "text_encoders": ",".join(folders),
        "model": "nano",
        "image_size": "32",
        "batch_size": "2",
        "gradient_accumulation_steps": "2",
        "steps": "2",
        "warmup_steps": "1",
    }
    run("base", "paper", tmp_path, overrides=overrides)
    pipeline = SnapGenPipeline.from_pretrained(tmp_path / "base" / "model", text_encoder_2=None, tokenizer_2=None)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a red cube", num_inference_steps=1).images[0].size == (32, 32)
