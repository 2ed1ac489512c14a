import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket_diffusers.hub_models.rendering.morton_order import morton_order
from pocket_diffusers.hub_models.rendering.neighbor_coding import ValuesDecoder, _passes, encode_values


def _points(count, seed=0, span=200):
    cells = np.random.default_rng(seed).integers(0, span, (count, 3))
    return cells[morton_order(cells)]


@given(st.integers(0, 2**32 - 1), st.integers(0, 300), st.sampled_from([1, 3, 21]), st.sampled_from([1, 2, 30, 4096]))
@settings(max_examples=60, deadline=None)
def test_any_values_come_back(seed, count, channels, span):
    values = np.random.default_rng(seed).integers(0, span, (count, channels)) - 1000
    cells = _points(count, seed, 1 << 20)
    decoder = ValuesDecoder(encode_values(values, cells), channels)
    assert decoder.count == count and (decoder.decode(cells) == values).all()


@given(st.integers(0, 2**32 - 1), st.integers(0, 200))
@settings(max_examples=40, deadline=None)
def test_coarse_values_come_back(seed, count):
    random = np.random.default_rng(seed)
    coarseness = random.integers(0, 3, count)
    values = random.integers(-300, 300, (count, 3)) >> coarseness[:, None]
    cells = _points(count, seed)
    assert (ValuesDecoder(encode_values(values, cells, coarseness), 3).decode(cells, coarseness) == values).all()


def test_coarse_values_cost_less_and_help_their_neighbours():
    random = np.random.default_rng(0)
    cells = _points(20_000)
    smooth = 60 * np.sin(cells[:, :1] / 60) + random.normal(size=(20_000, 1))
    coarseness = random.integers(0, 3, 20_000)
    own = np.rint(smooth / 2.0 ** coarseness[:, None]).astype(int)
    coded = len(encode_values(own, cells, coarseness))
    assert coded < 0.85 * len(encode_values(np.rint(smooth).astype(int), cells))
    assert coded < 0.8 * len(encode_values(own, cells))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 8, 9, 1000])
def test_passes_visit_every_point_once_after_what_is_nearest_on_the_curve(count):
    known = set()
    for points, step in _passes(count):
        assert known.isdisjoint(points.tolist())
        if known:
            assert all(point - step in known for point in points.tolist())
        known.update(points.tolist())
    assert known == set(range(count))


def test_smooth_values_cost_far_less_than_their_entropy():
    cells = _points(20_000)
    values = np.rint(8 * np.sin(cells / 60)).astype(int)
    coded = len(encode_values(values, cells))
    shuffled = np.random.default_rng(1).permutation(values)
    assert coded < 0.5 * len(encode_values(shuffled, cells))


def test_noise_costs_its_entropy_and_no_tables():
    cells = _points(3000)
    values = np.random.default_rng(1).integers(0, 16, (3000, 1))
    assert len(encode_values(values, cells)) < 3000 * 4 / 8 * 1.02 + 60


def test_a_span_beyond_the_alphabet_is_refused():
    with pytest.raises(ValueError, match="span at most 4096 steps, not 5001"):
        encode_values(np.array([[0], [5000]]), _points(2))


def test_another_shape_is_refused():
    data = encode_values(np.zeros((10, 2), int), _points(10))
    with pytest.raises(ValueError, match="must have 3 channels"):
        ValuesDecoder(data + bytes(10), 3)
    with pytest.raises(ValueError, match="must hold 11 bytes, not 4"):
        ValuesDecoder(data[:4], 2)
    with pytest.raises(ValueError, match="bins and classes"):
        ValuesDecoder(data[:1] + b"\x07" + data[2:], 2)
