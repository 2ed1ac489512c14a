"""What ControlMM's two transformers are and compute; what all models promise is in `tests/contracts`."""

import pytest
import torch
import torch.nn.functional as F

from pocket_diffusers.hub_models.layers.positional_encoding import sinusoidal_table
from pocket_diffusers.hub_models.transformer_controlmm import ControlMMResidualTransformer, ControlMMTransformer

TINY = {
    "num_codes": 10, "code_width": 6, "text_width": 5, "width": 16, "num_layers": 2, "num_heads": 4, "ff_width": 24,
    "dropout": 0.0,
}  # fmt: skip
PADDING = torch.tensor([[False] * 7, [False] * 4 + [True] * 3])


def filled(model):
    """Weights of a size at which every input shows in the result."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return model.eval()


def base(**changes):
    return filled(ControlMMTransformer(**{**TINY, **changes}))


def residual(**changes):
    return filled(ControlMMResidualTransformer(**{"num_quantizers": 4, **TINY, **changes}))


def random_ids(*shape):
    return torch.randint(10, shape, generator=torch.Generator().manual_seed(1))


def texts(batch=2):
    return torch.randn(batch, 5, generator=torch.Generator().manual_seed(2))


def base_call(model, batch=2, padding=None):
    return model(random_ids(batch, 7), texts(batch), padding)


def residual_call(model, batch=2, padding=None, layer=2):
    return model(random_ids(batch, 7, 4), layer, texts(batch), padding)


BOTH = pytest.mark.parametrize(("make", "call"), [(base, base_call), (residual, residual_call)])


@pytest.mark.parametrize(
    ("cls", "parameters"), [(ControlMMTransformer, 12_048_768), (ControlMMResidualTransformer, 13_364_224)]
)
def test_paper_has_the_derived_sizes(cls, parameters):
    with torch.device("meta"):
        model = cls.from_preset("paper")
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert sum(p.numel() for p in model.trunk.parameters()) == 11_045_888


@pytest.mark.parametrize(("cls", "most"), [(ControlMMTransformer, 0.7e6), (ControlMMResidualTransformer, 0.5e6)])
def test_nano_fits_its_share_of_a_repository(cls, most):
    with torch.device("meta"):
        model = cls.from_preset("nano")
    assert sum(p.numel() for p in model.parameters()) < most


def test_new_weights_are_small():
    torch.manual_seed(0)
    for model in (ControlMMTransformer(**TINY), ControlMMResidualTransformer(**TINY)):
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                assert not parameter.any(), name
            elif "norm" not in name and not name.startswith("head.2"):
                assert 0.01 < parameter.std() < 0.03, name


# The masked transformer


def test_it_is_prompt_and_placed_tokens_through_trunk_and_head():
    model, ids, text = base(), random_ids(2, 7), texts()
    prompt = F.linear(text, model.text_in.weight, model.text_in.bias)
    rows = model.token_embedding.weight[ids]
    tokens = F.linear(rows, model.tokens_in.weight, model.tokens_in.bias) + sinusoidal_table(7, 16)
    h = model.trunk(torch.cat([prompt[:, None], tokens], 1))[-1][:, 1:]
    first, _, norm, last = model.head
    h = F.gelu(h @ first.weight.T + first.bias)
    h = (h - h.mean(-1, keepdim=True)) / (h.var(-1, unbiased=False, keepdim=True) + 1e-12).sqrt()
    wanted = (h * norm.weight + norm.bias) @ last.weight.T + last.bias
    assert wanted.shape == (2, 7, 10)
    torch.testing.assert_close(model(ids, text), wanted, atol=1e-5, rtol=1e-5)


def test_ids_behind_the_codes_are_mask_and_pad():
    model = base()
    assert (model.mask_id, model.pad_id) == (10, 11)
    assert model.token_embedding.weight.shape == (12, 6)
    assert model(torch.full((2, 7), model.mask_id), texts()).shape == (2, 7, 10)


def test_soft_tokens_of_certain_ids_are_the_ids():
    model, ids = base(), random_ids(2, 7)
    for width in (10, 12):
        soft = model.expect(F.one_hot(ids, width).float())
        torch.testing.assert_close(model(soft, texts()), model(ids, texts()), atol=1e-6, rtol=1e-5)


def test_gradients_flow_through_soft_tokens():
    model = base()
    probabilities = torch.full((2, 7, 10), 0.1, requires_grad=True)
    model(model.expect(probabilities), texts()).square().mean().backward()
    assert (probabilities.grad.abs().sum(-1) > 0).all()


def test_soft_tokens_at_padding_have_no_influence():
    model = base()
    soft = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(3))
    other = torch.where(PADDING[..., None], 100.0, soft)
    one, two = model(soft, texts(), PADDING), model(other, texts(), PADDING)
    torch.testing.assert_close(one[~PADDING], two[~PADDING], atol=1e-6, rtol=1e-5)


def test_the_prompt_and_the_place_of_a_token_matter():
    model, ids = base(), torch.full((1, 7), 3)
    assert (model(ids, texts(1)) - model(ids, texts(1) * 0)).abs().max() > 1e-3
    logits = model(ids, texts(1))[0]
    assert torch.cdist(logits, logits).fill_diagonal_(1).min() > 1e-3, "the same code at other places"


# The residual transformer


def test_it_is_prompt_layer_and_sum_of_codes_below_through_trunk_and_shared_weights():
    model, ids, text = residual(), random_ids(2, 7, 4), texts()
    tables = [model.first_codes[0], model.shared_codes[0], model.shared_codes[1], model.last_codes[0]]
    for layer in (1, 2, 3):
        rows = sum(tables[j][ids[..., j]] for j in range(layer))
        tokens = F.linear(rows, model.tokens_in.weight, model.tokens_in.bias) + sinusoidal_table(7, 16)
        prompt = F.linear(text, model.text_in.weight, model.text_in.bias)
        number = (model.layer_in.weight[:, layer] + model.layer_in.bias).expand(2, 16)
        h = model.trunk(torch.cat([prompt[:, None], number[:, None], tokens], 1))[-1][:, 2:]
        wanted = model.head(h) @ tables[layer][:10].T
        assert wanted.shape == (2, 7, 10)
        torch.testing.assert_close(model(ids, layer, text), wanted, atol=1e-5, rtol=1e-5)


def test_codes_from_the_layer_on_are_not_looked_at():
    model, ids = residual(), random_ids(2, 7, 4)
    unknown = ids.clone()
    unknown[..., 2:] = -1
    assert torch.equal(model(ids, 2, texts()), model(unknown, 2, texts()))
    assert torch.equal(model(ids[..., :3], 2, texts()), model(ids, 2, texts()))


def test_every_clip_may_have_its_layer():
    model, ids = residual(), random_ids(2, 7, 4)
    together = model(ids, torch.tensor([3, 1]), texts())
    for row, layer in enumerate((3, 1)):
        alone = model(ids[row : row + 1], layer, texts()[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-6, rtol=1e-5)


def test_two_layers_of_codes_share_nothing():
    model = residual(num_quantizers=2)
    assert model.shared_codes.shape == (0, 11, 6)
    assert model(random_ids(2, 7, 2), 1, texts()).shape == (2, 7, 10)


# Both


@BOTH
@torch.no_grad()
def test_padding_has_no_influence_whatever_it_says(make, call):
    model = make()
    padded = call(model, padding=PADDING)
    ids = random_ids(2, 7) if make is base else random_ids(2, 7, 4)
    shorter, minus = ids[1:, :4], ids.clone()
    minus[1, 4:] = -1
    if make is base:
        alone, other = model(shorter, texts()[1:]), model(minus, texts(), PADDING)
    else:
        alone, other = model(shorter, 2, texts()[1:]), model(minus, 2, texts(), PADDING)
    torch.testing.assert_close(padded[1:, :4], alone, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(padded[0], call(model)[0], atol=1e-6, rtol=1e-5)
    assert torch.equal(other, padded)
    assert (call(model)[1, :4] - padded[1, :4]).abs().max() > 1e-3, "without the mask they would matter"


@BOTH
def test_dropout_acts_in_training_alone(make, call):
    model = make(dropout=0.2)
    assert torch.equal(call(model), call(model))
    model.train()
    assert not torch.equal(call(model), call(model))
