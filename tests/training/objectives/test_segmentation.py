import math

import pytest
import torch

from pocket_diffusers.hub_models.transformer_ascan import AsCANModel
from pocket_diffusers.training.datasets.rows import UNKNOWN
from pocket_diffusers.training.objectives.segmentation import OUTPUT, Segmentation, semantic_logits


@pytest.fixture
def model():
    torch.manual_seed(0)
    return AsCANModel.from_preset("nano", num_classes=None, dense_outputs={OUTPUT: 3}, image_size=32)


def loss_of(model, labels):
    pictures = torch.zeros(len(labels), 3, 32, 32)
    objective = Segmentation(model, lambda batch: batch, 1e-3, 0.0)
    return objective.loss("model", (pictures, labels), torch.Generator().manual_seed(0))


def test_logits_have_the_size_of_the_pictures(model):
    assert semantic_logits(model, torch.zeros(2, 3, 64, 32)).shape == (2, 3, 64, 32)


def test_ignored_pixels_count_for_nothing(model):
    head = model.dense_head.outputs[OUTPUT]
    torch.nn.init.zeros_(head.weight)
    with torch.no_grad():
        head.bias.copy_(torch.tensor([0.0, 0.0, 2.0]))  # every pixel gets these logits
    labels = torch.full((2, 32, 32), UNKNOWN)
    labels[0, :4], labels[1, 5] = 2, 0
    loss, numbers = loss_of(model, labels)
    total = math.log(2 + math.exp(2))
    assert float(loss) == pytest.approx((128 * (total - 2) + 32 * total) / 160, rel=1e-4)
    assert numbers["pixel_accuracy"] == pytest.approx(0.8)


def test_a_batch_of_nothing_but_ignored_pixels_is_no_nan_loss(model):
    assert float(loss_of(model, torch.full((1, 32, 32), UNKNOWN))[0]) == 0
