"""AsCAN's recipe: each stage runs on a little data and leaves what it promises."""

import json

import datasets
import pytest
import torch
from PIL import Image

from pocket_diffusers import checkpoint
from pocket_diffusers.hub_models.transformer_ascan import AsCANModel
from pocket_diffusers.hub_models.unet_ascan import AsCANUNet2DModel
from pocket_diffusers.pipelines.pipeline_ascan import AsCANPipeline
from pocket_diffusers.pipelines.pipeline_ascan_classification import AsCANImageClassificationPipeline
from pocket_diffusers.pipelines.weights import weights_digest
from pocket_diffusers.training.recipe_ascan import STAGES, run, take_backbone

TINY = {"steps": "2", "batch_size": "8"}
FEW = {**TINY, "num_pictures": "24"}
OVERRIDES = {"classification": TINY, "segmentation": FEW, "judge": FEW, "generation": FEW}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All stages of the nano models, two steps each."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        for stage, overrides in OVERRIDES.items():
            assert run(stage, "nano", folder, overrides=overrides) == folder / stage / "model"
        yield folder


@pytest.mark.parametrize(("stage", "preset"), [(stage, name) for stage in STAGES for name in STAGES[stage].presets])
def test_every_preset_names_a_model_there_is(stage, preset):
    chosen = STAGES[stage].presets[preset]
    assert chosen.settings().warmup_steps <= chosen.steps
    with torch.device("meta"):
        (AsCANUNet2DModel if stage == "generation" else AsCANModel).from_preset(chosen.model)


@pytest.mark.parametrize("stage", OVERRIDES)
def test_stages_leave_models_that_load_and_a_record(runs, stage):
    kind = AsCANUNet2DModel if stage == "generation" else AsCANModel
    part = {"generation": "unet", "segmentation": ""}.get(stage, "model")
    model = kind.from_pretrained(runs / stage / "model" / part)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    record = json.loads((runs / stage / "training.json").read_text())[-1]
    assert record["command"].startswith(f"pocket train ascan --stage {stage} --preset nano --set steps=2")
    begun = {"vae": weights_digest(checkpoint("ascan-nano") / "vae")} if stage == "generation" else {}
    assert record["digest_in"] == begun and record["digest_out"] == weights_digest(runs / stage / "model")
    outputs = model.config.get("dense_outputs")
    assert outputs == {
        "segmentation": {"semantic": 6},
        "judge": {"shape": 6, "color": 10, "center": 1, "offset": 2},
    }.get(stage)


def test_a_backbone_is_taken_over_with_its_position_tables_resized(runs):
    torch.manual_seed(0)
    small = AsCANModel.from_preset("nano", image_size=32)
    for name, value in small.named_parameters():
        if name.endswith(".table"):
            torch.nn.init.normal_(value)
    model = AsCANModel.from_preset("nano", num_classes=None, dense_outputs={"semantic": 6})
    take_backbone(model, small)
    for name, value in small.state_dict().items():
        mine = model.state_dict().get(name)
        if name.endswith(".table"):
            assert mine.shape != value.shape and mine.abs().max() > 0
        elif name.startswith(("stem.", "blocks.")):
            assert torch.equal(mine, value), name
    with pytest.raises(ValueError, match="widths of the backbone must be"):
        take_backbone(model, AsCANModel.from_preset("nano", widths=(24, 64, 128, 224)))


def test_own_pictures_with_labels_are_a_source(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for name in ("ant", "bee"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (40, 40), (60 * i, 0, 99)).save(tmp_path / "pictures" / name / f"{i}.png")
    own = {**TINY, "batch_size": "4", "source": str(tmp_path / "pictures"), "split": "train", "num_classes": "2"}
    made = run("classification", "nano", tmp_path / "run", overrides=own)
    classifier = AsCANImageClassificationPipeline.from_pretrained(made)
    assert classifier.labels == ("ant", "bee") and classifier.model.config.in_channels == 3
    generated = run("generation", "nano", tmp_path / "run", overrides={**own, "image_size": "64"} | {"steps": "1"})
    generator = AsCANPipeline.from_pretrained(generated)
    assert generator.unet.config.sample_size == 8 and generator.unet.config.num_classes == 2
    (picture,) = generator("bee", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images
    assert picture.size == (64, 64)
    with pytest.raises(ValueError, match="num_classes must be 2, as of the source, not 3"):
        run("classification", "nano", tmp_path / "other", overrides={**own, "num_classes": "3"})


@pytest.mark.parametrize(
    ("stage", "overrides", "sentence"),
    [
        (
            "classification",
            {"source": "pocketworld"},
            "source must be 'digits', a Hub id or a folder",
        ),
        ("classification", {"label_smoothing": "1.5"}, "label_smoothing must be at least 0 and below 1, not 1.5"),
        ("classification", {"image_size": "64"}, "image_size must be 32 for the source digits, not 64"),
        ("judge", {"spoilt": "2"}, "spoilt must be in 0..1, not 2.0"),
        ("judge", {"source": "digits"}, "source must be 'pocketworld', whose masks are exact, not 'digits'"),
        (
            "generation",
            {"prediction_type": "noise"},
            "prediction_type must be one of flow, epsilon, v_prediction",
        ),
        ("segmentation", {"num_classes": "1"}, "num_classes must be at least 2, not 1"),
    ],
)
def test_bad_settings_are_named_before_anything_is_made(tmp_path, stage, overrides, sentence):
    with pytest.raises(ValueError, match=sentence.replace(".", r"\.")):
        run(stage, "nano", tmp_path / "out", overrides=overrides)
    assert not (tmp_path / "out").exists()
