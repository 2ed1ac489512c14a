"""The contract of AsCANDetectionPipeline: on a tiny model, and on one whose dense maps are made by hand."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from diffusers.pipelines import pipeline_utils
from diffusers.utils import dynamic_modules_utils
from PIL import Image

from pocket_diffusers.hub_models.transformer_ascan import AsCANModel, AsCANOutput
from pocket_diffusers.pipelines.outputs import MIN_SCORE, DetectionOutput, Detections
from pocket_diffusers.pipelines.pipeline_ascan_detection import AsCANDetectionPipeline
from pocket_diffusers.pipelines.recognition.instance_decoding import OFFSET_UNIT
from pocket_diffusers.pipelines.repository import save_repository

LABELS = {0: "cube", 1: "sphere"}
COLORS = {0: "red", 1: "green", 2: "blue"}
OUTPUTS = {"shape": 3, "color": 3, "center": 1, "offset": 2}
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 28, 3), dtype=np.uint8)


def make_model(**changes) -> AsCANModel:
    options = {
        "stages": ("C", "T"), "widths": (8, 16), "stem_width": 8, "strides": (2, 1, 2), "image_size": 32,
        "head_dim": 8, "ffn_ratio": 2, "expansion": 2, "num_classes": None, "dense_outputs": OUTPUTS,
        "dense_width": 8, "dense_pool_scales": (1,),
    }  # fmt: skip
    torch.manual_seed(0)
    model = AsCANModel(**{**options, **changes}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def make(id2label=LABELS, id2color=COLORS, image_size=None, **model) -> AsCANDetectionPipeline:
    pipeline = AsCANDetectionPipeline(make_model(**model), id2label, id2color, image_size)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def pipeline() -> AsCANDetectionPipeline:
    """Two classes, three colours, 32 x 32 pixels, multiples of 4."""
    return make()


@pytest.fixture
def seeing(pipeline, monkeypatch) -> AsCANDetectionPipeline:
    """Its model sees red, green and blue squares as they are: one object of a colour, cube left and sphere right."""

    def forward(self, pixel_values):
        pixels = F.avg_pool2d(pixel_values / 2 + 0.5, 2)
        inside = pixels.amax(1) - pixels.amin(1) > 0.5
        batch, height, width = inside.shape
        dense = {
            "shape": torch.zeros(batch, 3, height, width),
            "color": 20 * pixels,
            "center": torch.full((batch, 1, height, width), -20.0),
            "offset": torch.zeros(batch, 2, height, width),
        }
        dense["shape"][:, 0] = torch.where(inside, -20.0, 20.0)
        dense["shape"][:, 1, :, : width // 2] = 5
        dense["shape"][:, 2, :, width // 2 :] = 5
        for index in range(batch):
            for color in range(3):
                own = (inside[index] & (pixels[index].argmax(0) == color)).nonzero()
                if not len(own):
                    continue
                y, x = own.float().mean(0).round().long().tolist()
                dense["center"][index, 0, y, x] = 20
                for row, column in own.tolist():
                    dense["offset"][index, :, row, column] = torch.tensor([y - row, x - column]) * 2 / OFFSET_UNIT
        return AsCANOutput(logits=None, feature_maps=(), dense=dense)

    monkeypatch.setattr(AsCANModel, "forward", forward)
    return pipeline


def scene(height, width, **squares) -> np.ndarray:
    """Grey picture with a rectangle (x0, y0, x1, y1) for each colour."""
    pixels = np.full((height, width, 3), 128, dtype=np.uint8)
    for color, (x0, y0, x1, y1) in squares.items():
        pixels[y0:y1, x0:x1] = [255 * (color == name) for name in COLORS.values()]
    return pixels


class TestObjects:
    def test_squares_are_found(self, seeing):
        picture = scene(32, 32, red=(2, 4, 12, 16), blue=(20, 18, 30, 28))
        (found,) = seeing(picture).detections
        assert dict(zip(found.labels, found.colors, strict=True)) == {"cube": "red", "sphere": "blue"}
        for color, box in zip(found.colors, found.boxes, strict=True):
            assert np.abs(np.subtract(box, {"red": (2, 4, 12, 16), "blue": (20, 18, 30, 28)}[color])).max() <= 1
        assert min(found.scores) > 0.9

    @pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 96), (96, 48), (30, 20), (101, 67)])
    def test_boxes_and_masks_are_the_pictures_own(self, seeing, height, width):
        """Whatever the picture's size: padding is taken away and the scale undone."""
        box = (0.1 * width, 0.2 * height, 0.45 * width, 0.7 * height)
        box = tuple(round(side) for side in box)
        (found,) = seeing(scene(height, width, green=box)).detections
        assert found.colors == ("green",) and found.labels == ("cube",)
        pixel = max(height, width) / 32
        assert np.abs(np.subtract(found.boxes[0], box)).max() <= 2 * pixel + 1
        mask = found.masks[0].decode()
        truth = np.zeros((height, width), dtype=bool)
        truth[box[1] : box[3], box[0] : box[2]] = True
        assert mask.shape == (height, width) and (mask & truth).sum() / (mask | truth).sum() > 0.7
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert found.boxes[0] == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)

    def test_empty_pictures_and_mixed_sizes(self, seeing):
        found = seeing([scene(32, 32), scene(50, 40, red=(4, 4, 20, 24)), Image.fromarray(scene(20, 64))]).detections
        assert [len(each) for each in found] == [0, 1, 0]
        assert found[1].masks[0].height == 50 and found[1].masks[0].width == 40

    def test_threshold(self, seeing, monkeypatch):
        picture = scene(32, 32, red=(2, 4, 12, 16))
        everything = seeing.detect(picture)
        assert seeing(picture, threshold=MIN_SCORE).detections == everything
        assert len(seeing(picture, threshold=1).detections[0]) == 0


class TestInterface:
    def test_every_kind_of_picture_gives_one_result(self, pipeline):
        pixels = torch.from_numpy(PIXELS).permute(2, 0, 1).float() / 255
        expected = pipeline.dense_maps(pixels)
        assert {name: tuple(value.shape) for name, value in expected.items()} == {
            name: (1, channels, 16, 16) for name, channels in OUTPUTS.items()
        }
        for images in (PIXELS, Image.fromarray(PIXELS), [PIXELS], pixels[None]):
            for name, value in pipeline.dense_maps(images).items():
                torch.testing.assert_close(value, expected[name], atol=1e-4, rtol=1e-4)

    def test_a_picture_does_not_depend_on_its_batch(self, pipeline):
        images = [PIXELS, PIXELS[:9], PIXELS[:, :5], Image.fromarray(PIXELS).rotate(90)]
        whole = pipeline.dense_maps(images)
        for name, value in pipeline.dense_maps(images, batch_size=3).items():
            torch.testing.assert_close(value, whole[name], atol=1e-4, rtol=1e-4)
            alone = torch.cat([pipeline.dense_maps(image)[name] for image in images])
            torch.testing.assert_close(alone, whole[name], atol=1e-4, rtol=1e-4)
        found = pipeline.detect(images)
        assert [each.masks[0].height for each in found if len(each)] == [20, 9, 20, 20]
        assert found == pipeline.detect(images) and all(isinstance(each, Detections) for each in found)

    def test_maps_are_the_models(self, pipeline):
        pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = pipeline.model(2 * pixels - 1).dense
        for name, value in pipeline.dense_maps(pixels).items():
            torch.testing.assert_close(value, expected[name])

    def test_outputs(self, pipeline):
        output = pipeline([PIXELS] * 2)
        assert isinstance(output, DetectionOutput) and len(output.detections) == 2
        (detections,) = pipeline([PIXELS] * 2, return_dict=False)
        assert detections == output.detections
        assert all(score >= 0.3 for score in detections[0].scores)
        assert all(score >= MIN_SCORE for score in pipeline.detect(PIXELS)[0].scores)

    def test_image_size_is_a_setting(self):
        assert make(image_size=48).dense_maps(PIXELS)["center"].shape == (1, 1, 24, 24)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision(self, pipeline, dtype):
        full = pipeline.dense_maps(PIXELS)
        half = pipeline.to(dtype).dense_maps(PIXELS)
        for name, value in half.items():
            assert value.dtype == torch.float32 and value.isfinite().all()
            assert (value - full[name]).abs().mean() < 0.03 * full[name].abs().mean() + 0.03

    def test_progress_bar(self, pipeline, capsys):
        pipeline.set_progress_bar_config(disable=False)
        pipeline([PIXELS] * 3, batch_size=2)
        assert "3/3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"images": []}, "images is empty"),
        ({"images": [PIXELS, "no.png"]}, r"images\[1\]: there is no picture file at no.png"),
        ({"images": [PIXELS, {}]}, r"images\[1\] must be a PIL picture"),
        ({"images": np.full((4, 4, 3), np.nan)}, "holds NaN"),
        ({"threshold": 0.01}, "threshold must be a number from 0.05 to 1, not 0.01"),
        ({"threshold": 2}, "threshold must be a number"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
    ],
)
def test_bad_input(pipeline, monkeypatch, kwargs, message):
    monkeypatch.setattr(AsCANModel, "forward", lambda *a, **k: pytest.fail("ran"))
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        pipeline(**{"images": PIXELS, **kwargs})
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "outputs", [None, {**OUTPUTS, "offset": 3}, {**OUTPUTS, "shape": 1}, {"shape": 3, "color": 3, "center": 1}]
)
def test_models_without_the_outputs(outputs):
    with pytest.raises(ValueError, match="dense_outputs must be shape"):
        make(dense_outputs=outputs)


def test_settings_that_do_not_fit(pipeline):
    with pytest.raises(ValueError, match="id2label must name the 2 classes"):
        make(id2label={0: "a"})
    with pytest.raises(ValueError, match="id2color must name the 3 classes"):
        make(id2color={0: "a"})
    with pytest.raises(ValueError, match="image_size must be a multiple of 4 pixels, not 30"):
        make(image_size=30)
    with pytest.raises(ValueError, match="takes 1 channels, but colours need 3"):
        make(in_channels=1)
    pipeline.model.train()
    for call in (pipeline, pipeline.detect, pipeline.dense_maps):
        with pytest.raises(ValueError, match=r"training mode.*call model.eval\(\) first"):
            call(PIXELS)


def realigned(pipeline):
    """A loaded pipeline with its weights at addresses like new ones': kernels round by alignment, in the last bit."""
    for part in pipeline.components.values():
        for tensor in (*part.parameters(), *part.buffers()) if isinstance(part, torch.nn.Module) else ():
            tensor.data = tensor.data.clone()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_save_and_load_is_bit_exact(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline_utils.logger, "warning", pytest.fail)
    pipeline = make(image_size=40)
    pipeline.save_pretrained(tmp_path)
    again = realigned(AsCANDetectionPipeline.from_pretrained(tmp_path))
    before, after = pipeline.dense_maps(PIXELS), again.dense_maps(PIXELS)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert (
        (again.labels, again.colors)
        == (pipeline.labels, pipeline.colors)
        == (("cube", "sphere"), tuple(COLORS.values()))
    )
    assert again.config.image_size == 40


def test_plain_diffusers_loads_the_repository(pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = save_repository(pipeline, tmp_path / "ascan-tiny", dtype=torch.float32, readme="a card")
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline_ascan_detection", "AsCANDetectionPipeline"]
    loaded = realigned(DiffusionPipeline.from_pretrained(folder, trust_remote_code=True))
    assert type(loaded) is AsCANDetectionPipeline
    assert loaded.detect(PIXELS) == pipeline.detect(PIXELS)
