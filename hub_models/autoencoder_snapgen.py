"""SnapGen's autoencoder: the encoder of Stable Diffusion 3 and a tiny decoder of separable convolutions."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution, Encoder
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from jaxtyping import Float
from torch import Tensor, nn

from .layers.separable_conv import SeparableResnetBlock2D
from .presets import PresetMixin


@dataclass
class AutoencoderSnapGenOutput(BaseOutput):
    """Output of `AutoencoderSnapGen.decode`.

    Attributes:
        sample: decoded pictures, [batch, channels, height, width], about [-1, 1] (not clamped).
    """

    sample: Tensor


class TinyDecoder(nn.Module):
    """Decoder without attention: `len(channels)` stages of separable residual blocks, nearest x2 in between.

    Args:
        latent_channels: channels of the latents.
        out_channels: channels of the pictures.
        channels: width of each stage, from the latent resolution upwards.
        layers_per_stage: residual blocks in each stage.
        expansion: widening inside each residual block.
        patch_size: the last convolution makes patches of this side; 1 is an ordinary picture.
        groups: groups of each group norm.
    """

    def __init__(
        self,
        latent_channels: int,
        out_channels: int,
        channels: tuple[int, ...],
        layers_per_stage: int,
        expansion: int,
        patch_size: int,
        groups: int,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.gradient_checkpointing = False
        self.conv_in = nn.Conv2d(latent_channels, channels[0], 3, padding=1)
        self.stages = nn.ModuleList()
        width = channels[0]
        for stage_width in channels:
            widths = [width] + [stage_width] * layers_per_stage
            self.stages.append(
                nn.Sequential(
                    *(
                        SeparableResnetBlock2D(a, b, expansion=expansion, groups=groups, eps=1e-6)
                        for a, b in zip(widths[:-1], widths[1:], strict=True)
                    )
                )
            )
            width = stage_width
        self.norm_out = nn.GroupNorm(groups, width, eps=1e-6)
        self.conv_out = nn.Conv2d(width, out_channels * patch_size**2, 3, padding=1)

    def forward(self, z: Float[Tensor, "batch latent h w"]) -> Float[Tensor, "batch channels height width"]:
        x = self.conv_in(z)
        for index, stage in enumerate(self.stages):
            if index > 0:
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            checkpointed = self.gradient_checkpointing and torch.is_grad_enabled()
            x = self._gradient_checkpointing_func(stage, x) if checkpointed else stage(x)
        x = self.conv_out(F.silu(self.norm_out(x)))
        return F.pixel_shuffle(x, self.patch_size) if self.patch_size > 1 else x


class AutoencoderSnapGen(ModelMixin, ConfigMixin, PresetMixin):
    """KL autoencoder whose decoder is small enough for a phone (SnapGen, arXiv 2412.09619).

    The encoder is diffusers' `Encoder`; in the `paper` preset its keys and shapes are those of Stable Diffusion 3's
    `AutoencoderKL`, so its weights load and only the decoder is trained. Latents given to a denoiser are
    `scale_latents(latent_dist.mode(), config)` of `hub_models.layers.latent_scaling`.

    Args:
        in_channels: channels of the pictures that are encoded.
        out_channels: channels of the pictures that are decoded.
        latent_channels: channels of the latents; 16 are Stable Diffusion 3's, whose encoder is kept.
        encoder_channels: width of each encoder stage, from the picture downwards.
        encoder_layers_per_block: residual blocks in each encoder stage.
        encoder_mid_attention: self-attention in the middle of the encoder.
        decoder_channels: width of each decoder stage, from the latents upwards. Of the widths that make the paper's
            1.38 M parameters, these are narrowest where the picture is large: 83 times fewer operations than
            Stable Diffusion 3's decoder at 1024 pixels a side, and faster than `AutoencoderTiny`. With as many
            parameters, (256, 256, 128, 64) has 34 times fewer and is slower than that.
        decoder_layers_per_stage: residual blocks in each decoder stage.
        decoder_expansion: widening inside each decoder block, of its output channels.
        patch_size: 1 works on pixels; 2 folds 2x2 pixels into channels before the encoder and unfolds them
            after the decoder, which saves the work at full resolution (used by `nano`).
        norm_num_groups: groups of every group norm.
        scaling_factor: factor that brings latents to about unit variance.
        shift_factor: mean that is subtracted from latents before scaling.
        latents_mean, latents_std: the same for each latent channel, in place of `shift_factor`: one loud channel does
            not drown the others.
        sample_size: side of the pictures it is meant for, in pixels.

    Raises:
        ValueError: when the encoder's and the decoder's stages do not make the same resolution, or the statistics of
            the latents are not one for each channel.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["ResnetBlock2D", "SeparableResnetBlock2D"]

    presets = {
        "paper": {},
        "nano": {
            "encoder_channels": (64, 128),
            "encoder_layers_per_block": 1,
            "encoder_mid_attention": False,
            "decoder_channels": (128, 128),
            "patch_size": 4,
            "norm_num_groups": 16,
            "scaling_factor": 1.0,
            "shift_factor": 0.0,
            "sample_size": 64,
        },
    }

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        latent_channels: int = 16,
        encoder_channels: tuple[int, ...] = (128, 256, 512, 512),
        encoder_layers_per_block: int = 2,
        encoder_mid_attention: bool = True,
        decoder_channels: tuple[int, ...] = (352, 128, 64, 32),
        decoder_layers_per_stage: int = 2,
        decoder_expansion: int = 2,
        patch_size: int = 1,
        norm_num_groups: int = 32,
        scaling_factor: float = 1.5305,
        shift_factor: float = 0.0609,
        latents_mean: tuple[float, ...] | None = None,
        latents_std: tuple[float, ...] | None = None,
        sample_size: int = 1024,
    ) -> None:
        super().__init__()
        counts = {0 if values is None else len(values) for values in (latents_mean, latents_std)}
        if counts not in ({0}, {latent_channels}):
            raise ValueError(
                f"latents_mean is {latents_mean} and latents_std {latents_std}: both must hold {latent_channels} "
                "numbers, one for each latent channel, or both be None."
            )
        if len(encoder_channels) != len(decoder_channels):
            raise ValueError(
                f"encoder_channels has {len(encoder_channels)} stages and decoder_channels {len(decoder_channels)}: "
                "they must be equally many, or pictures would change size."
            )
        self.encoder = Encoder(
            in_channels=in_channels * patch_size**2,
            out_channels=latent_channels,
            down_block_types=("DownEncoderBlock2D",) * len(encoder_channels),
            block_out_channels=tuple(encoder_channels),
            layers_per_block=encoder_layers_per_block,
            norm_num_groups=norm_num_groups,
            double_z=True,
            mid_block_add_attention=encoder_mid_attention,
        )
        self.decoder = TinyDecoder(
            latent_channels,
            out_channels,
            tuple(decoder_channels),
            decoder_layers_per_stage,
            decoder_expansion,
            patch_size,
            norm_num_groups,
        )

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels a latent stands for, along each side."""
        return self.config.patch_size * 2 ** (len(self.config.encoder_channels) - 1)

    @apply_forward_hook  # so that offloading moves the weights, although this is not `forward`
    def encode(
        self, x: Float[Tensor, "batch channels height width"], return_dict: bool = True
    ) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        """Encodes pictures in [-1, 1] to a Gaussian over unscaled latents: `.latent_dist.mode()` or `.sample()`.

        Raises:
            ValueError: for a wrong number of channels, or sides that are no multiple of the compression ratio.
        """
        self._check_picture(x)
        patch = self.config.patch_size
        moments = self.encoder(F.pixel_unshuffle(x, patch) if patch > 1 else x)
        posterior = DiagonalGaussianDistribution(moments)
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    @apply_forward_hook
    def decode(
        self, z: Float[Tensor, "batch latent h w"], return_dict: bool = True
    ) -> AutoencoderSnapGenOutput | tuple[Tensor]:
        """Decodes unscaled latents to pictures of about [-1, 1], `spatial_compression_ratio` times as large.

        Raises:
            ValueError: for a wrong number of dimensions or channels.
        """
        if z.ndim != 4 or z.shape[1] != self.config.latent_channels:
            raise ValueError(f"z must be [batch, {self.config.latent_channels}, height, width], not {list(z.shape)}.")
        pictures = self.decoder(z)
        return AutoencoderSnapGenOutput(sample=pictures) if return_dict else (pictures,)

    def forward(
        self,
        sample: Float[Tensor, "batch channels height width"],
        sample_posterior: bool = False,
        return_dict: bool = True,
    ) -> AutoencoderSnapGenOutput | tuple[Tensor]:
        """Encodes and decodes; `sample_posterior` draws the latents instead of taking their mean."""
        posterior = self.encode(sample).latent_dist
        return self.decode(posterior.sample() if sample_posterior else posterior.mode(), return_dict=return_dict)

    def _check_picture(self, x: Tensor) -> None:
        channels, ratio = self.config.in_channels, self.spatial_compression_ratio
        if x.ndim != 4 or x.shape[1] != channels:
            raise ValueError(f"x must be [batch, {channels}, height, width], not {list(x.shape)}.")
        if x.shape[2] % ratio or x.shape[3] % ratio:
            raise ValueError(
                f"x is {x.shape[2]} x {x.shape[3]} pixels (height x width): both must be multiples of {ratio}."
            )
