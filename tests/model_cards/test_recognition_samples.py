"""Samples of weights that look at pictures: the test data itself, and what is said of it."""

from types import SimpleNamespace

import numpy as np
import pytest

from pocket_diffusers.model_cards.recognition_samples import recognize
from pocket_diffusers.pipelines.outputs import Detections
from pocket_diffusers.training.datasets.pocketworld.records import pictures


def test_objects_are_drawn_on_the_test_pictures():
    asked = {}

    def pipeline(images, **arguments):
        asked.update(arguments, images=images)
        found = [Detections((), (), ()), Detections(("cube",), (0.9,), ((8, 8, 40, 40),), colors=("red",))]
        return SimpleNamespace(detections=found)

    pipeline.config = SimpleNamespace(image_size=64)
    (plain, caption), (drawn, _) = recognize(pipeline, pictures="pocketworld", count=2, threshold=0.4)
    records = list(pictures("test", 64, [0, 1]))
    assert asked["threshold"] == 0.4 and caption == records[0].caption
    assert [np.asarray(image).tolist() for image in asked["images"]] == [record.rgb.tolist() for record in records]
    middle = np.asarray(plain, int)[3::6, 3::6] - np.asarray(records[0].rgb, int)
    assert np.abs(middle).mean() < 6, "a picture in which nothing was found was changed"
    assert drawn.size == (384, 384)
    assert np.asarray(drawn)[200, 48].tolist() != np.asarray(records[1].rgb)[33, 8].tolist(), "no box"


def test_digits_say_what_was_read_and_what_is_true():
    pytest.importorskip("sklearn", reason="needs the extra 'eval'")

    def pipeline(images, top_k):
        assert images.shape == (3, 1, 32, 32) and images.min() >= 0 and images.max() <= 1 and top_k == 1
        return SimpleNamespace(labels=[("4",)] * 3, scores=[(0.876,)] * 3)

    shown = list(recognize(pipeline, pictures="digits", count=3))
    assert len(shown) == 3 and all(caption.startswith("4 (88%), truly ") for _, caption in shown)
    assert all(image.size == (256, 256) and len(set(image.tobytes())) > 20 for image, _ in shown)
