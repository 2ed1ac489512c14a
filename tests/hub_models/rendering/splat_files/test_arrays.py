"""Arrays on their way into and out of files."""

import tracemalloc

import numpy as np
import pytest
import torch

from pocket_diffusers.hub_models.rendering.splat_files import ply, sog, spz
from pocket_diffusers.hub_models.rendering.splat_files.arrays import ROWS, blocks, from_arrays, to_arrays


def test_blocks_cover_all_rows_once():
    for count in (1, ROWS, ROWS + 1, 3 * ROWS):
        covered = np.concatenate([np.arange(count)[block] for block in blocks(count)])
        assert covered.tolist() == list(range(count))


def test_arrays_are_not_copied(splats):
    arrays = to_arrays(splats(5, 1))
    means = arrays["means"]
    again = from_arrays("a.ply", *arrays.values())
    means[0, 0] = 7
    assert again.means[0, 0] == 7


@pytest.mark.parametrize("name", ["means", "log_scales", "quaternions", "opacity_logits", "sh"])
def test_a_value_that_is_not_finite_is_named_wherever_it_is(splats, name):
    whole = splats(ROWS + 9, 1)
    whole.tensors()[name].flatten()[-1] = float("inf")
    with pytest.raises(ValueError, match=f"^{name} must be finite, but Gaussian {ROWS + 8} holds"):
        to_arrays(whole)
    with pytest.raises(ValueError, match=f"^a.ply: {name} must be finite, but Gaussian {ROWS + 8} holds"):
        from_arrays("a.ply", *(value.numpy() for value in whole.tensors().values()))


def test_a_rotation_of_no_length_is_named(splats):
    whole = splats(ROWS + 9)
    whole.quaternions[ROWS + 3] = 0
    with pytest.raises(ValueError, match=f"quaternions must not be 0, but that of Gaussian {ROWS + 3} is 0 0 0 0"):
        to_arrays(whole)


def test_gradients_and_precision_do_not_matter(splats):
    whole = splats(3).to("cpu")
    wide = type(whole)(**{name: value.double().requires_grad_() for name, value in whole.tensors().items()})
    assert all(np.array_equal(to_arrays(wide)[name], value.numpy()) for name, value in whole.tensors().items())
    broken = type(whole)(**{**whole.tensors(), "means": torch.full((3, 3), 1e300, dtype=torch.float64)})
    with pytest.raises(ValueError, match="means must be finite"):
        to_arrays(broken)


@pytest.mark.parametrize("module", [ply, spz, sog])
def test_reading_holds_no_more_than_twice_the_result(tmp_path, splats, module):
    whole = splats(1, 3).select(torch.zeros(100_000, dtype=torch.int64))
    whole.means[:] = torch.randn(100_000, 3, generator=torch.Generator().manual_seed(0))
    path = tmp_path / f"a.{module.__name__.rpartition('.')[2]}"
    module.write(whole, path)
    tracemalloc.start()
    read = module.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * sum(value.nbytes for value in read.tensors().values())
