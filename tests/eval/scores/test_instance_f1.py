from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket_diffusers.eval.scores.instance_f1 import InstanceCounts, count_all, count_instances, ground_truth, mask_ious
from pocket_diffusers.pipelines.outputs import Detections, MaskRLE
from pocket_diffusers.training.datasets.pocketworld.records import pictures

SIDE = 8


def mask(rows, columns):
    shown = np.zeros((SIDE, SIDE), bool)
    shown[slice(*rows), slice(*columns)] = True
    return shown


def detections(*objects):
    """(label, score, color, mask) each."""
    labels, scores, colors, masks = zip(*objects, strict=True) if objects else ((),) * 4
    return Detections(labels, scores, ((0, 0, 1, 1),) * len(labels), tuple(map(MaskRLE.encode, masks)), colors)


LEFT, RIGHT = mask((0, 4), (0, 4)), mask((0, 4), (4, 8))
TRUTH = detections(("cube", 1, "red", LEFT), ("cube", 1, "blue", RIGHT))


@pytest.mark.parametrize(
    ("found", "counts"),
    [
        (TRUTH, (2, 0, 0, 2)),
        (detections(), (0, 0, 2, 0)),
        (detections(("cube", 0.9, "red", LEFT)), (1, 0, 1, 1)),
        (detections(("cube", 0.9, "blue", LEFT), ("cube", 0.9, "blue", RIGHT)), (2, 0, 0, 1)),
        (detections(("sphere", 0.9, "red", LEFT)), (0, 1, 2, 0)),  # right place, wrong class
        (detections(("cube", 0.9, "red", LEFT), ("cube", 0.8, "red", LEFT)), (1, 1, 1, 1)),  # seen twice
        (detections(("cube", 0.29, "red", LEFT)), (0, 0, 2, 0)),  # below the threshold it is not there
        (detections(("cube", 0.3, "red", LEFT)), (1, 0, 1, 1)),
        (detections(("cube", 0.9, "red", mask((0, 4), (0, 2)))), (1, 0, 1, 1)),  # IoU is exactly 0.5
        (detections(("cube", 0.9, "red", mask((0, 4), (1, 2)))), (0, 1, 2, 0)),  # IoU is 0.25
        (detections(("cube", 0.9, "red", mask((0, 4), (0, 8)))), (1, 0, 1, 1)),  # both neighbours as one
    ],
)
def test_cases_made_by_hand(found, counts):
    assert count_instances(found, TRUTH) == InstanceCounts(*counts)


def test_the_better_detection_chooses_first():
    whole, most = mask((0, 4), (0, 4)), mask((0, 3), (0, 4))
    truth = detections(("cube", 1, "red", whole), ("cube", 1, "red", mask((4, 8), (0, 4))))
    found = detections(("cube", 0.5, "red", whole), ("cube", 0.9, "blue", most))
    assert count_instances(found, truth) == InstanceCounts(1, 1, 1, 0), "the blue one was surer"


def test_f1_and_colours_are_ratios_of_sums():
    total = InstanceCounts(3, 1, 2, 2) + InstanceCounts(1, 0, 0, 1)
    assert total == InstanceCounts(4, 1, 2, 3)
    assert total.f1 == pytest.approx(2 * (4 / 5) * (4 / 6) / (4 / 5 + 4 / 6)), "harmonic mean of precision and recall"
    assert total.color_accuracy == 3 / 4
    assert InstanceCounts(0, 0, 0, 0).f1 == 1
    assert np.isnan(InstanceCounts(0, 2, 1, 0).color_accuracy)


def naive_counts(found, truth):
    """The same with sets of pixels, one detection after another."""
    pixels = [[{*zip(*np.nonzero(m.decode()), strict=True)} for m in each.masks] for each in (found, truth)]
    left, matched, wrong, right = list(range(len(truth))), 0, 0, 0
    for i in sorted((i for i in range(len(found)) if found.scores[i] >= 0.3), key=lambda i: (-found.scores[i], i)):
        best = None
        for k in left:
            shared, union = len(pixels[0][i] & pixels[1][k]), len(pixels[0][i] | pixels[1][k])
            if found.labels[i] == truth.labels[k] and 2 * shared >= union > 0:
                best = max([*([best] if best else []), (shared / union, -k)])
        if best is None:
            wrong += 1
            continue
        left.remove(-best[1])
        matched += 1
        right += found.colors[i] == truth.colors[-best[1]]
    return InstanceCounts(matched, wrong, len(left), right)


rows = st.tuples(st.integers(0, 3), st.integers(4, SIDE))
things = st.lists(
    st.tuples(st.sampled_from(["cube", "torus"]), st.sampled_from([0.1, 0.4, 0.9]), st.sampled_from(["red", "blue"]),
              st.builds(mask, rows, rows)), max_size=4,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(things, things)
def test_it_agrees_with_a_naive_twin(found, truth):
    found, truth = detections(*found), detections(*truth)
    assert count_instances(found, truth) == naive_counts(found, truth)


def test_ious_of_masks():
    masks = [LEFT, RIGHT, mask((0, 8), (0, 8)), mask((0, 0), (0, 0))]
    found = mask_ious([*map(MaskRLE.encode, masks)], [*map(MaskRLE.encode, masks)])
    expected = [[(a & b).sum() / max(1, (a | b).sum()) for b in masks] for a in masks]
    np.testing.assert_allclose(found, expected)


def test_masks_are_needed():
    bare = Detections(("cube",), (1,), ((0, 0, 1, 1),))
    for found, truth in ((bare, TRUTH), (TRUTH, bare)):
        with pytest.raises(ValueError, match="must have masks"):
            count_instances(found, truth)


def test_ground_truth_of_pocketworld_is_perfect():
    records = list(pictures("test", 32, range(6)))
    truth = [ground_truth(record) for record in records]
    counts = count_all(truth, truth)
    assert [(one.matched, one.wrong, one.missed) for one in counts] == [(len(each), 0, 0) for each in truth]
    for record, each in zip(records, truth, strict=True):
        assert len(each) == len(record.scene.objects) > 0
        for number, (x0, y0, x1, y1) in enumerate(each.boxes):
            shown = each.masks[number].decode()
            assert shown.sum() == (record.instances == number + 1).sum()
            inside = np.zeros_like(shown)
            inside[int(y0) : int(y1), int(x0) : int(x1)] = True
            assert not (shown & ~inside).any(), "masks lie in their boxes"
    other = [ground_truth(record) for record in pictures("test", 32, range(6, 12))]
    for found, each in product(other, truth):
        assert count_instances(found, each).missed <= len(each)
