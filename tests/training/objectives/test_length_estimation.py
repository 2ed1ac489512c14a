"""Lengths as classes: the loss against a naive twin."""

import numpy as np
import pytest
import torch

from pocket_diffusers.training.objectives.length_estimation import LengthEstimation


def test_loss_equals_its_naive_twin_and_all_weights_learn():
    torch.manual_seed(0)
    estimator = torch.nn.Linear(5, 7)
    text, tokens = torch.randn(4, 5), torch.tensor([6, 0, 3, 3])
    objective = LengthEstimation(estimator, lambda batch, generator: (text[batch], tokens[batch]), 1e-3)
    loss, logged = objective.loss("estimator", torch.arange(4), torch.Generator())
    logits = text.numpy() @ estimator.weight.detach().numpy().T + estimator.bias.detach().numpy()
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert loss.item() == pytest.approx(-logs[np.arange(4), tokens.numpy()].mean(), abs=1e-6)
    assert logged["tokens_off"] == pytest.approx(np.abs(logits.argmax(1) - tokens.numpy()).mean())
    loss.backward()
    assert estimator.weight.grad.any() and estimator.bias.grad.any()
    assert objective.optimizer("estimator").param_groups[0]["lr"] == 1e-3
