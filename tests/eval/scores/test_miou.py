"""Mean IoU against sklearn's confusion, sets of pixels, and cases by hand."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pocket_diffusers.eval.scores.miou import ConfusionCounts, mean_iou

maps = st.integers(1, 3).flatmap(
    lambda count: st.tuples(*[arrays(np.int64, (count, 4, 5), elements=st.integers(0, 4))] * 2)
)


def test_by_hand():
    """cat: 2 of 3 pixels; dog: 1 of 2; bird: nowhere; one pixel is ignored."""
    found = mean_iou([[[0, 0, 0], [1, 2, 1]]], [[[0, 0, 1], [1, 255, 1]]], ["cat", "dog", "bird"])
    assert found.iou == {"cat": 2 / 3, "dog": 2 / 3, "bird": None} and found.absent == ("bird",)
    assert found.miou == pytest.approx(2 / 3) and found.pixel_accuracy == 4 / 5
    assert (found.n, found.pixels, found.ignored, found.interval) == (1, 5, 1, None)
    record = found.to_record()
    assert json.loads(json.dumps(record))["value"] == found.miou


def test_a_class_that_is_only_predicted_counts_zero():
    found = mean_iou([[[0, 1]]], [[[0, 0]]], 3)
    assert found.iou == {"0": 0.5, "1": 0.0, "2": None} and found.miou == 0.25


@settings(deadline=None, max_examples=60)
@given(maps)
def test_equals_sets_of_pixels(pair):
    """Label 4 is ignored; every class by the sets of places that either map gives to it."""
    predictions, references = pair[0] % 4, pair[1]
    if (references == 4).all():
        return
    found = mean_iou(predictions, references, 4, ignore_index=4)
    kept = {place for place in np.ndindex(references.shape) if references[place] != 4}
    shares = []
    for label in range(4):
        wanted = {place for place in kept if references[place] == label}
        given_ = {place for place in kept if predictions[place] == label}
        share = len(wanted & given_) / len(wanted | given_) if wanted | given_ else None
        assert found.iou[str(label)] == (pytest.approx(share) if share is not None else None)
        shares += [share] if share is not None else []
    assert found.miou == pytest.approx(np.mean(shares))
    if found.interval is not None:
        assert 0 <= found.interval[0] <= found.interval[1] <= 1


def test_counts_are_sklearn_s_confusion():
    metrics = pytest.importorskip("sklearn.metrics", reason="the extra eval is not installed")
    rng = np.random.default_rng(0)
    predictions, references = rng.integers(0, 6, (2, 8, 40, 30))
    counts = ConfusionCounts(6, ignore_index=None)
    for prediction, reference in zip(predictions, references, strict=True):
        counts.add(prediction.astype(np.uint8), reference.astype(np.uint8))
    assert (counts.counts == metrics.confusion_matrix(references.ravel(), predictions.ravel())).all()
    expected = metrics.jaccard_score(references.ravel(), predictions.ravel(), average=None)
    found = counts.score()
    assert list(found.iou.values()) == pytest.approx(expected.tolist())
    assert found.pixel_accuracy == metrics.accuracy_score(references.ravel(), predictions.ravel())


def test_counts_are_exact_beyond_what_float32_holds():
    counts = ConfusionCounts(2)
    for _ in range(5):
        counts.add(np.zeros((2048, 2048), np.uint8), np.zeros((2048, 2048), np.uint8))
    counts.add([[1]], [[0]])
    assert counts.counts.tolist() == [[5 * 2**22, 1], [0, 0]]


def test_interval_narrows_with_pictures_and_is_seeded():
    rng = np.random.default_rng(1)

    def run(count, seed=0):
        references = rng.integers(0, 3, (count, 6, 6))
        wrong = rng.random(references.shape) < rng.uniform(0, 0.6, (count, 1, 1))
        return mean_iou(np.where(wrong, 0, references), references, 3, seed=seed)

    wide, narrow = run(10), run(300)
    assert wide.interval[0] < wide.miou < wide.interval[1]
    assert narrow.interval[1] - narrow.interval[0] < 0.4 * (wide.interval[1] - wide.interval[0])


@pytest.mark.parametrize(
    ("prediction", "reference", "complaint"),
    [
        ([[0, 1]], [[0]], r"prediction is \[1, 2\], but reference \[1, 1\]"),
        ([[0.5]], [[0]], r"prediction must be whole numbers.*not float64 \[1, 1\]"),
        ([0], [0], r"prediction must be whole numbers .*not int64 \[1\]"),
        ([[3]], [[0]], "prediction holds label 3; labels are 0 to 2"),
        ([[0]], [[-1]], "reference holds label -1; labels are 0 to 2"),
    ],
)
def test_bad_maps(prediction, reference, complaint):
    counts = ConfusionCounts(3)
    with pytest.raises(ValueError, match=complaint):
        counts.add(prediction, reference)
    assert not counts.counts.any()


def test_bad_requests():
    with pytest.raises(ValueError, match="no pixel was counted"):
        mean_iou([[[0]]], [[[255]]], 3)
    with pytest.raises(ValueError, match="1 predictions and 0 references"):
        mean_iou([[[0]]], [], 3)
    for classes in (0, [], ["cat", "cat"]):
        with pytest.raises(ValueError, match="classes must be different names, or a number from 1 up"):
            ConfusionCounts(classes)
