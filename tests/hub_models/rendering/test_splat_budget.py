import pytest
import torch

from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.splat_budget import MOST_TRIALS, encode_within
from pocket_diffusers.hub_models.rendering.splat_codec import decode_splats, encode_splats, splat_config


def _cloud(count=3000):
    draw = torch.Generator().manual_seed(0)
    return Gaussians(
        torch.randn(count, 3, generator=draw),
        torch.randn(count, 3, generator=draw) - 3,
        torch.randn(count, 4, generator=draw),
        torch.randn(count, generator=draw),
        torch.randn(count, 1, 3, generator=draw),
    ), torch.rand(count, generator=draw) ** 4


def test_files_fill_their_budget_and_larger_ones_are_finer():
    cloud, importance = _cloud()
    steps, counts = [], []
    for budget in (6_000, 12_000, 20_000):
        data = encode_within(cloud, importance, budget)
        assert 0.9 * budget < len(data) <= budget
        steps.append(splat_config(data)[0].shape_step)
        counts.append(len(decode_splats(data)))
    assert steps == sorted(steps, reverse=True) and counts == sorted(counts)


def test_each_file_that_is_tried_is_told():
    tried = []
    encode_within(*_cloud(200), 4_000, progress=tried.append)
    assert tried == [1] * len(tried) and 5 <= len(tried) <= MOST_TRIALS


def test_what_paints_nothing_is_left_out_first():
    cloud, _ = _cloud(200)
    importance = torch.arange(200) % 2.0
    assert len(decode_splats(encode_within(cloud, importance, 1 << 20))) == 100


def test_a_budget_of_no_limit_takes_the_finest_steps():
    cloud, importance = _cloud(50)
    data = encode_within(cloud, importance, 1 << 30)
    assert len(data) > len(encode_splats(cloud)) and splat_config(data)[0].shape_step == 0.3 / 4


def test_an_impossible_budget_is_refused():
    with pytest.raises(ValueError, match=r"max_bytes must be at least \d+ for these Gaussians, not 100"):
        encode_within(*_cloud(50), 100)


def test_a_scene_of_none_or_one_gaussian_fits():
    cloud, importance = _cloud(1)
    for count in (0, 1):
        data = encode_within(cloud.select(slice(0, count)), importance[:count], 10_000)
        assert len(decode_splats(data)) == count
