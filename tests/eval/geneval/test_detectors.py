"""Detectors for GenEval: the full-size network's pipeline on a tiny one with random weights, and the loop around it."""

import numpy as np
import pytest
import torch
from PIL import Image

from pocket_diffusers.eval.geneval.colors import ClipColorReader
from pocket_diffusers.eval.geneval.detectors import Mask2FormerDetector, box_of_mask, detect_pictures, mask_score
from pocket_diffusers.eval.geneval.score import OFFICIAL
from pocket_diffusers.pipelines.outputs import MIN_SCORE, Detections

pytest.importorskip("scipy", reason="the extra eval is not installed")
CLASSES = ("cat", "dog", "bird")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    backbone = SwinConfig(
        image_size=32,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        dim_feedforward=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=6,
        num_labels=len(CLASSES),
    )
    torch.manual_seed(0)
    target = tmp_path_factory.mktemp("mask2former")
    Mask2FormerForUniversalSegmentation(config).save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def detector(folder):
    return Mask2FormerDetector(folder, CLASSES, short_side=64, long_side=96)


def noise(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("size", [(64, 64), (50, 40), (300, 90), (21, 97)])
def test_detections_are_those_of_their_masks(detector, size):
    (found,) = detector([noise(*size)])
    assert len(found) > 0 and set(found.labels) <= set(CLASSES) and found.colors is None
    assert list(found.scores) == sorted(found.scores, reverse=True) and min(found.scores) >= MIN_SCORE
    for mask, box in zip(found.masks, found.boxes, strict=True):
        assert (mask.width, mask.height) == size
        rows, columns = np.nonzero(mask.decode())
        assert box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_a_picture_s_detections_do_not_depend_on_its_company(detector):
    one, other = noise(64, 64), noise(80, 40, 1)
    assert detector([one, other]) == [*detector([one]), *detector([other])]


def test_scores_and_masks_are_those_of_transformers(folder):
    """Its own post-processing works at 384 x 384 pixels: there nothing is scaled, and both must agree."""
    from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil

    picture = noise(384, 384)
    detector = Mask2FormerDetector(folder, CLASSES, short_side=384, long_side=384)
    (found,) = detector([picture])
    processor = Mask2FormerImageProcessorPil(size={"height": 384, "width": 384})
    inputs = processor(picture, return_tensors="pt")
    with torch.no_grad():
        output = detector.network(**inputs)
    (expected,) = processor.post_process_instance_segmentation(output, threshold=MIN_SCORE, return_binary_maps=True)
    scores = sorted((segment["score"] for segment in expected["segments_info"]), reverse=True)
    assert list(found.scores) == pytest.approx(scores, abs=2e-3)
    areas = sorted(expected["segmentation"].sum(dim=(1, 2)).tolist())
    assert sorted(mask.area for mask in found.masks) == pytest.approx(areas, rel=0.02)


def test_sides_keep_their_ratio_and_are_padded_to_32(detector):
    assert detector._size_of(noise(100, 50)) == ((50, 100), (48, 96), (64, 96))  # the long side rules
    assert detector._size_of(noise(60, 50)) == ((50, 60), (64, 77), (64, 96))  # the short side rules
    pixels = detector._pixels(Image.new("RGB", (60, 50), (255, 0, 0)), detector._size_of(noise(60, 50)))
    assert pixels.shape == (1, 3, 64, 96) and not pixels[..., 77:].any()
    assert pixels[0, :, 0, 0].tolist() == pytest.approx([(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225])


def test_mask_score_and_box_by_hand():
    logits = torch.full((4, 6), -9.0)
    logits[1, 2:5] = torch.tensor([0.1, 1.0, 2.0])
    assert mask_score(logits) == pytest.approx(torch.tensor([0.1, 1.0, 2.0]).sigmoid().mean().item())
    assert box_of_mask(logits > 0) == (2, 1, 5, 2)
    assert mask_score(torch.full((4, 6), -1.0)) == 0


def test_a_model_of_other_classes_is_refused(folder):
    with pytest.raises(ValueError, match="knows 3 classes, but 80 are named"):
        Mask2FormerDetector(folder)
    with pytest.raises(ValueError, match="sides are 0 and 96"):
        Mask2FormerDetector(folder, CLASSES, short_side=0, long_side=96)


class ByBrightness:
    """Says cat in bright pictures and nothing in dark ones."""

    name, weights = "eye", "an eye"

    def __init__(self):
        self.batches = []

    def __call__(self, pictures):
        self.batches.append(len(pictures))
        bright = [np.asarray(picture).mean() > 128 for picture in pictures]
        return [Detections(("cat",), (0.9,), ((0, 0, 8, 8),)) if each else Detections((), (), ()) for each in bright]


def metadata(**more):
    return {"tag": "colors", "include": [{"class": "cat", "count": 1, **more}], "prompt": "a cat"}


def test_pictures_are_looked_at_in_batches_and_colors_read_where_asked():
    detector, reader = ByBrightness(), ClipColorReader("clip-nano-judge", ("red", "white"))
    bright, dark = Image.new("RGB", (8, 8), "white"), Image.new("RGB", (8, 8))
    asked = [(metadata(), bright), (metadata(color="red"), bright), (metadata(color="red"), dark)]
    seen = detect_pictures(asked, detector, reader, batch_size=2)
    assert detector.batches == [2, 1]
    assert [picture.metadata for picture in seen] == [each for each, _ in asked]
    assert [picture.detections.labels for picture in seen] == [("cat",), ("cat",), ()]
    assert seen[0].detections.colors is None and seen[1].detections.colors[0] in ("red", "white")
    assert seen[0].detector == "eye" and seen[0].weights == "an eye + clip-nano-judge"
    assert detect_pictures(asked, detector)[1].weights == "an eye"
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        detect_pictures(asked, detector, batch_size=0)


def test_it_is_never_called_geneval(detector):
    assert OFFICIAL.metric(detector.name) == "geneval_hf"
