import torch
from torch import nn

from pocket_diffusers.hub_models.layers.rms_norm import RMSNorm


def test_is_the_norm_of_torch_and_keeps_the_dtype_of_its_input():
    x = torch.randn(3, 5, 8)
    norm, reference = RMSNorm(8, eps=1e-6), nn.RMSNorm(8, eps=1e-6)
    nn.init.normal_(norm.weight)
    reference.load_state_dict(norm.state_dict())
    torch.testing.assert_close(norm(x), reference(x))
    torch.testing.assert_close(norm(x), x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight)
    half = norm(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), reference(x), atol=0.05, rtol=0.02)
