"""Objects out of hand-made dense maps, and pixels assigned as a naive loop does it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket_diffusers.pipelines.outputs import MIN_SCORE
from pocket_diffusers.pipelines.recognition.instance_decoding import (
    CERTAIN_PEAK,
    MAX_OBJECTS,
    OFFSET_UNIT,
    STRONG_PEAK,
    assign_pixels,
    decode_instances,
    find_peaks,
    mask_box,
    resize_mask,
)
from pocket_diffusers.pipelines.recognition.picture_input import Region

LABELS, COLORS = ("cube", "sphere"), ("red", "green", "blue")
SURE = 12.0  # a logit that is as good as certain


def blank(height=16, width=16):
    """Dense maps of a picture without objects."""
    dense = {
        "shape": torch.zeros(1, 3, height, width),
        "color": torch.zeros(1, 3, height, width),
        "center": torch.full((1, 1, height, width), -SURE),
        "offset": torch.zeros(1, 2, height, width),
    }
    dense["shape"][:, 0] = SURE
    return dense


def draw(dense, rows, columns, label, color, peak=SURE, stride=1):
    """Puts a rectangle into dense maps; its centre is the middle pixel, `stride` pixels of input a place."""
    y, x = (rows.start + rows.stop - 1) // 2, (columns.start + columns.stop - 1) // 2
    dense["shape"][0, :, rows, columns] = torch.tensor([0.0, 0.0, 0.0])[:, None, None]
    dense["shape"][0, 1 + label, rows, columns] = SURE
    dense["color"][0, color, rows, columns] = SURE
    dense["center"][0, 0, y, x] = peak
    grid = torch.stack(torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")).float()
    offset = stride * (torch.tensor([y, x]).view(2, 1, 1) - grid) / OFFSET_UNIT
    dense["offset"][0, :, rows, columns] = offset[:, rows, columns]


def test_equal_neighbours_that_touch_are_two():
    dense = blank()
    draw(dense, slice(4, 11), slice(1, 8), 1, 2)
    draw(dense, slice(4, 11), slice(8, 15), 1, 2)
    (found,) = decode_instances(dense, (16, 16), LABELS, COLORS)
    assert found.labels == ("sphere", "sphere") and found.colors == ("blue", "blue")
    assert sorted(found.boxes) == [(1, 4, 8, 11), (8, 4, 15, 11)]
    assert [mask.area for mask in found.masks] == [49, 49]
    assert min(found.scores) > 0.99


def test_offsets_tell_a_long_object_from_a_short_neighbour():
    """Without them the long one loses its end, which is nearer to the other's centre."""
    dense = blank()
    draw(dense, slice(2, 5), slice(0, 13), 0, 0)
    draw(dense, slice(2, 5), slice(13, 16), 0, 0)
    (found,) = decode_instances(dense, (16, 16), LABELS, COLORS)
    assert sorted(found.boxes) == [(0, 2, 13, 5), (13, 2, 16, 5)]
    dense["offset"].zero_()
    (without,) = decode_instances(dense, (16, 16), LABELS, COLORS)
    assert sorted(without.boxes) == [(0, 2, 11, 5), (11, 2, 16, 5)]


def test_empty_picture_and_objects_in_order_of_score():
    (found,) = decode_instances(blank(), (16, 16), LABELS, COLORS)
    assert len(found) == 0 and found.masks == () and found.colors == ()
    dense = blank()
    draw(dense, slice(0, 5), slice(0, 5), 0, 1, peak=0.0)
    draw(dense, slice(10, 15), slice(10, 15), 1, 0)
    (found,) = decode_instances(dense, (16, 16), LABELS, COLORS)
    assert found.labels == ("sphere", "cube") and found.colors == ("red", "green")
    likely = math.exp(SURE) / (math.exp(SURE) + 2)
    assert found.scores == pytest.approx([likely**0.5, (0.5 / CERTAIN_PEAK * likely) ** 0.5])


def test_scores_below_the_least_are_left_out():
    dense = blank()
    draw(dense, slice(0, 5), slice(0, 5), 0, 1, peak=math.log(MIN_SCORE / (1 - MIN_SCORE)) - 0.01)
    (found,) = decode_instances(dense, (16, 16), LABELS, COLORS)
    assert len(found) == 0


def test_maps_of_a_lower_resolution():
    """Each place of a map stands for 2 x 2 pixels; a symmetrical peak becomes four equal pixels, but one object."""
    dense = blank()
    draw(dense, slice(4, 9), slice(3, 10), 0, 2, stride=2)
    (found,) = decode_instances(dense, (32, 32), LABELS, COLORS)
    assert found.labels == ("cube",)
    assert np.abs(np.array(found.boxes[0]) - [6, 8, 20, 18]).max() <= 1


def test_regions_and_output_sizes():
    """A picture of 20 x 40 pixels in the middle of 16 x 16: padding is cut off, and masks are the picture's size."""
    dense = blank()
    draw(dense, slice(6, 9), slice(2, 5), 0, 0)
    draw(dense, slice(0, 3), slice(8, 11), 1, 1)  # in the padding
    draw(dense, slice(9, 14), slice(11, 16), 1, 2)  # half in it
    (found,) = decode_instances(dense, (16, 16), LABELS, COLORS, [(20, 40)], [Region(4, 0, 8, 16)])
    red, blue = (np.array(found.boxes[found.colors.index(color)]) for color in ("red", "blue"))
    assert len(found) == 2
    assert np.abs(red - np.array([2, 2, 5, 5]) * 2.5).max() <= 1
    assert np.abs(blue - np.array([11, 5, 16, 8]) * 2.5).max() <= 1
    assert {(mask.height, mask.width) for mask in found.masks} == {(20, 40)}


def test_batches_are_decoded_picture_by_picture():
    one, two = blank(), blank()
    draw(one, slice(1, 6), slice(1, 6), 0, 0)
    draw(two, slice(8, 13), slice(4, 9), 1, 1)
    both = {name: torch.cat([one[name], two[name]]) for name in one}
    expected = [decode_instances(each, (16, 16), LABELS, COLORS)[0] for each in (one, two)]
    assert decode_instances(both, (16, 16), LABELS, COLORS) == expected


def test_peaks_are_the_highest_of_their_neighbourhood():
    heat = torch.full((9, 9), -SURE)
    heat[2, 2], heat[2, 4], heat[2, 7], heat[8, 0] = 3.0, 2.0, 1.0, 30.0
    places, heights = find_peaks(heat)
    assert places.tolist() == [[8, 0], [2, 2], [2, 7]]
    assert torch.equal(heights, torch.tensor([30.0, 3.0, 1.0]).sigmoid())


def test_plateaus_are_one_peak_even_where_the_sigmoid_saturates():
    heat = torch.full((12, 12), -SURE)
    heat[3:5, 3:5] = 25.0
    heat[3, 4] = 30.0  # both are 1 after a sigmoid in float32
    places, _ = find_peaks(heat)
    assert places.tolist() == [[3, 4]]
    places, _ = find_peaks(torch.zeros(40, 40))
    assert len(places) == MAX_OBJECTS
    distance = (places[:, None] - places[None]).abs().amax(2) + 9 * torch.eye(MAX_OBJECTS, dtype=torch.long)
    assert distance.min() == 3


def naive(votes, foreground, places, heights):
    """The rule, pixel by pixel."""
    masks = np.zeros((len(places), *foreground.shape), dtype=bool)
    strong = [index for index, height in enumerate(heights) if height >= STRONG_PEAK]
    for y in range(foreground.shape[0]):
        for x in range(foreground.shape[1]):
            if not foreground[y, x]:
                continue
            distance = [(votes[0][y, x] - p[0]) ** 2 + (votes[1][y, x] - p[1]) ** 2 for p in places]
            best = min(strong, key=lambda index: distance[index]) if strong else None
            for index in range(len(places)):
                if index in strong:
                    masks[index, y, x] = index == best
                else:
                    masks[index, y, x] = best is None or distance[index] < distance[best]
    return masks


@st.composite
def scenes(draw):
    height, width, count = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(0, 4))
    whole = st.integers(-2, 6)
    votes = [[[draw(whole) for _ in range(width)] for _ in range(height)] for _ in range(2)]
    foreground = [[draw(st.booleans()) for _ in range(width)] for _ in range(height)]
    places = [[draw(whole), draw(whole)] for _ in range(count)]
    heights = sorted((draw(st.sampled_from([0.06, 0.2, 0.29, 0.3, 0.5, 0.9])) for _ in range(count)), reverse=True)
    return (
        torch.tensor(votes).float(),
        torch.tensor(foreground),
        torch.tensor(places).reshape(-1, 2),
        torch.tensor(heights, dtype=torch.float64),
    )


@given(scenes())
@settings(max_examples=200, deadline=None)
def test_pixels_are_assigned_as_a_naive_loop_does(scene):
    assert np.array_equal(assign_pixels(*scene).numpy(), naive(*(part.numpy() for part in scene)))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_masks_are_enlarged_pixel_by_pixel(height, width, factor):
    mask = np.random.default_rng(height * width).random((height, width)) > 0.5
    large = resize_mask(mask, (height * factor, width * factor))
    assert np.array_equal(large, mask.repeat(factor, 0).repeat(factor, 1))
    assert np.array_equal(resize_mask(large, (height, width)), mask)


def test_box_of_a_mask():
    mask = np.zeros((5, 8), dtype=bool)
    mask[1, 3] = mask[3, 6] = True
    assert mask_box(mask) == (3, 1, 7, 4)
