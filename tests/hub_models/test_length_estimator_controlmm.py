"""What ControlMM's length estimator is and computes; what all models promise is in `tests/contracts`."""

import torch
import torch.nn.functional as F

from pocket_diffusers.hub_models.length_estimator_controlmm import ControlMMLengthEstimator


def make(**changes):
    torch.manual_seed(0)
    return ControlMMLengthEstimator(**{"text_width": 12, "width": 16, "max_tokens": 9, **changes}).eval()


def texts(batch=3):
    return torch.randn(batch, 12, generator=torch.Generator().manual_seed(1))


def test_presets_have_the_papers_layers_and_classes():
    with torch.device("meta"):
        models = {name: ControlMMLengthEstimator.from_preset(name) for name in ("paper", "nano")}
    linears = [m for m in models["paper"].layers if isinstance(m, torch.nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linears] == [(512, 512), (512, 256), (256, 128), (128, 50)]
    assert models["nano"].layers[-1].out_features == 50
    assert sum(p.numel() for p in models["nano"].parameters()) < 50_000


def test_it_is_a_perceptron_with_norms_and_leaks():
    model, x = make(), texts()
    layers = model.layers
    h = x
    for linear, norm in ((layers[0], layers[1]), (layers[4], layers[5]), (layers[8], layers[9])):
        h = F.linear(h, linear.weight, linear.bias)
        h = (h - h.mean(-1, keepdim=True)) / (h.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        h = torch.where(h * norm.weight + norm.bias > 0, h, 0.2 * h)
    wanted = h @ layers[12].weight.T + layers[12].bias
    assert wanted.shape == (3, 10)
    torch.testing.assert_close(model(x), wanted)


def test_it_learns_lengths():
    model = make(width=64, dropout=0.0).train()
    x, lengths = texts(8), torch.arange(8) + 1
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        loss = F.cross_entropy(model(x), lengths)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(model.eval()(x).argmax(-1), lengths)
