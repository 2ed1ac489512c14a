import pytest
import torch
from torch import nn

from pocket_diffusers.hub_models.layers.attention import attention_bias
from pocket_diffusers.hub_models.layers.post_norm_transformer import PostNormLayer, PostNormTransformer
from pocket_diffusers.hub_models.layers.relative_attention import set_attention_form


def make(layers=3, dropout=0.0):
    torch.manual_seed(0)
    return PostNormTransformer(layers, 16, 4, 24, dropout).eval()


def torch_twin(net, layers=3):
    """`nn.TransformerEncoder` with the same weights, on its plain path (it would nest tensors otherwise)."""
    layer = nn.TransformerEncoderLayer(16, 4, 24, 0.0, "gelu", batch_first=True)
    twin = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
    for ours, theirs in zip(net.layers, twin.layers, strict=True):
        attention = ours.attention
        theirs.self_attn.in_proj_weight.data = torch.cat([attention.to_q.weight, attention.to_kv.weight]).data
        theirs.self_attn.in_proj_bias.data = torch.cat([attention.to_q.bias, attention.to_kv.bias]).data
        theirs.self_attn.out_proj.load_state_dict(attention.to_out.state_dict())
        for name in ("linear1", "linear2", "norm1", "norm2"):
            getattr(theirs, name).load_state_dict(getattr(ours, name).state_dict())
    return twin.train()  # dropout is 0


def tokens(batch=2, count=7):
    return torch.randn(batch, count, 16, generator=torch.Generator().manual_seed(1))


PADDING = torch.tensor([[False] * 7, [False] * 4 + [True] * 3])


@pytest.mark.parametrize("form", ["fused", "explicit"])
def test_it_computes_what_torch_computes(form):
    net, x = make(), tokens()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    set_attention_form(net, form)
    twin = torch_twin(net)
    torch.testing.assert_close(net(x)[-1], twin(x), atol=1e-5, rtol=1e-5)
    ours, theirs = net(x, attention_bias(~PADDING, x.dtype))[-1], twin(x, src_key_padding_mask=PADDING)
    torch.testing.assert_close(ours[~PADDING], theirs[~PADDING], atol=1e-5, rtol=1e-5)


def test_it_has_as_many_parameters_as_torch_has():
    with torch.device("meta"):
        ours = PostNormTransformer(8, 384, 6, 1024, 0.2)
        theirs = nn.TransformerEncoder(nn.TransformerEncoderLayer(384, 6, 1024, batch_first=True), 8)
    counts = {sum(p.numel() for p in net.parameters()) for net in (ours, theirs)}
    assert counts == {11_045_888}


def test_residuals_are_added_after_each_layer():
    net, x = make(), tokens()
    residuals = [torch.randn(x.shape, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    h = x
    for index, made in enumerate(net(x, residuals=residuals)):
        h = net.layers[index](h) + residuals[index]
        assert torch.equal(made, h)
    nothing = [torch.zeros_like(x)] * 3
    assert all(torch.equal(a, b) for a, b in zip(net(x, residuals=nothing), net(x), strict=True))


@pytest.mark.parametrize("form", ["fused", "explicit"])
def test_dropout_reaches_the_weights_of_attention(form):
    layer = PostNormLayer(16, 4, 24, 0.5).train()
    set_attention_form(layer, form)
    layer.dropout.p = 0.0
    x = tokens()
    assert not torch.equal(layer(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))


def test_heads_that_do_not_divide_raise():
    with pytest.raises(ValueError, match="16 channels do not divide into 3 heads"):
        PostNormLayer(16, 3, 24, 0.0)
