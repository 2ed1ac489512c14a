import pytest
import torch
from torch import nn

from pocket_diffusers.eval.timing.network_work import network_work, with_random_weights


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 2, 1)).eval().requires_grad_(False)


def test_every_mode_computes_what_the_network_does(network, monkeypatch):
    pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    pytest.importorskip("onnxscript", reason="the extra export is not installed")
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or module)
    pictures = torch.randn(2, 3, 16, 16)
    expected = network(pictures)
    onnx = network_work(network, pictures, "onnx")
    torch.testing.assert_close(torch.from_numpy(onnx.call()[0]), expected, atol=1e-4, rtol=1e-4)
    assert len(onnx.facts["graph_sha256"]) == 64
    for mode in ("eager", "compiled"):
        work = network_work(network, pictures, mode)
        torch.testing.assert_close(work.call(), expected, atol=1e-5, rtol=1e-5)
        assert work.facts == {} and work.call().is_inference()
    assert len(compiled) == 1


def test_arguments_may_have_names(network):
    pictures = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(network_work(network, {"input": pictures}, "eager").call(), network(pictures))


def test_an_unknown_mode_is_named(network):
    with pytest.raises(ValueError, match="mode must be one of eager, compiled, onnx.*not 'fast'"):
        network_work(network, torch.zeros(1, 3, 8, 8), "fast")


def test_random_weights_keep_the_scale_of_activations():
    net = with_random_weights(
        lambda: nn.Sequential(nn.Conv2d(64, 2048, 1), nn.GroupNorm(8, 2048), nn.Conv2d(2048, 700, 1))
    )
    first, norm, last = net
    assert last.weight.numel() > 2**20, "more than one block of numbers"
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert (norm.weight == 1).all() and (norm.bias == 0).all() and (first.bias == 0).all()
    assert abs(first.weight.std() * 8 - 1) < 0.02 and abs(last.weight.std() * 2048**0.5 - 1) < 0.02
    out = net(torch.randn(2, 64, 8, 8))
    assert torch.isfinite(out).all() and 0.5 < out.std() < 2
