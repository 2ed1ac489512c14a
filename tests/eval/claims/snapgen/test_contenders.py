import pytest
import torch
from torch import nn

from pocket_diffusers.eval.claims.snapgen import contenders
from pocket_diffusers.eval.claims.snapgen.contenders import build_decoding, new_unet, unet_inputs, with_random_weights
from pocket_diffusers.hub_models.autoencoder_snapgen import AutoencoderSnapGen


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


def test_every_unet_takes_its_inputs():
    for name in ("SnapGen", "Stable Diffusion 1.5", "SDXL"):
        with torch.device("meta"):
            unet = new_unet(name)
            output = unet(**unet_inputs(name, unet, size=16)).sample
        assert output.shape == (1, unet.config.in_channels, 16, 16)


def test_a_decoder_is_built_and_called(monkeypatch):
    pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    pytest.importorskip("onnxscript", reason="the extra export is not installed")
    small = {"decoder_channels": (16, 8), "encoder_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 16}
    monkeypatch.setattr(contenders, "new_decoder", lambda name: AutoencoderSnapGen(**small).decoder)
    work = build_decoding("SnapGen", pixels=64)
    (pictures,) = work.call()
    assert pictures.shape == (1, 3, 16, 16)
    assert len(work.facts["graph_sha256"]) == 64
    decoder = with_random_weights(lambda: AutoencoderSnapGen(**small).decoder)
    torch.manual_seed(0)
    with torch.no_grad():
        wanted = decoder(contenders.decoder_inputs(64))
    torch.testing.assert_close(torch.from_numpy(pictures), wanted, atol=1e-4, rtol=1e-4)
