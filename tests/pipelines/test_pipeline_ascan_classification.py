"""What AsCANImageClassificationPipeline computes, on a tiny model; the rest is in `tests/contracts`."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_ascan import DIGITS, PIXELS, make_classifier

from pocket_diffusers.pipelines.outputs import ImageClassificationOutput
from pocket_diffusers.pipelines.pipeline_ascan_classification import AsCANImageClassificationPipeline


@pytest.fixture(scope="module")
def pipeline() -> AsCANImageClassificationPipeline:
    """Three classes, 16 x 16 pixels, multiples of 8."""
    return make_classifier()


def test_result_is_the_models(pipeline):
    pixels = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = pipeline.model(2 * pixels[None] - 1).logits
    output = pipeline(pixels)
    assert isinstance(output, ImageClassificationOutput)
    torch.testing.assert_close(output.logits, logits)
    order = logits[0].argsort(descending=True).tolist()
    assert output.labels == [tuple(DIGITS[number] for number in order)]
    assert output.scores[0] == pytest.approx(logits[0].softmax(0)[order].tolist(), rel=1e-5)
    assert sum(output.scores[0]) == pytest.approx(1) and list(output.scores[0]) == sorted(output.scores[0])[::-1]


def test_top_k_and_tuple(pipeline):
    assert len(pipeline(PIXELS, top_k=99).labels[0]) == 3
    labels, scores, logits = pipeline([PIXELS] * 2, top_k=1, return_dict=False)
    best = DIGITS[int(logits[0].argmax())]
    assert labels == [(best,), (best,)] and len(scores[1]) == 1 and logits.shape == (2, 3)
    assert make_classifier(id2label=None)(PIXELS, top_k=1).labels[0][0] == str(int(logits[0].argmax()))


def test_grey_models_read_colour_pictures():
    pipeline = make_classifier(in_channels=1)
    grey = np.array(Image.fromarray(PIXELS).convert("L"))
    torch.testing.assert_close(pipeline(PIXELS).logits, pipeline(grey).logits, atol=0.02, rtol=0)
    assert torch.equal(pipeline(grey).logits, pipeline(np.dstack([grey] * 3)[..., :1]).logits)


def test_padding_keeps_proportions():
    wide = np.repeat(PIXELS[:8, :16], 1, 0)  # 8 x 16 in 16 x 16: four rows above and below repeat the edge
    by_hand = wide[np.clip(np.arange(16) - 4, 0, 7)]
    padded, stretched = make_classifier(resize_mode="pad"), make_classifier()
    torch.testing.assert_close(padded(wide).logits, padded(by_hand).logits)
    assert not torch.allclose(stretched(wide).logits, padded(wide).logits)


def test_image_size_is_a_setting():
    large = make_classifier(image_size=32)
    seen = []
    large.model.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    large(PIXELS)
    assert seen == [(1, 3, 32, 32)]


def test_models_and_settings_that_do_not_fit():
    with pytest.raises(ValueError, match="the model has no classifier"):
        make_classifier(num_classes=None)
    with pytest.raises(ValueError, match="takes 4 channels, but pictures have 1 or 3"):
        make_classifier(in_channels=4)
    with pytest.raises(ValueError, match="id2label must name the 3 classes"):
        make_classifier(id2label={0: "a"})
    with pytest.raises(ValueError, match="image_size must be a multiple of 8 pixels, not 20"):
        make_classifier(image_size=20)
    with pytest.raises(ValueError, match="resize_mode must be one of stretch, pad, not 'crop'"):
        make_classifier(resize_mode="crop")
