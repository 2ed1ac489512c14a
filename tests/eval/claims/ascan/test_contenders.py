import pytest
import torch

from pocket_diffusers.eval.claims.ascan import contenders
from pocket_diffusers.eval.claims.ascan.contenders import (
    CLASSES,
    CLASSIFIERS,
    OURS,
    build_classification,
    new_classifier,
)
from pocket_diffusers.eval.scores.operations import count_parameters
from pocket_diffusers.hub_models.transformer_ascan import AsCANModel


@pytest.fixture
def small(monkeypatch):
    """A small network in the place of all of them."""
    made = []

    def new(name, pixels):
        made.append((name, pixels))
        return AsCANModel(
            stages=("C", "T"), widths=(8, 16), stem_width=8, strides=(2, 1, 2), image_size=pixels, head_dim=8,
            num_classes=5,
        ).eval()  # fmt: skip

    monkeypatch.setattr(contenders, "new_classifier", new)
    return made


def test_rivals_have_the_parameters_of_tiny_within_a_tenth():
    with torch.device("meta"):
        ours = count_parameters(new_classifier(OURS))
        counts = {name: count_parameters(new_classifier(name)) for name in CLASSIFIERS}
    assert ours == pytest.approx(55e6, rel=0.03)
    assert {name: round(count / ours, 2) for name, count in counts.items() if abs(count / ours - 1) > 0.1} == {}


@pytest.mark.parametrize("name", [OURS, *CLASSIFIERS])
def test_every_classifier_takes_pictures_of_its_size(name):
    with torch.device("meta"):
        logits = contenders.Logits(new_classifier(name, 128))(torch.randn(2, 3, 128, 128))
    assert logits.shape == (2, CLASSES)


def test_dit_is_the_published_one():
    with torch.device("meta"):
        parameters = count_parameters(contenders.new_dit())
    embedding = 257 * 1152 + 1153 * 1152 + 1001 * 1152  # of time and class, which diffusers keeps in every block
    assert parameters - 27 * embedding == pytest.approx(675e6, rel=0.001)


def test_a_batch_is_classified(small):
    work = build_classification("some", "eager", batch=2, pixels=32)
    logits = work.call()
    assert logits.shape == (2, 5) and logits.dtype == torch.float32 and not logits.requires_grad
    assert small == [("some", 32)]
