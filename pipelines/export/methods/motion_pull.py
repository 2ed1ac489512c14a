"""Gradients back through a decoder of motion, as a network of its own: what runs exported networks computes none."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ....hub_models.layers.padding import padding_behind
from ....hub_models.layers.temporal_conv import TemporalDecoder, kept_frames, repeated
from ...motion.motion_features import NUM_FEATURES, PLACES, STEP
from ...motion.rotations import turned_about_vertical

Pull = Callable[[Tensor], Tensor]
"""From the gradient of what a layer made to the gradient of what it was given."""
Layer = Callable[[Tensor], tuple[Tensor, Pull]]
"""What a layer makes, and its pull there."""


class MotionPull(nn.Module):
    """The vector-Jacobian product of a decoder of motion, layer by layer backwards.

    Args:
        autoencoder: with such a decoder and the statistics of its features; weights are shared.
    """

    def __init__(self, autoencoder: nn.Module) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(
        self,
        latents: Float[Tensor, "batch tokens width"],
        lengths: Int[Tensor, " batch"],
        features_gradient: Float[Tensor, "batch frames 263"],
        joints_gradient: Float[Tensor, "batch frames 22 3"],
    ) -> Float[Tensor, "batch tokens width"]:
        """Gradient of latents by those of the features in metres and of the joints that are decoded from them."""
        padding = padding_behind(lengths, latents.shape[1])
        layers = decoder_layers(self.autoencoder.decoder, padding, latents.dtype)
        motion, pull = chained(latents.transpose(1, 2), *layers)
        features = self.autoencoder.denormalized(motion.transpose(1, 2))
        gradient = features_gradient.float() + joints_pull(features, joints_gradient.float())
        normalised = (gradient * self.autoencoder.std.float()).to(latents.dtype)
        return pull(normalised.transpose(1, 2)).transpose(1, 2)


def decoder_layers(decoder: TemporalDecoder, padding: Tensor, dtype: torch.dtype) -> Iterator[Layer]:
    """The layers of a decoder in evaluation mode, first to last."""
    frames = 1
    kept = kept_frames(padding, frames, dtype)
    yield from (convolved(decoder.conv_in, kept), rectified)
    for stack, up in zip(decoder.stacks, decoder.ups, strict=True):
        for block in stack.blocks:
            yield added(rectified, convolved(block.conv1, kept), rectified, convolved(block.conv2, kept))
        frames *= 2
        kept = kept_frames(padding, frames, dtype)
        yield from (doubled, convolved(up, kept))
    yield from (convolved(decoder.conv_mid, kept), rectified, convolved(decoder.conv_out, kept), masked(kept))


def chained(x: Tensor, *layers: Layer) -> tuple[Tensor, Pull]:
    """Layers one after the other."""
    pulls = []
    for layer in layers:
        x, pull = layer(x)
        pulls.append(pull)

    def back(gradient: Tensor) -> Tensor:
        for pull in reversed(pulls):
            gradient = pull(gradient)
        return gradient

    return x, back


def added(*layers: Layer) -> Layer:
    """What layers make is added to what they are given."""

    def layer(x: Tensor) -> tuple[Tensor, Pull]:
        made, pull = chained(x, *layers)
        return x + made, lambda gradient: gradient + pull(gradient)

    return layer


def convolved(conv: nn.Conv1d, kept: Tensor) -> Layer:
    """A convolution of what is kept."""

    def back(gradient: Tensor) -> Tensor:
        return F.conv_transpose1d(gradient, conv.weight, padding=conv.padding, dilation=conv.dilation) * kept

    return lambda x: (conv(x * kept), back)


def masked(kept: Tensor) -> Layer:
    return lambda x: (x * kept, lambda gradient: gradient * kept)


def rectified(x: Tensor) -> tuple[Tensor, Pull]:
    return F.relu(x), lambda gradient: gradient * (x > 0).to(x.dtype)


def doubled(x: Tensor) -> tuple[Tensor, Pull]:
    """Every frame twice."""
    return repeated(x, 2), lambda gradient: gradient.unflatten(-1, (-1, 2)).sum(-1)


def joints_pull(
    features: Float[Tensor, "*batch frames 263"], gradient: Float[Tensor, "*batch frames 22 3"]
) -> Float[Tensor, "*batch frames 263"]:
    """Gradient of features by that of the joints that `joints_of_features` makes of them, 0 from feature 67 on.

    A turn of the heading turns all places and steps behind it, a step moves all joints behind it.
    """
    angles = F.pad(-2 * features[..., :-1, 0].cumsum(-1), (1, 0))
    x, z = features[..., :-1, STEP].unbind(-1)
    steps = turned_about_vertical(torch.stack([x, torch.zeros_like(x), z], -1), angles[..., 1:])
    body = turned_about_vertical(features[..., PLACES].unflatten(-1, (-1, 3)), angles[..., None])
    of_root, of_body = gradient[..., 0, :], gradient[..., 1:, :]
    of_steps = _sums_behind(gradient.sum(-2), -2)
    of_angles = _of_a_turn(body, of_body).sum(-1) + F.pad(_of_a_turn(steps, of_steps), (1, 0))
    of_turns = -2 * _sums_behind(of_angles, -1)[..., None]
    own_steps = turned_about_vertical(of_steps, -angles[..., 1:])[..., ::2]
    own_places = turned_about_vertical(of_body, -angles[..., None]).flatten(-2)
    root = F.pad(torch.cat([of_turns, own_steps], -1), (0, 0, 0, 1))
    return F.pad(torch.cat([root, of_root[..., 1:2], own_places], -1), (0, NUM_FEATURES - PLACES.stop))


def _sums_behind(values: Tensor, dim: int) -> Tensor:
    """Of each but the last, the sum of all behind it; exactly 0 where these are."""
    behind = values.narrow(dim, 1, values.shape[dim] - 1)
    return behind.flip(dim).cumsum(dim).flip(dim)


def _of_a_turn(vectors: Tensor, gradient: Tensor) -> Tensor:
    """Gradient of the angle by which vectors were turned about the vertical."""
    return gradient[..., 0] * vectors[..., 2] - gradient[..., 2] * vectors[..., 0]
