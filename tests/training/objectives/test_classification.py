import pytest
import torch

from pocket_diffusers.hub_models.transformer_ascan import AsCANModel
from pocket_diffusers.pipelines.fitting.loop import FitSettings, fit
from pocket_diffusers.training.datasets.labelled_images import LabelledImages
from pocket_diffusers.training.datasets.streams import shuffled_batches
from pocket_diffusers.training.objectives.classification import (
    Classification,
    ClassificationSettings,
    accuracy,
    moved_about,
)

PLAIN = ClassificationSettings(
    learning_rate=3e-3,
    weight_decay=0.0,
    label_smoothing=0.0,
    mixup=0.0,
    cutmix=0.0,
    turn=0,
    zoom=0,
    shift=0,
    mirror=False,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def move(pictures, **changes):
    return moved_about(pictures, generator(), **{"turn": 0, "zoom": 0, "shift": 0, "mirror": False, **changes})


def test_pictures_that_may_not_move_stay():
    pictures = torch.rand(3, 1, 16, 16)
    assert move(pictures) is pictures


def test_mirrored_pictures_are_mirror_images():
    pictures = torch.rand(16, 1, 8, 8, generator=generator())
    made = move(pictures, mirror=True)
    flipped = [bool(torch.allclose(a, b.flip(-1), atol=1e-5)) for a, b in zip(made, pictures, strict=True)]
    kept = [bool(torch.allclose(a, b, atol=1e-5)) for a, b in zip(made, pictures, strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True)) and 0 < sum(flipped) < 16


def test_moved_pictures_keep_their_mass_about_their_centre():
    at = torch.arange(32) - 15.5
    blob = torch.exp(-(at[:, None] ** 2 + at[None] ** 2) / 20).expand(12, 1, 32, 32)
    turned = move(blob, turn=40)
    assert torch.allclose(turned, blob, atol=0.02)  # a round blob looks the same from every side
    shifted = move(blob, shift=0.2)
    center = (shifted[:, 0].sum(1) * at).sum(1) / shifted.sum((1, 2, 3))
    assert 1 < center.abs().max() <= 0.2 * 32 + 0.1
    scaled = move(blob, zoom=0.3)
    spread = scaled.sum((1, 2, 3)) / blob.sum((1, 2, 3))
    assert 0.45 < spread.min() < 0.95 and 1.05 < spread.max() < 1.75


@pytest.mark.slow
def test_classes_that_differ_are_learned():
    torch.manual_seed(0)
    labels = torch.randint(2, (96,), generator=generator())
    pictures = 0.3 * torch.randn(96, 1, 32, 32, generator=generator())
    pictures[labels == 1, :, :, :16] += 1.0  # one class is bright on the left
    data = LabelledImages(pictures.clamp(-1, 1), labels, ("flat", "left"))
    model = AsCANModel.from_preset("nano", num_classes=2, image_size=32, in_channels=1)
    before = accuracy(model, data)
    fit(Classification(model, PLAIN, data), shuffled_batches(96, 32, 0), FitSettings(steps=25), progress=False)
    assert before < 0.8 and accuracy(model, data) > 0.95
