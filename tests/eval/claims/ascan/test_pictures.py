from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image

from pocket_diffusers.eval.claims.ascan import pictures
from pocket_diffusers.eval.claims.ascan.benchmark import BENCHMARK
from pocket_diffusers.eval.claims.ascan.pictures import (
    NOTHING,
    Named,
    best_pair,
    count_named,
    draw_classes,
    only_pair,
    single_objects,
)
from pocket_diffusers.eval.scores.instance_f1 import ground_truth
from pocket_diffusers.eval.scores.retrieval import world_records
from pocket_diffusers.hub_models.autoencoder_snapgen import AutoencoderSnapGen
from pocket_diffusers.hub_models.transformer_ascan import AsCANModel
from pocket_diffusers.hub_models.unet_ascan import AsCANUNet2DModel
from pocket_diffusers.pipelines.outputs import Detections
from pocket_diffusers.pipelines.pipeline_ascan import AsCANPipeline
from pocket_diffusers.pipelines.pipeline_ascan_detection import AsCANDetectionPipeline
from pocket_diffusers.pipelines.repository import save_repository
from pocket_diffusers.training.datasets.pocketworld.scene import ALL_PAIRS, COLORS, SHAPES
from pocket_diffusers.training.objectives.detection import DETECTION_OUTPUTS


def found(*objects):
    """(score, color, shape) each."""
    scores, colors, labels = zip(*objects, strict=True) if objects else ((),) * 3
    return Detections(labels, scores, ((0, 0, 1, 1),) * len(labels), None, colors)


RED = ("red", "cube")


@pytest.mark.parametrize(
    ("seen", "named", "alone", "best"),
    [
        (found((0.9, "red", "cube")), 1, 1, RED),
        (found((0.9, "red", "cube"), (0.8, "blue", "torus")), 1, 0, RED),
        (found((0.5, "red", "cube"), (0.8, "blue", "torus")), 1, 0, ("blue", "torus")),
        (found((0.9, "red", "cube"), (0.2, "blue", "torus")), 1, 1, RED),
        (found((0.5, "red", "cube"), (0.9, "blue", "cube")), 0, 0, ("blue", "cube")),  # the surest cube is blue
        (found((0.2, "red", "cube")), 0, 0, NOTHING),
        (found(), 0, 0, NOTHING),
    ],
)
def test_what_a_picture_counts_as(seen, named, alone, best):
    assert count_named([seen], [RED]) == Named(named, alone, 1)
    assert best_pair(seen) == best
    assert (only_pair(seen) == RED) == bool(alone)


def test_single_objects_of_the_test_split():
    for record in islice(single_objects(16), 8):
        assert len(record.scene.objects) == 1
        pair = pictures.shown_pair(record)
        assert count_named([ground_truth(record)], [pair]) == Named(1, 1, 1)


def test_a_perfect_judge_finds_the_truth_and_shuffled_captions_fall_to_chance(monkeypatch, tmp_path):
    records = list(islice(world_records("test", 16), 48))
    truth = {record.rgb.tobytes(): ground_truth(record) for record in records}

    class Eye:
        name = weights = "ascan-nano-judge"

        def __init__(self, folder):
            assert folder == Path("nowhere/ascan-nano-judge")

        def __call__(self, pictures):
            return [truth[picture.tobytes()] for picture in pictures]

    monkeypatch.setattr(pictures, "JudgeDetector", Eye)
    settings = replace(
        BENCHMARK.settings, checkpoints=Path("nowhere"), true_pictures=48, shuffles=3, chance_pictures=48,
        picture_size=16,
    )  # fmt: skip
    rows = {row.id: row for row in BENCHMARK.measure("geneval", tmp_path, settings)}
    assert rows["geneval-truth"].measured == 1 and rows["geneval-truth"].passed
    assert {rows[f"geneval-truth-{tag}"].measured for tag in ("colors", "color-attr", "two-object")} == {1}
    assert sum(row.n for id, row in rows.items() if id.startswith("geneval-truth-")) == 48
    shuffled = rows["geneval-shuffled"]
    assert 0 < shuffled.rival_measured < 0.4 and abs(shuffled.measured - shuffled.rival_measured) < 0.1
    assert rows["geneval-shuffled-distance"].measured == pytest.approx(
        abs(shuffled.measured - shuffled.rival_measured), abs=1e-5
    )


@pytest.fixture(scope="module")
def settings(checkpoints):
    """A tiny untrained generator and judge beside the other models."""
    torch.manual_seed(0)
    model = AsCANModel(
        stages=("C", "T"), widths=(8, 16), strides=(2, 1, 2), stem_width=8, head_dim=8, ffn_ratio=2, expansion=2,
        image_size=16, num_classes=None, dense_outputs=DETECTION_OUTPUTS, dense_width=8, dense_pool_scales=(1,),
    ).eval()  # fmt: skip
    judge = AsCANDetectionPipeline(model, dict(enumerate(SHAPES)), dict(enumerate(COLORS)))
    unet = AsCANUNet2DModel(
        sample_size=4, in_channels=4, out_channels=4, down_stages=("C", "T"), widths=(16, 32), expansion=1, head_dim=8,
        ffn_ratio=1, num_classes=len(ALL_PAIRS), emb_dim=16,
    ).eval()  # fmt: skip
    vae = AutoencoderSnapGen.from_pretrained(checkpoints / "snapgen-nano" / "vae")
    names = dict(enumerate(map(" ".join, ALL_PAIRS)))
    generator = AsCANPipeline(unet, vae, FlowMatchEulerDiscreteScheduler(), names)
    for name, pipeline in (("-judge", judge), ("", generator)):
        save_repository(pipeline, checkpoints / f"ascan-nano{name}")
    return replace(BENCHMARK.settings, checkpoints=checkpoints, pictures_a_class=1, picture_size=16)


def test_generation_is_measured_by_judge_and_by_distance_and_drawn(settings, tmp_path):
    rows = {row.id: row for row in BENCHMARK.measure("generation", tmp_path, settings)}
    assert list(rows) == [f"generation-{name}" for name in ("named", "alone", "fid", "kid")]
    assert {row.n for row in rows.values()} == {50} and rows["generation-fid"].unit == "fid_clip-nano-judge_50"
    assert [rows[f"generation-{name}"].rival for name in ("named", "fid")] == [
        "the judge on PocketWorld's own pictures", "other real test pictures",
    ]  # fmt: skip
    with Image.open(tmp_path / "ascan.png") as sheet:
        assert sheet.width > 5 * 128 and sheet.height > 10 * 128
    assert [path.name for path in tmp_path.iterdir()] == ["ascan.png"]


def test_every_class_is_drawn_in_every_round():
    asked = []

    def pipeline(labels, generator, output_type):
        asked.append((labels, {one.initial_seed() for one in generator}))
        return type("Output", (), {"images": [Image.new("RGB", (4, 4))] * len(labels)})

    assert [len(drawn) for drawn in draw_classes(pipeline, 2)] == [50, 50]
    assert asked == [([" ".join(pair) for pair in ALL_PAIRS], {seed}) for seed in range(2)]


@pytest.mark.parametrize("name", ["digits", "judge", "geneval", "generation", "exported"])
def test_a_checkpoint_that_is_missing_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        BENCHMARK.run([name], tmp_path / "out", replace(BENCHMARK.settings, checkpoints=tmp_path))
    assert not (tmp_path / "out").exists()
