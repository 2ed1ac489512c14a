import pytest
import torch

from pocket_diffusers.eval.claims.snapgen import contenders
from pocket_diffusers.eval.claims.snapgen.contenders import build_decoding, new_unet, unet_inputs
from pocket_diffusers.eval.timing.network_work import with_random_weights
from pocket_diffusers.hub_models.autoencoder_snapgen import AutoencoderSnapGen


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
