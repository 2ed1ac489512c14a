"""Hidden codes: how many are hidden and how, and both losses against naive twins."""

import math

import numpy as np
import pytest
import torch

from pocket_diffusers.hub_models.transformer_controlmm import ControlMMResidualTransformer, ControlMMTransformer
from pocket_diffusers.training.objectives.masked_tokens import (
    CodedMotion,
    MaskedTokens,
    ResidualTokens,
    corrupted,
    hide,
)

SIZES = {"num_codes": 11, "code_width": 6, "text_width": 5, "width": 8, "num_layers": 1, "num_heads": 2}
SIZES |= {"ff_width": 12, "dropout": 0.0}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def coded(layers=3, batch=4, tokens=7):
    draws = generator(5)
    padding = torch.arange(tokens) >= torch.tensor([7, 4, 6, 2])[:batch, None]
    ids = torch.randint(11, (batch, tokens, layers), generator=draws).masked_fill(padding[..., None], -1)
    return CodedMotion(ids, padding, torch.randn(batch, 5, generator=draws))


def cross_entropy(logits, ids):
    """Of numbers [..., codes] and ids [...], each."""
    logits = logits.detach().double().numpy()
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -np.take_along_axis(logs, ids.clamp(min=0).numpy()[..., None], -1)[..., 0]


def test_as_many_are_hidden_as_a_cosine_says():
    padding = torch.arange(20) >= torch.full((4000, 1), 12)
    counts = hide(padding, generator()).sum(1)
    draws = np.random.default_rng(0).random(200_000)
    wanted = np.maximum(1, np.round(np.cos(np.pi * draws / 2) * 12))
    found, expected = (np.bincount(np.asarray(c, dtype=int), minlength=13) / len(c) for c in (counts, wanted))
    np.testing.assert_allclose(found, expected, atol=0.025)
    assert not (hide(padding, generator()) & padding).any()
    where = hide(padding, generator(1))[:, :12].float().mean(0)
    assert (where - where.mean()).abs().max() < 0.03, "anywhere alike"


def test_hidden_codes_become_others_the_mask_or_stay():
    ids = torch.full((200, 100), 3)
    hidden = torch.arange(100).expand(200, 100) < 80
    shown = corrupted(ids, hidden, 50, generator())
    assert shown[:, 80:].eq(3).all()
    shown = shown[:, :80]
    assert (shown == 50).float().mean().item() == pytest.approx(0.792, abs=0.01)
    others = (shown != 50) & (shown != 3)
    assert others.float().mean().item() == pytest.approx(0.1 * 49 / 50, abs=0.01)
    assert shown[others].unique().numel() == 49


@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_loss_of_masked_codes_equals_its_naive_twin(everywhere, noise):
    torch.manual_seed(0)
    transformer, given = ControlMMTransformer(**SIZES), coded()
    objective = MaskedTokens(transformer, lambda batch, generator: given, 1e-3, noise, everywhere)
    loss, logged = objective.loss("transformer", None, generator(2))
    draws = generator(2)
    hidden = hide(given.padding, draws)
    ids = given.ids[..., 0]
    shown = corrupted(ids.masked_fill(given.padding, 0), hidden, 11, draws)
    soft = torch.nn.functional.one_hot(shown, 13).float()
    if noise:
        soft = soft + noise * torch.randn(soft.shape, generator=draws)
    logits = transformer(soft @ transformer.token_embedding.weight, given.text, given.padding)
    counted = ~given.padding if everywhere else hidden
    assert loss.item() == pytest.approx(cross_entropy(logits, ids)[counted.numpy()].mean(), abs=1e-5)
    right = (logits.argmax(-1) == ids)[hidden].float().mean().item()
    assert logged == pytest.approx({"right": right})
    loss.backward()
    idle = [name for name, p in transformer.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


def test_loss_of_residual_codes_equals_its_naive_twin():
    torch.manual_seed(0)
    transformer, given = ControlMMResidualTransformer(num_quantizers=5, **SIZES), coded(5)
    objective = ResidualTokens(transformer, lambda batch, generator: given, 1e-3)
    loss, logged = objective.loss("transformer", None, generator(8))
    share = torch.rand(4, generator=generator(8)).tolist()
    layers = [round((1 - math.cos(math.pi * u / 2)) * 3) + 1 for u in share]
    losses = []
    for i, layer in enumerate(layers):
        n = int((~given.padding[i]).sum())
        logits = transformer(given.ids[i : i + 1, :n], layer, given.text[i : i + 1])
        losses.extend(cross_entropy(logits[0], given.ids[i, :n, layer]))
    assert len(set(layers)) > 1
    assert loss.item() == pytest.approx(np.mean(losses), abs=1e-5) and 0 <= logged["right"] <= 1


def test_layers_are_drawn_from_the_first_refinement_to_the_last():
    transformer = ControlMMResidualTransformer(num_quantizers=6, **SIZES)
    seen = []
    transformer.forward = lambda ids, layer, text, padding: seen.extend(layer.tolist()) or torch.zeros(4, 7, 11)
    objective, draws = ResidualTokens(transformer, lambda batch, generator: coded(6), 1e-3), generator()
    for _ in range(500):
        objective.loss("transformer", None, draws)
    shares = np.random.default_rng(0).random(200_000)
    wanted = np.bincount(np.round((1 - np.cos(np.pi * shares / 2)) * 4).astype(int) + 1, minlength=6) / 200_000
    np.testing.assert_allclose(np.bincount(seen, minlength=6) / len(seen), wanted, atol=0.04)
