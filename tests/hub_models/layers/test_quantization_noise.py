import math

import numpy as np
import pytest
import torch

from pocket_diffusers.hub_models.layers.quantization_noise import bits_of_rounded, with_quantization_noise


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_noise_is_uniform_within_half_a_step():
    noise = with_quantization_noise(torch.zeros(200_000), 0.2, seeded())
    assert float(noise.abs().max()) <= 0.1
    assert abs(float(noise.mean())) < 1e-3
    assert float(noise.std()) == pytest.approx(0.2 / math.sqrt(12), rel=0.01)  # that of rounding
    rounding = torch.randn(200_000, generator=seeded(1))
    error = (rounding / 0.2).round() * 0.2 - rounding
    assert float(error.std()) == pytest.approx(float(noise.std()), rel=0.01)


def test_the_generator_decides_and_values_get_the_whole_gradient():
    values = torch.randn(50, requires_grad=True)
    one, same, other = (with_quantization_noise(values, 0.1, seeded(seed)) for seed in (4, 4, 5))
    assert torch.equal(one, same) and not torch.equal(one, other)
    one.sum().backward()
    assert torch.equal(values.grad, torch.ones(50))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: run on a machine with an NVIDIA GPU")
def test_a_generator_of_the_cpu_gives_values_of_another_device_the_same_noise():
    values = torch.zeros(1000)
    here, there = (with_quantization_noise(v, 0.1, seeded(4)) for v in (values, values.cuda()))
    assert there.is_cuda and torch.equal(here, there.cpu())
    assert with_quantization_noise(values.cuda(), 0.1, torch.Generator("cuda")).is_cuda


@pytest.mark.parametrize("scale", [1.0, 3.0, 20.0])
def test_bits_of_a_laplace_source_are_its_entropy(scale):
    draw = np.random.default_rng(0)
    values = draw.laplace(0, scale * 0.05, 100_000)
    counts = np.unique(np.rint(values / 0.05), return_counts=True)[1]
    entropy = -(counts * np.log2(counts / counts.sum())).sum()
    assert float(bits_of_rounded(torch.from_numpy(values), 0.05)) == pytest.approx(entropy, rel=0.12)


def test_bits_fall_as_values_do_and_the_gradient_says_so():
    values = (torch.randn(1000, generator=seeded()) * 0.5).requires_grad_()
    bits = bits_of_rounded(values, 0.05)
    bits.backward()
    assert values.grad.isfinite().all()
    assert float(bits_of_rounded(values.detach() - 0.01 * values.grad, 0.05)) < bits.item()
    zeros = torch.zeros(10, requires_grad=True)
    bits_of_rounded(zeros, 0.05).backward()
    assert zeros.grad.isfinite().all()
