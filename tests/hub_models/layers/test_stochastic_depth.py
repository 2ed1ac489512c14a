import pytest
import torch

from pocket_diffusers.hub_models.layers.stochastic_depth import StochasticDepth


def test_whole_samples_are_dropped_and_the_mean_stays():
    torch.manual_seed(0)
    layer = StochasticDepth(0.25).train()
    branch = torch.rand(4000, 2, 3, 3) + 0.5
    out = layer(branch)
    kept = out.flatten(1).abs().sum(1) > 0
    assert kept.float().mean() == pytest.approx(0.75, abs=0.03)
    torch.testing.assert_close(out[kept], branch[kept] / 0.75)
    assert torch.equal(out[~kept], torch.zeros_like(out[~kept]))
    assert out.mean() == pytest.approx(branch.mean().item(), rel=0.04)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (3, 4, 5, 6)])
def test_nothing_happens_in_evaluation_or_at_rate_zero(shape):
    branch = torch.randn(shape)
    assert StochasticDepth(0.9).eval()(branch) is branch
    assert StochasticDepth(0.0).train()(branch) is branch


def test_number_format_stays():
    assert StochasticDepth(0.5).train()(torch.ones(4, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2.0])
def test_rates_out_of_range(rate):
    with pytest.raises(ValueError, match=f"rate of stochastic depth must be at least 0 and below 1.*not {rate}"):
        StochasticDepth(rate)
