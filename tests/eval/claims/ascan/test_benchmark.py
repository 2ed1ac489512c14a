import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image

from pocket_diffusers.eval.claims.ascan import benchmark
from pocket_diffusers.eval.claims.ascan.benchmark import Settings, run
from pocket_diffusers.eval.claims.ascan.recognition import neighbours_accuracy
from pocket_diffusers.eval.results import RESULTS, read_rows
from pocket_diffusers.hub_models.autoencoder_snapgen import AutoencoderSnapGen
from pocket_diffusers.hub_models.transformer_ascan import AsCANModel
from pocket_diffusers.hub_models.unet_ascan import AsCANUNet2DModel
from pocket_diffusers.pipelines.pipeline_ascan import AsCANPipeline
from pocket_diffusers.pipelines.pipeline_ascan_classification import AsCANImageClassificationPipeline
from pocket_diffusers.pipelines.pipeline_ascan_detection import AsCANDetectionPipeline
from pocket_diffusers.pipelines.repository import save_repository
from pocket_diffusers.training.datasets.digits import load_digits
from pocket_diffusers.training.datasets.pocketworld.descriptions import TAGS
from pocket_diffusers.training.datasets.pocketworld.scene import ALL_PAIRS, COLORS, SHAPES
from pocket_diffusers.training.objectives.classification import accuracy
from pocket_diffusers.training.objectives.detection import DETECTION_OUTPUTS

COMMITTED = RESULTS / "ascan.json"
RIVALS = ("convnext", "swin", "vit", "pvt")
DESIGNS = ("asymmetric", "symmetric", "inverted", "coatnet")

# Every row that must be measured: its id with its target and whether more is better.
PROMISED = {
    "parameters-tiny": (pytest.approx(55 * 1.03), "lower"),
    "parameters-base": (pytest.approx(98 * 1.03), "lower"),
    "parameters-large": (pytest.approx(173 * 1.03), "lower"),
    "parameters-coatnet-1": (pytest.approx(42 * 1.03), "lower"),
    "parameters-coatnet-2": (pytest.approx(75 * 1.03), "lower"),
    "operations-tiny": (pytest.approx(7.7 * 1.05), "lower"),
    "operations-base": (pytest.approx(16.7 * 1.05), "lower"),
    "operations-large": (pytest.approx(30.7 * 1.05), "lower"),
    "operations-imagenet256": (pytest.approx(118.6 * 0.55), "lower"),
    **{f"resolution-{what}-{side}": (None, "lower")
       for what in ("operations", "seconds") for side in (128, 192, 256, 384, 512)},
    **{f"throughput-{rival}-{mode}-{batch}": (None, "higher")
       for rival in RIVALS for mode in ("eager", "compiled", "onnx") for batch in (1, 16, 64)},
    "digits-accuracy": (0.985, "higher"),
    "judge-clean-f1": (0.99, "higher"),
    "judge-clean-color": (0.995, "higher"),
    "judge-degraded-f1": (0.95, "higher"),
    "judge-degraded-color": (0.97, "higher"),
    "geneval-truth": (0.97, "higher"),
    **{f"geneval-truth-{tag.replace('_', '-')}": (None, "higher") for tag in TAGS},
    "geneval-shuffled": (None, "lower"),
    "geneval-shuffled-distance": (0.03, "lower"),
    "generation-named": (0.95, "higher"),
    "generation-alone": (None, "higher"),
    "generation-fid": (None, "lower"),
    "generation-kid": (None, "lower"),
    **{f"exported-{runtime}-{what}": (None, "higher") for runtime in ("onnx", "executorch")
       for what in ("fp32-digits", "int8-digits", "fp32-judge-f1", "int8-judge-f1", "fp32-named", "int8-named")},
    "exported-onnx-int8-bytes": (None, "lower"),
    "exported-executorch-int8-bytes": (None, "lower"),
    **{f"ablation-{design}": (None, "higher") for design in DESIGNS},
    **{f"ablation-over-{design}": (None, "higher") for design in DESIGNS[1:]},
}  # fmt: skip
NANO = ["digits", "judge", "geneval", "generation"]


def tiny(**options):
    options = {"stages": ("C", "T"), "widths": (8, 16), "strides": (2, 1, 2), "stem_width": 8, "head_dim": 8, **options}
    return AsCANModel(**options, ffn_ratio=2, expansion=2, dense_width=8, dense_pool_scales=(1,)).eval()


@pytest.fixture(scope="module")
def folder(checkpoints):
    """Tiny untrained models beside the others."""
    torch.manual_seed(0)
    judge = AsCANDetectionPipeline(
        tiny(image_size=16, num_classes=None, dense_outputs=DETECTION_OUTPUTS),
        dict(enumerate(SHAPES)), dict(enumerate(COLORS)),
    )  # fmt: skip
    digits = AsCANImageClassificationPipeline(
        tiny(image_size=32, num_classes=10, in_channels=1), dict(enumerate("0123456789"))
    )
    unet = AsCANUNet2DModel(
        sample_size=4, in_channels=4, out_channels=4, down_stages=("C", "T"), widths=(16, 32), expansion=1, head_dim=8,
        ffn_ratio=1, num_classes=len(ALL_PAIRS), emb_dim=16,
    ).eval()  # fmt: skip
    vae = AutoencoderSnapGen.from_pretrained(checkpoints / "snapgen-nano" / "vae")
    names = dict(enumerate(map(" ".join, ALL_PAIRS)))
    generator = AsCANPipeline(unet, vae, FlowMatchEulerDiscreteScheduler(), names)
    for name, pipeline in (("-judge", judge), ("-digits", digits), ("", generator)):
        save_repository(pipeline, checkpoints / f"ascan-nano{name}")
    return checkpoints


@pytest.fixture(scope="module")
def settings(folder):
    return Settings(
        checkpoints=folder, judged_pictures=6, true_pictures=24, shuffles=2, chance_pictures=8, pictures_a_class=1,
        world_size=16,
    )  # fmt: skip


@pytest.fixture(scope="module")
def measured(settings, tmp_path_factory):
    output = tmp_path_factory.mktemp("output")
    return {row.id: row for row in run(NANO, output, settings)}, output


def test_rows_are_what_was_promised_and_are_written(measured):
    rows, output = measured
    assert read_rows(output / "ascan.json") == list(rows.values())
    for name, row in rows.items():
        assert (row.target, row.better) == PROMISED[name]
        assert row.command.startswith(f"{benchmark.COMMAND} --only ") and row.size == "nano"
    expected = {name for name in PROMISED if name.startswith(("digits", "judge", "geneval", "generation"))}
    assert expected - set(rows) <= {"judge-clean-color", "judge-degraded-color"}, "without objects there is no colour"
    assert [rows[id].n for id in ("judge-clean-f1", "geneval-truth", "generation-named", "generation-fid")] == [
        6,
        24,
        50,
        50,
    ]
    assert rows["generation-fid"].unit == "fid_clip-nano-judge_50"


def test_digits_are_named_as_the_model_names_them(measured, folder):
    row, data = measured[0]["digits-accuracy"], load_digits("test")
    model = AsCANImageClassificationPipeline.from_pretrained(folder / "ascan-nano-digits").model
    assert row.n == 360 and row.measured == pytest.approx(accuracy(model, data), abs=1e-6)
    assert row.rival_measured == pytest.approx(neighbours_accuracy(), abs=1e-6) and row.rival_measured > 0.95


def test_the_sheet_of_classes_is_drawn(measured):
    with Image.open(measured[1] / "ascan.png") as sheet:
        assert sheet.width > 5 * 128 and sheet.height > 10 * 128
    assert sorted(path.name for path in measured[1].iterdir()) == ["ascan.json", "ascan.png"]


def test_what_cannot_be_measured_is_said_and_nothing_written(tmp_path):
    with pytest.raises(ValueError, match="only is 'speed'; it must be one of throughput, resolution"):
        run(["speed"], tmp_path / "out")
    nowhere = Settings(checkpoints=tmp_path)
    for name in NANO:
        with pytest.raises(FileNotFoundError, match=str(tmp_path)):
            run([name], tmp_path / "out", nowhere)
    assert not (tmp_path / "out").exists()


def test_every_promised_number_is_committed():
    rows = {row.id: row for row in read_rows(COMMITTED)}
    assert set(rows) == set(PROMISED)
    assert all((row.target, row.better) == PROMISED[name] for name, row in rows.items())
    assert rows["judge-clean-f1"].n >= 1000 and rows["geneval-truth"].n >= 1000 and rows["generation-named"].n >= 500
