"""Alternating scales against a loop over single weights, and the compiled form against torch."""

import pytest
import torch
from torch.testing import assert_close

from pocket_diffusers.hub_models.layers import low_bit_scales
from pocket_diffusers.hub_models.layers.low_bit_levels import SMALLEST_SCALE, Levels, by_row
from pocket_diffusers.hub_models.layers.low_bit_scales import alternating_scales


@pytest.fixture(params=["compiled", "torch"])
def form(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(low_bit_scales, "compiled_twin", lambda source: None)


def weights(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.02


def scale_by_hand(row: list[float], levels: Levels, iterations: int) -> float:
    s = max(max(row) / levels.highest, min(row) / levels.lowest)
    for _ in range(iterations):
        q = [min(max(round(w / s), levels.lowest), levels.highest) for w in row]
        s = sum(w * n for w, n in zip(row, q, strict=True)) / sum(n * n for n in q)
    return s


def squared_error(weight: torch.Tensor, scales: torch.Tensor, levels: Levels) -> float:
    return float((levels.of(weight, scales) * by_row(scales, weight) - weight).square().sum())


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("shape", [(4, 37), (3, 5, 3, 3), (2, 1), (5, 16)])
def test_scales_are_those_by_hand(form, bits, shape):
    weight, levels = weights(*shape, seed=bits), Levels(bits)
    expected = [scale_by_hand(row, levels, 10) for row in weight.flatten(1).tolist()]
    assert_close(alternating_scales(weight, levels), torch.tensor(expected), rtol=2e-4, atol=0)


@pytest.mark.parametrize("bits", range(1, 8))
def test_each_iteration_lowers_the_error_and_the_start_clips_nothing(form, bits):
    weight, levels = weights(8, 500), Levels(bits)
    by_iterations = [squared_error(weight, alternating_scales(weight, levels, n), levels) for n in (0, 1, 3, 10)]
    assert by_iterations == sorted(by_iterations, reverse=True) and by_iterations[-1] < 0.99 * by_iterations[0]
    assert_close(alternating_scales(weight, levels, 0), weight.abs().amax(1) / levels.highest)


def test_weights_on_levels_give_their_own_scale(form):
    scales = torch.tensor([0.5, 0.013, 3.0])
    q = torch.randint(-2, 3, (3, 200), generator=torch.Generator().manual_seed(0)).float()
    assert_close(alternating_scales(q * scales[:, None], Levels(2)), scales)


def test_a_row_of_zeros_and_tiny_weights(form):
    weight = torch.stack([torch.zeros(20), torch.full((20,), 1e-12), torch.linspace(-1, 1, 20)])
    scales = alternating_scales(weight, Levels(2))
    assert scales[:2].tolist() == [SMALLEST_SCALE] * 2 and scales[2] > 0.1
    assert Levels(2).of(weight, scales)[:2].abs().sum() == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_weights_that_are_no_numbers_or_too_large_are_refused(value):
    weight = weights(3, 9)
    weight[1, 2] = value
    with pytest.raises(ValueError, match=r"weights must be finite and at most .*, not"):
        alternating_scales(weight, Levels(3))


@pytest.mark.skipif(low_bit_scales.compiled_twin(low_bit_scales.SOURCE) is None, reason="there is no g++ here")
@pytest.mark.parametrize("bits", range(1, 9))
def test_compiled_form_gives_torch_s_scales_on_any_number_of_threads(monkeypatch, bits):
    weight, levels = weights(70, 333, seed=bits), Levels(bits)
    compiled = alternating_scales(weight, levels)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(alternating_scales(weight, levels), compiled)
    monkeypatch.setattr(low_bit_scales, "compiled_twin", lambda source: None)
    assert_close(compiled, alternating_scales(weight, levels), rtol=1e-6, atol=0)


def test_other_types_are_read_as_float32(form):
    weight = weights(6, 40).bfloat16()
    assert torch.equal(alternating_scales(weight, Levels(2)), alternating_scales(weight.float(), Levels(2)))
