import math

import pytest
import torch

from pocket_diffusers.hub_models.transformer_ascan import AsCANModel
from pocket_diffusers.pipelines.fitting.loop import FitSettings, fit
from pocket_diffusers.pipelines.recognition.instance_decoding import OFFSET_UNIT, decode_instances
from pocket_diffusers.training.datasets.instance_images import InstanceImages, dense_targets
from pocket_diffusers.training.datasets.pocketworld.scene import COLORS, SHAPES
from pocket_diffusers.training.datasets.streams import shuffled_batches
from pocket_diffusers.training.objectives.detection import DETECTION_OUTPUTS, DetectionObjective, detection_losses


@pytest.fixture
def squares():
    """Sixteen pictures of a red cube (a bright square) in one of four corners."""
    pixels = torch.full((16, 3, 32, 32), 90, dtype=torch.uint8)
    instances = torch.zeros(16, 32, 32, dtype=torch.uint8)
    for i in range(16):
        y, x = 4 + 14 * (i % 2), 4 + 14 * (i // 2 % 2)
        pixels[i, 0, y : y + 10, x : x + 10] = 230
        instances[i, y : y + 10, x : x + 10] = 1
    shapes, colors = torch.full((16, 6), 255, dtype=torch.uint8), torch.full((16, 6), 255, dtype=torch.uint8)
    shapes[:, 0], colors[:, 0] = SHAPES.index("cube"), list(COLORS).index("red")
    return InstanceImages(pixels, instances, shapes, colors)


def perfect(targets):
    """Dense predictions, as sure as can be, that say exactly what the targets are."""
    one_hot = torch.nn.functional.one_hot
    center = targets.center.clamp(1e-6, 1 - 1e-6)
    return {
        "shape": 40 * one_hot(targets.shape, DETECTION_OUTPUTS["shape"]).permute(0, 3, 1, 2).float(),
        "color": 40 * one_hot(targets.color, DETECTION_OUTPUTS["color"]).permute(0, 3, 1, 2).float(),
        "center": (center / (1 - center)).log()[:, None],
        "offset": targets.offset / OFFSET_UNIT,
    }


def test_the_losses_of_perfect_predictions_are_the_least(squares):
    targets = squares.targets(torch.arange(4))
    losses = detection_losses(perfect(targets), targets)
    entropy = torch.nn.functional.binary_cross_entropy(targets.center, targets.center)  # soft targets keep that much
    assert losses["shape"] < 1e-6 and losses["color"] < 1e-6 and losses["offset"] < 1e-6
    assert float(losses["center"]) == pytest.approx(4 * float(entropy), rel=1e-3)


def test_ignorance_costs_what_it_must(squares):
    targets = squares.targets(torch.arange(4))
    nothing = {name: torch.zeros(4, channels, 8, 8) for name, channels in DETECTION_OUTPUTS.items()}
    losses = detection_losses(nothing, targets)
    assert float(losses["shape"]) == pytest.approx(math.log(6), rel=1e-5)
    assert float(losses["color"]) == pytest.approx(0.5 * math.log(10), rel=1e-5)
    assert float(losses["center"]) == pytest.approx(4 * math.log(2), rel=1e-5)


def test_targets_decode_to_the_objects_they_came_from(squares):
    found = decode_instances(perfect(squares.targets(torch.arange(4))), (32, 32), SHAPES, tuple(COLORS))
    for i, detections in enumerate(found):
        assert (detections.labels, detections.colors) == (("cube",), ("red",))
        assert (detections.masks[0].decode() == (squares.instances[i] == 1).numpy()).all()
        assert detections.scores[0] > 0.95


def test_two_equal_neighbours_come_out_as_two():
    instances = torch.zeros(1, 32, 32, dtype=torch.uint8)
    instances[0, 10:20, 4:14], instances[0, 10:20, 14:24] = 1, 2
    words = torch.tensor([[0, 0, 255]], dtype=torch.uint8)
    (found,) = decode_instances(perfect(dense_targets(instances, words, words)), (32, 32), SHAPES, tuple(COLORS))
    assert sorted(mask.area for mask in found.masks) == [100, 100]


@pytest.mark.slow
def test_a_detector_learns_squares(squares):
    torch.manual_seed(0)
    model = AsCANModel.from_preset("nano", num_classes=None, dense_outputs=DETECTION_OUTPUTS, image_size=32)
    objective = DetectionObjective(model, squares, 3e-3, 0.0, spoilt=0.2)
    fit(objective, shuffled_batches(16, 8, 0), FitSettings(steps=60, ema_decay=0.9), progress=False)
    with torch.no_grad():
        dense = model(2 * squares.images(torch.arange(4)) - 1).dense
    for i, detections in enumerate(decode_instances(dense, (32, 32), SHAPES, tuple(COLORS))):
        best = detections.above(0.5)
        assert best.labels == ("cube",) and best.colors == ("red",)
        truth, mask = (squares.instances[i] == 1).numpy(), best.masks[0].decode()
        assert (truth & mask).sum() / (truth | mask).sum() > 0.7
