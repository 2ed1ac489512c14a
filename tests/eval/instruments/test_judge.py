import numpy as np
import pytest
import torch
from PIL import Image

from pocket_diffusers.eval.instruments.judge import JudgeDetector
from pocket_diffusers.hub_models.transformer_ascan import AsCANModel
from pocket_diffusers.pipelines.outputs import MIN_SCORE
from pocket_diffusers.pipelines.pipeline_ascan_detection import AsCANDetectionPipeline
from pocket_diffusers.pipelines.repository import save_repository


def test_it_sees_what_the_pipeline_sees(tmp_path):
    torch.manual_seed(0)
    model = AsCANModel(
        stages=("C", "T"), widths=(8, 16), strides=(2, 1, 2), stem_width=8, head_dim=8, image_size=16, num_classes=None,
        dense_outputs={"shape": 3, "color": 2, "center": 1, "offset": 2}, dense_width=8, dense_pool_scales=(1,),
    ).eval()  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():  # so that it sees something
        model.dense_head.outputs["center"].bias.fill_(2)
        model.dense_head.outputs["shape"].bias.copy_(torch.tensor([-9.0, 9.0, 0.0]))
    pipeline = AsCANDetectionPipeline(model, {0: "cube", 1: "cone"}, {0: "red", 1: "blue"})
    save_repository(pipeline, tmp_path / "some-judge", dtype=torch.float32)
    detector = JudgeDetector(tmp_path / "some-judge")
    pictures = [
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)),
        Image.new("RGB", (16, 16), "red"),
    ]
    found = detector(pictures)
    assert found == pipeline.detect(pictures) and sum(map(len, found)) > 0
    assert min(score for each in found for score in each.scores) >= MIN_SCORE
    assert (detector.name, detector.weights) == ("some-judge",) * 2


def test_a_missing_judge_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        JudgeDetector(tmp_path / "nobody")
