"""AsCAN's contracts: digits in grey, sizes that are not the model's, objects, and the words of each loop."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_ascan import make_classifier, make_detector, make_generator

from pocket_diffusers.pipelines.export.contract import PipelineContract
from pocket_diffusers.pipelines.export.methods import export_of


def contract(pipeline) -> PipelineContract:
    return export_of(pipeline).contract(pipeline)


def assembled(pipeline):
    """The pipeline that an app would have, on the original networks."""
    export = export_of(pipeline)
    promised = PipelineContract.from_record(contract(pipeline).to_record())
    (network,) = export.modules(pipeline).values()

    def run(pixels):
        made = network(pixels)
        return (made,) if isinstance(made, torch.Tensor) else made

    return export.assemble(promised, {export.network: run}, {})


@pytest.mark.parametrize(
    "make",
    [
        make_classifier,
        lambda: make_classifier(in_channels=1, resize_mode="pad"),
        lambda: make_classifier(image_size=24),
        make_detector,
    ],
    ids=["classifier", "grey classifier, which also sees digits", "larger classifier", "detector"],
)
def test_the_original_network_behind_the_contract_says_the_same(make):
    pipeline = make()
    export = export_of(pipeline)
    with torch.no_grad():
        said = export.rehearse(assembled(pipeline), range(12))
    np.testing.assert_allclose(said, export.rehearse(pipeline, range(12)), atol=1e-5, rtol=1e-5)
    assert said.std() > 1e-3 and len(said) == 12


@pytest.mark.parametrize("size", [32, 40])
def test_the_same_objects_are_found(size):
    pipeline = make_detector(image_size=size)
    picture = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    with torch.no_grad():
        (found,), (wanted,) = assembled(pipeline).detect(picture), pipeline.detect(picture)
    assert len(found) > 3 and found.scores == pytest.approx(wanted.scores, abs=1e-5)
    assert replace(found, scores=wanted.scores) == wanted


def test_the_loops_name_what_matters():
    assert "[6, 6, ..., class_labels]" in contract(make_generator()).loop
    grey, stretched = contract(make_classifier(in_channels=1)).loop, contract(make_classifier()).loop
    assert "0.299 red" in grey and "0.299" not in stretched
    assert "longer side is 16" in contract(make_classifier(resize_mode="pad")).loop
    loop = contract(make_detector()).loop
    assert "padded to 32 x 32" in loop and "from 0.05 up" in loop and "8 * offset" in loop
    assert contract(make_detector()).constants["labels"] == {"0": "cube", "1": "sphere"}


def test_a_generator_that_takes_text_cannot_be_exported():
    with pytest.raises(ValueError, match="the UNet takes text, but an export knows only class labels"):
        contract(make_generator(None, num_classes=None, cross_attention_dim=8))
