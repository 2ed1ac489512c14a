"""Colours read by a CLIP model: what it is shown, what it compares with, and whether it reads PocketWorld."""

import numpy as np
import pytest
import torch
from PIL import Image

from pocket_diffusers.eval.geneval.colors import TEMPLATES, ClipColorReader
from pocket_diffusers.eval.scores.instance_f1 import ground_truth
from pocket_diffusers.pipelines.outputs import Detections, MaskRLE
from pocket_diffusers.training.datasets.pocketworld.records import pictures
from pocket_diffusers.training.datasets.pocketworld.scene import COLORS


@pytest.fixture(scope="module")
def reader():
    return ClipColorReader("clip-nano-judge", tuple(COLORS))


def disc(side=32, color=(200, 30, 30)):
    """A disc on green, and its detections, the second one too unsure to be looked at."""
    y, x = np.mgrid[:side, :side]
    mask = (x - 12) ** 2 + (y - 10) ** 2 < 36
    pixels = np.where(mask[..., None], color, (0, 255, 0)).astype(np.uint8)
    rle = MaskRLE.encode(mask)
    box = (7.0, 5.0, 18.0, 16.0)
    return Image.fromarray(pixels), mask, Detections(("cube", "cube"), (0.9, 0.1), (box, box), (rle, rle))


def test_an_object_is_shown_on_grey_and_cut_to_its_box(reader):
    picture, mask, detections = disc()
    shown = np.asarray(reader._cut(picture, detections, 0))
    inside = mask[5:16, 7:18]
    assert shown.shape == (11, 11, 3)
    assert (shown[inside] == (200, 30, 30)).all() and (shown[~inside] == 0x99).all() and (~inside).any()
    whole = ClipColorReader("clip-nano-judge", ("red",), background="original", crop=False)
    assert np.array_equal(np.asarray(whole._cut(picture, detections, 0)), np.asarray(picture))


def test_boxes_are_rounded_as_pillow_does(reader):
    picture, _, detections = disc()
    moved = Detections(("cube",), (0.9,), ((7.4, 4.6, 17.6, 16.4),), detections.masks[:1])
    assert reader._cut(picture, moved, 0).size == (11, 11)


def test_a_color_is_three_captions_of_unit_length_averaged(reader):
    found = reader._classifier("cone")
    for row, color in zip(found, COLORS, strict=True):
        texts = [template.format(color=color, label="cone") for template in TEMPLATES]
        assert texts[0] == f"a photo of a {color} cone" and texts[1].startswith(f"a photo of a {color}-colored")
        vectors = reader._clip.encode_texts(texts)
        mean = sum(vector / vector.norm() for vector in vectors) / 3
        assert torch.allclose(row, mean / mean.norm(), atol=1e-5)


def test_the_nearest_color_is_taken_and_the_rest_is_left(reader):
    picture, _, detections = disc()
    scores = reader.scores([reader._cut(picture, detections, 0)], "cube")
    assert scores.shape == (1, 10) and scores.abs().max() <= 1
    read = reader.read(picture, detections)
    assert read.colors == (tuple(COLORS)[scores.argmax()], None)  # the second scores 0.1 only
    assert (read.labels, read.scores, read.masks) == (detections.labels, detections.scores, detections.masks)
    assert reader.read(picture, detections, labels={"cone"}).colors == (None, None)
    assert None not in reader.read(picture, detections, min_score=0.05).colors


def test_an_object_without_pixels_has_no_color(reader):
    picture, _, _ = disc()
    point = Detections(("cube",), (0.9,), ((3.2, 3.2, 3.3, 3.3),))
    assert reader.read(picture, point).colors == (None,)


def test_masks_must_be_of_the_picture_s_size(reader):
    _, _, detections = disc()
    with pytest.raises(ValueError, match="masks are 32 x 32 pixels, but the picture is 40 x 30"):
        reader.read(Image.new("RGB", (40, 30)), detections)
    with pytest.raises(ValueError, match="colors is empty"):
        ClipColorReader("clip-nano-judge", ())


def test_it_reads_pocketworld_far_above_chance(reader):
    """clip-nano-judge never saw objects on grey, so half right is much; one in ten is chance."""
    right = []
    for picture in pictures("test", 64, range(40)):
        truth = ground_truth(picture)
        blind = Detections(truth.labels, truth.scores, truth.boxes, truth.masks)
        read = reader.read(Image.fromarray(picture.rgb), blind)
        right += [one == other for one, other in zip(read.colors, truth.colors, strict=True)]
    assert np.mean(right) > 0.4, np.mean(right)
