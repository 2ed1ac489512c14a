"""What AsCANDetectionPipeline finds: on a tiny model, and on one whose dense maps are made by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_ascan import COLORS, DENSE, PICTURES, PIXELS, make_detector

from pocket_diffusers.hub_models.transformer_ascan import AsCANModel, AsCANOutput
from pocket_diffusers.pipelines.outputs import MIN_SCORE, DetectionOutput, Detections
from pocket_diffusers.pipelines.pipeline_ascan_detection import AsCANDetectionPipeline
from pocket_diffusers.pipelines.recognition.instance_decoding import OFFSET_UNIT


@pytest.fixture(scope="module")
def pipeline() -> AsCANDetectionPipeline:
    """Two classes, three colours, 32 x 32 pixels, multiples of 4."""
    return make_detector()


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
    def test_masks_are_of_each_pictures_size(self, pipeline):
        found = pipeline.detect(PICTURES)
        assert [each.masks[0].height for each in found if len(each)] == [20, 9, 20]
        assert found == pipeline.detect(PICTURES) and all(isinstance(each, Detections) for each in found)

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
        assert make_detector(image_size=48).dense_maps(PIXELS)["center"].shape == (1, 1, 24, 24)


@pytest.mark.parametrize(
    "outputs", [None, {**DENSE, "offset": 3}, {**DENSE, "shape": 1}, {"shape": 3, "color": 3, "center": 1}]
)
def test_models_without_the_outputs(outputs):
    with pytest.raises(ValueError, match="dense_outputs must be shape"):
        make_detector(dense_outputs=outputs)


def test_settings_that_do_not_fit():
    with pytest.raises(ValueError, match="id2label must name the 2 classes"):
        make_detector(id2label={0: "a"})
    with pytest.raises(ValueError, match="id2color must name the 3 classes"):
        make_detector(id2color={0: "a"})
    with pytest.raises(ValueError, match="image_size must be a multiple of 4 pixels, not 30"):
        make_detector(image_size=30)
    with pytest.raises(ValueError, match="takes 1 channels, but colours need 3"):
        make_detector(in_channels=1)
    pipeline = make_detector()
    pipeline.model.train()
    for call in (pipeline.detect, pipeline.dense_maps):
        with pytest.raises(ValueError, match=r"training mode.*call model.eval\(\) first"):
            call(PIXELS)
