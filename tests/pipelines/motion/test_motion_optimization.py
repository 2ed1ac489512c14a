"""Optimisation of what a motion is made of: it finds minima, each sample for itself, and AdamW is as written."""

import math

import pytest
import torch

from pocket_diffusers.pipelines.motion.motion_optimization import OPTIMIZATIONS, OptimizationSteps, optimized

TARGETS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])


def quadratic(targets):
    return lambda values: (values - targets).square().sum(1)


def test_presets_begin_with_the_paper_s():
    assert OPTIMIZATIONS["accurate"] == OptimizationSteps(each=100, last=600)
    assert OPTIMIZATIONS["fast"] == OptimizationSteps(0, 100)
    assert OPTIMIZATIONS["balanced"] == OptimizationSteps(20, 200)


def test_a_quadratic_is_minimised_more_exactly_than_at_an_even_rate():
    found = optimized(torch.zeros(2, 3), quadratic(TARGETS), 600)
    torch.testing.assert_close(found, TARGETS, atol=1e-5, rtol=0)
    assert not found.requires_grad


def test_the_start_stays_as_it_was():
    start = torch.zeros(2, 3)
    optimized(start, quadratic(TARGETS), 5)
    assert start.eq(0).all() and not start.requires_grad
    assert optimized(start, quadratic(TARGETS), 0) is start


def test_a_sample_does_not_see_the_others():
    together = optimized(torch.zeros(2, 3), quadratic(TARGETS), 40)
    for row in range(2):
        assert torch.equal(optimized(torch.zeros(1, 3), quadratic(TARGETS[row : row + 1]), 40)[0], together[row])


def test_steps_are_adamw_s():
    """By hand, for one number whose loss is (x - 3)^2."""
    x, first, second = 1.0, 0.0, 0.0
    for step, share in enumerate((1, 1, 1, 1, 1, 1, 1, 2 / 3, 1 / 3), 1):
        rate, gradient = 6e-2 * share, 2 * (x - 3)
        x *= 1 - rate * 1e-6
        first, second = 0.5 * first + 0.5 * gradient, 0.9 * second + 0.1 * gradient**2
        x -= rate * (first / (1 - 0.5**step)) / (math.sqrt(second / (1 - 0.9**step)) + 1e-8)
    found = optimized(torch.ones(1, 1), lambda values: (values - 3).square().sum(1), 9)
    assert found.item() == pytest.approx(x, abs=1e-6)


def test_the_loss_is_asked_anew_at_each_step():
    calls = []
    optimized(torch.ones(1, 2), lambda values: calls.append(1) or values.sum(1), 4)
    assert len(calls) == 4


def test_gradients_flow_where_they_are_off_outside():
    with torch.no_grad():
        found = optimized(torch.zeros(2, 3), quadratic(TARGETS), 3)
    assert not torch.equal(found, torch.zeros(2, 3))


def test_losses_that_cannot_be_minimised_are_refused():
    with pytest.raises(ValueError, match="through which gradients flow"):
        optimized(torch.ones(1, 2), lambda values: torch.zeros(1), 1)
    with pytest.raises(ValueError, match="finite gradient"):
        optimized(torch.zeros(1, 2), lambda values: (-values - 1).sqrt().sum(1), 2)
    for each in (-1, 1.5, True):
        with pytest.raises(ValueError, match=f"^each must be a whole number of at least 0, not {each}"):
            OptimizationSteps(each, 0)
