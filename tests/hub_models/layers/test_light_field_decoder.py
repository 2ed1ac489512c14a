"""What the decoder is, and where its pixels are."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from pocket_diffusers.hub_models.layers.light_field_decoder import LightFieldDecoder

TAILS = pytest.mark.parametrize(("tail", "scale"), [("8x", 8), ("12x", 12)])


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(*args, **options):
    with torch.device("meta"):
        return LightFieldDecoder(*args, **options)


def small(**options):
    torch.manual_seed(0)
    options = {"in_channels": 5, "width": 6, "blocks": 2, "tail_channels": (4, 4, 3), **options}
    return LightFieldDecoder(**options).eval()


def test_sizes_are_the_derived_ones():
    paper = on_meta(96)
    assert count(paper) == 2_261_123
    assert count(paper.tail) + count(paper.to_rgb) == 379_779
    assert count(paper.body[0]) == 132_608 and len(paper.body) == 14
    assert count(on_meta(96, blocks=29)) == 4_250_243


def test_the_ancestor_is_this_network_with_points_of_a_ray_as_features():
    """MobileR2L: 8 points of 3 numbers, raw and in 6 octaves of sines and cosines, and 29 blocks."""
    channels = 8 * 3 * (1 + 2 * 6)
    assert count(on_meta(channels, blocks=29)) == 4_305_539
    assert count(on_meta(channels, blocks=29, tail="12x")) == 4_298_371


def normed(norm, x):
    """A batch norm in evaluation, from its definition."""
    mean, var, weight, bias = (
        value[:, None, None] for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / (var + norm.eps).sqrt() * weight + bias


def pointwise(conv, x):
    return torch.einsum("oc,bchw->bohw", conv.weight[:, :, 0, 0], x) + conv.bias[:, None, None]


def residual(block, x):
    conv1, norm1, _, conv2, norm2 = block.branch
    return x + normed(norm2, pointwise(conv2, F.gelu(normed(norm1, pointwise(conv1, x)))))


def transposed(conv, x, stride):
    """Every cell adds its kernel to the pixels around its place, one by one."""
    batch, _, height, width = x.shape
    side, margin = conv.weight.shape[-1], 1 if stride == 2 else 0
    canvas = torch.zeros(batch, conv.out_channels, stride * height + 2 * margin, stride * width + 2 * margin)
    for i in range(height):
        for j in range(width):
            stamp = torch.einsum("bc,cokl->bokl", x[:, :, i, j], conv.weight)
            canvas[:, :, stride * i : stride * i + side, stride * j : stride * j + side] += stamp
    inner = slice(margin, -margin or None)
    return canvas[:, :, inner, inner] + conv.bias[:, None, None]


@TAILS
@pytest.mark.parametrize("body_skip", [True, False])
@torch.no_grad()
def test_decoder_is_its_formula(tail, scale, body_skip):
    decoder = small(tail=tail, body_skip=body_skip)
    for value in (*decoder.parameters(), *(b for b in decoder.buffers() if b.is_floating_point())):
        value.uniform_(-0.5, 0.5) if value.ndim > 1 else value.uniform_(0.5, 1.5)
    features = torch.randn(2, 5, 3, 2)
    first = x = F.gelu(pointwise(decoder.head[0], features))
    for block in decoder.body:
        x = residual(block, x)
    x = x + first if body_skip else x
    for stage, stride in zip(decoder.tail, (2, 2, scale // 4), strict=True):
        x = transposed(stage[0], x, stride)
        for block in stage[1:]:
            x = residual(block, x)
    wanted = torch.sigmoid(pointwise(decoder.to_rgb[0], x))
    assert wanted.std() > 0.01
    assert_close(decoder(features), wanted, atol=1e-5, rtol=1e-5)


# Where pixels are


@TAILS
def test_pixels_that_a_ray_reaches_lie_evenly_around_its_block(tail, scale):
    """Whatever the weights: no half-pixel shift, towards no side."""
    decoder = small(tail=tail)
    cells = 5
    features = torch.randn(1, 5, cells, cells)
    touched = features.clone()
    touched[:, :, 2, 2] += 1
    changed = (decoder(touched) - decoder(features)).abs().sum(1)[0] > 0
    for along in (changed.any(1), changed.any(0)):
        reached = along.nonzero().flatten()
        middle = (reached[0] + reached[-1] + 1).item() / 2  # pixel centres are at +0.5
        assert middle == (2 + 0.5) * scale
        assert scale <= reached[-1] - reached[0] + 1 <= 3 * scale


def passing(tail):
    """A decoder of one large number a ray, which it interpolates linearly and shows as sigmoid(0.1 * number)."""
    decoder = LightFieldDecoder(1, 1, 1, tail, (1, 1, 1), body_skip=False).double().eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.zero_()
        decoder.head[0].weight.fill_(1)
        decoder.to_rgb[0].weight.fill_(0.1)
        for stage in decoder.tail:
            taps = torch.tensor([0.25, 0.75, 0.75, 0.25]) if stage[0].stride == (2, 2) else torch.ones(3)
            stage[0].weight.copy_(torch.outer(taps, taps))
    return decoder


@TAILS
@torch.no_grad()
def test_pictures_keep_their_place(tail, scale):
    """Away from the border a constant stays, and a ramp by the places of rays becomes that by the places of pixels."""
    decoder, rays = passing(tail), 7
    inner = slice(2 * scale, -2 * scale)

    def shown(numbers):
        return 10 * torch.logit(decoder(numbers[None, None]))[0, 0, inner, inner]

    numbers = torch.full((rays, rays), 20.0).double()
    assert_close(shown(numbers), numbers.new_full((3 * scale, 3 * scale), 20.0), atol=1e-9, rtol=0)

    def ramp(places):
        return 20 + 0.5 * places[:, None] + 0.3 * places

    pixels = (torch.arange(scale * rays).double() + 0.5) / scale  # centres, in rays
    if tail == "12x":  # its last enlargement does not overlap: here it repeats what stands in the middle of threes
        pixels = pixels[1::3].repeat_interleave(3)
    picture = shown(ramp(torch.arange(rays).double() + 0.5))
    assert_close(picture, ramp(pixels[inner]), atol=1e-9, rtol=0)


# Training and options


def gradients(decoder):
    decoder(torch.randn(2, 5, 3, 3, generator=torch.Generator().manual_seed(1))).square().mean().backward()
    return {name: parameter.grad for name, parameter in decoder.named_parameters()}


def test_gradients_reach_every_parameter():
    assert all(gradient.abs().sum() > 0 for gradient in gradients(small()).values())


def test_checkpointing_changes_no_gradient():
    plain, spared = small().train(), small().train()
    spared.gradient_checkpointing = True
    spared._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
    assert_close(gradients(spared), gradients(plain))


def test_a_few_steps_learn_a_picture():
    decoder = small(width=16, tail_channels=(8, 8, 8)).train()
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 5, 4, 4, generator=generator)
    target = F.interpolate(torch.rand(2, 3, 6, 6, generator=generator), size=(32, 32), mode="bilinear")
    optimizer = torch.optim.AdamW(decoder.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = (decoder(features) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tail": "4x"}, "tail must be one of 8x, 12x, not '4x'"),
        ({"tail_channels": (4, 4)}, r"tail_channels must be three numbers, not \(4, 4\)"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)
