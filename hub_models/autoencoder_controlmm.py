"""ControlMM's motion tokenizer: the residual VQ-VAE of MoMask (arXiv 2312.00063)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .layers.padding import check_padding
from .layers.residual_vq import NO_CODE, ResidualVQ
from .layers.temporal_conv import TemporalDecoder, TemporalEncoder
from .presets import PresetMixin


@dataclass
class MotionRVQVAEOutput(BaseOutput):
    """Output of `MotionRVQVAE`.

    Attributes:
        sample: motion after encoding, quantising and decoding, [batch, 4 * tokens, features], normalised.
        ids: codes chosen, [batch, tokens, layers]; -1 in layers that quantise dropout left out.
        commitment: mean over layers of the squared distance between what a layer quantises and its code.
    """

    sample: Tensor
    ids: Tensor
    commitment: Tensor


class MotionRVQVAE(ModelMixin, ConfigMixin, PresetMixin):
    """Autoencoder of motion whose latents are sums of codes, one of each layer.

    Motion is [batch, frames, features], normalised. A token stands for `frames_per_token` frames; frames behind the
    last whole token are left out. `padding` is True at tokens that are none: they have no codes (ids of -1, latents
    and decoded frames of 0), and no influence on others.

    The statistics by which motion is normalised are kept beside the weights, see `set_statistics`.

    Args:
        features: numbers of a frame, HumanML3D's 263.
        width: channels of the convolutions.
        stages: halvings of time.
        depth: residual blocks of each stage.
        dropout: of the residual blocks. MoMask's options name 0.2.
        num_quantizers: layers of codes.
        num_codes: codes of each layer.
        code_width: channels of a code.
        codebook_decay: mu, how much of a code's moving average a training step keeps.
        code_reset_below: a code chosen less often than this a batch is replaced by a vector of the batch.
        gumbel_temperature: of the noise that perturbs the choice of codes in training.
        quantize_dropout: chance that a training step keeps only some first layers.

    Raises:
        ValueError: a value is out of its range.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["DilatedStack1D"]

    presets = {
        "paper": {},
        "nano": {"width": 112, "depth": 2, "dropout": 0.0, "code_width": 64},
    }

    @register_to_config
    def __init__(
        self,
        features: int = 263,
        width: int = 512,
        stages: int = 2,
        depth: int = 3,
        dropout: float = 0.2,
        num_quantizers: int = 6,
        num_codes: int = 512,
        code_width: int = 512,
        codebook_decay: float = 0.99,
        code_reset_below: float = 1.0,
        gumbel_temperature: float = 0.5,
        quantize_dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.encoder = TemporalEncoder(features, code_width, width, stages, depth, dropout)
        self.quantizer = ResidualVQ(
            num_quantizers, num_codes, code_width, codebook_decay, code_reset_below, gumbel_temperature,
            quantize_dropout,
        )  # fmt: skip
        self.decoder = TemporalDecoder(code_width, features, width, stages, depth, dropout)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))

    def set_statistics(self, mean: Float[Tensor, " features"], std: Float[Tensor, " features"]) -> None:
        """Keeps the mean and the deviation of each feature of the data that this model learns from.

        Raises:
            ValueError: a wrong shape, a number that is not finite, or a deviation that is not positive.
        """
        for name, value in (("mean", mean), ("std", std)):
            if value.shape != (self.config.features,) or not torch.isfinite(value).all():
                given = f"{list(value.shape)} with values up to {value.abs().max().item():.3g}"
                raise ValueError(f"{name} must be [{self.config.features}] and finite, not {given}.")
        if std.min() <= 0:
            raise ValueError(f"std must be positive, not {std.min().item():.3g}.")
        self.mean.copy_(mean)
        self.std.copy_(std)

    def normalized(self, features: Float[Tensor, "*batch frames features"]) -> Float[Tensor, "*batch frames features"]:
        """Motion as this model takes it, in its number format; values are not looked at."""
        return ((features.float() - self.mean.float()) / self.std.float()).to(self.dtype)

    def denormalized(self, motion: Float[Tensor, "*batch frames features"]) -> Float[Tensor, "*batch frames features"]:
        """Features in metres and radians, float32, of motion as this model makes it; values are not looked at."""
        return motion.float() * self.std.float() + self.mean.float()

    @property
    def frames_per_token(self) -> int:
        """Frames that a token stands for, 4 in the paper."""
        return 2**self.config.stages

    @property
    def mask_latent(self) -> Float[Tensor, " width"]:
        """What a token that is not known yet is decoded as: the mean code of the first layer."""
        return self.quantizer.codebooks[0].mean(0)

    @apply_forward_hook  # so that offloading moves the weights, although this is not `forward`
    def encode(
        self, motion: Float[Tensor, "batch frames features"], padding: Bool[Tensor, "batch tokens"] | None = None
    ) -> Int[Tensor, "batch tokens layers"]:
        """Codes of normalised motion, the nearest in each layer; -1 at padding.

        Raises:
            ValueError: motion of another shape or shorter than a token, or padding that does not fit it.
        """
        ids = self.quantizer.encode(self._vectors(motion, padding))
        return ids if padding is None else ids.masked_fill(padding[..., None], NO_CODE)

    @apply_forward_hook
    def embed(self, ids: Int[Tensor, "batch tokens layers"]) -> Float[Tensor, "batch tokens width"]:
        """Latents of codes; `ids` may hold only the first layers, and -1 adds nothing.

        Raises:
            ValueError: for ids that are no codes of a layer each.
        """
        layers = self.config.num_quantizers
        if ids.ndim != 3 or not 1 <= ids.shape[2] <= layers:
            raise ValueError(f"ids must be [batch, tokens, 1 to {layers} layers], not {list(ids.shape)}.")
        return self.quantizer.embed(ids)

    @apply_forward_hook
    def expect(
        self, probabilities: Float[Tensor, "batch tokens codes"], layer: int = 0
    ) -> Float[Tensor, "batch tokens width"]:
        """Expected latents under probabilities of one layer's codes, through which gradients flow to them."""
        return self.quantizer.expect(probabilities, layer)

    @apply_forward_hook
    def decode(
        self, latents: Float[Tensor, "batch tokens width"], padding: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch frames features"]:
        """Normalised motion of latents, sums of codes or anything between; 0 at padding.

        Raises:
            ValueError: latents of another shape, or padding that does not fit them.
        """
        if latents.ndim != 3 or latents.shape[2] != self.config.code_width:
            raise ValueError(f"latents must be [batch, tokens, {self.config.code_width}], not {list(latents.shape)}.")
        check_padding(padding, *latents.shape[:2])
        return self.decoder(latents.transpose(1, 2), padding).transpose(1, 2)

    def decode_ids(
        self, ids: Int[Tensor, "batch tokens layers"], padding: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch frames features"]:
        """Normalised motion of codes, of all layers or the first few."""
        return self.decode(self.embed(ids), padding)

    def forward(
        self,
        sample: Float[Tensor, "batch frames features"],
        generator: torch.Generator | None = None,
        return_dict: bool = True,
    ) -> MotionRVQVAEOutput | tuple[Tensor, Tensor, Tensor]:
        """Encodes, quantises and decodes; in training the codes learn from the batch.

        Args:
            sample: normalised motion.
            generator: of the randomness of quantising in training.
        """
        codes = self.quantizer(self._vectors(sample, None), generator)
        output = MotionRVQVAEOutput(self.decode(codes.vectors), codes.ids, codes.commitment)
        return output if return_dict else output.to_tuple()

    def _vectors(self, motion: Tensor, padding: Tensor | None) -> Tensor:
        features, ratio = self.config.features, self.frames_per_token
        if motion.ndim != 3 or motion.shape[2] != features or motion.shape[1] < ratio:
            raise ValueError(
                f"motion must be [batch, frames, {features}] of {ratio} frames or more, not {list(motion.shape)}."
            )
        tokens = motion.shape[1] // ratio
        check_padding(padding, motion.shape[0], tokens)
        return self.encoder(motion[:, : tokens * ratio].transpose(1, 2), padding).transpose(1, 2)
