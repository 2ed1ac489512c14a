"""SnapGen's denoising UNet (arXiv 2412.09619): SDXL's layout made thin, short, separable and multi-query.

Points that the paper leaves open are config fields. Together their defaults meet its parameter counts, 379 M for text
and 372 M for ImageNet; where a count does not tell, they follow DreamLite (diffusers' `DreamLiteUNetModel`), a public
network of the same layout.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.utils import BaseOutput
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from .layers.attention import AttentionForm, MultiQueryAttention, RopeScope, Transformer2D, attention_bias
from .layers.separable_conv import ExpansionMode, SeparableConv2d, SeparableResnetBlock2D
from .presets import PresetMixin

FirstStage = Literal["down_all", "down_last", "all_five", "dreamlite"]
SamplerConv = Literal["full3x3", "separable", "no_up_conv"]


@dataclass
class SnapGenUNet2DConditionOutput(BaseOutput):
    """Output of `SnapGenUNet2DConditionModel`.

    Attributes:
        sample: predicted velocity `noise - latents`, of the shape of the input, [batch, channels, height, width].
    """

    sample: Tensor


class Downsample2D(nn.Module):
    """Halves height and width by a convolution of stride 2."""

    def __init__(self, channels: int, separable: bool) -> None:
        super().__init__()
        if separable:
            self.conv = SeparableConv2d(channels, channels, stride=2)
        else:
            self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Float[Tensor, "batch c height width"]) -> Float[Tensor, "batch c height//2 width//2"]:
        return self.conv(x)


class Upsample2D(nn.Module):
    """Doubles height and width: nearest, then a convolution or none."""

    def __init__(self, channels: int, conv: SamplerConv) -> None:
        super().__init__()
        if conv == "separable":
            self.conv = SeparableConv2d(channels, channels)
        else:
            self.conv = None if conv == "no_up_conv" else nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "batch c height width"]) -> Float[Tensor, "batch c 2*height 2*width"]:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return x if self.conv is None else self.conv(x)


class SnapGenLayer(nn.Module):
    """A residual block, a transformer, or both in this order; without a residual block, 1x1 if the width changes."""

    def __init__(
        self, in_channels: int, out_channels: int, resnet: dict | None = None, transformer: dict | None = None
    ) -> None:
        super().__init__()
        self.resnet = None if resnet is None else SeparableResnetBlock2D(in_channels, out_channels, **resnet)
        narrow = resnet is None and in_channels != out_channels
        self.proj = nn.Conv2d(in_channels, out_channels, 1, bias=False) if narrow else None
        self.attention = None if transformer is None else Transformer2D(out_channels, **transformer)

    def forward(self, x: Tensor, temb: Tensor, context: Tensor, bias: Tensor | None) -> Tensor:
        if self.resnet is not None:
            x = self.resnet(x, temb)
        if self.proj is not None:
            x = self.proj(x)
        return x if self.attention is None else self.attention(x, context, bias)


class SnapGenStage(nn.Module):
    """Layers at one resolution and the sampler that leaves it."""

    def __init__(self, layers: list[SnapGenLayer], sampler: nn.Module | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.sampler = sampler


class SnapGenUNet2DConditionModel(ModelMixin, ConfigMixin, PeftAdapterMixin, PresetMixin):
    """Text-conditional UNet that predicts the rectified-flow velocity (SnapGen, arXiv 2412.09619).

    Self-attention acts at the lowest resolution only, text conditions every stage on the way down. The lists below
    go from the highest resolution to the lowest.

    Args:
        sample_size: side of the latents it is meant for.
        in_channels: latent channels: 16, Stable Diffusion 3's, whose velocity it can learn; 4 for the ImageNet count.
        out_channels: channels of the velocity.
        block_out_channels: channels of each stage; their number is the number of stages.
        layers_per_block: layers of a stage on the way down; one more on the way up.
        transformer_layers_per_block: depth of the transformers of each stage.
        mid_transformer_depth: depth of the transformer between the two middle residual blocks: 2 meets the counts,
            4 is DreamLite's, 0 leaves it out.
        attention_head_dim: channels of an attention head.
        num_kv_heads: key-value heads of self- and cross-attention; one in both saves the paper's share of parameters.
        cross_attention_dim: width of the text: 2304 is Gemma-2-2b's; 768, CLIP-L's, on ImageNet.
        ff_mult: hidden width of the feed-forward layers over their input.
        rope: where 2-D rotary embedding acts: "self_attention", "none", or "all" for the queries of cross-attention
            as well, although text has no place in the picture to relate them to.
        cross_attn_qk_norm: RMS norm of queries and keys in cross-attention, as DreamLite.
        skip_unused_norm: no `norm1` in blocks without self-attention; False is what DreamLite's weights expect.
        expansion_mode: meaning of "expansion 2": "per_conv", which meets the counts, "block_out" (DreamLite) or
            "block_in".
        conv_expansion: the expansion ratio itself.
        pw_bias: bias of pointwise convolutions; DreamLite has none.
        first_stage: which first-stage layers are a transformer instead of a residual block: all on the way
            down ("down_all"), the last on the way down ("down_last"; the others stay plain residual blocks), all
            of both ways ("all_five"), or none, with transformers after the residual blocks on the way down
            ("dreamlite"). The first three meet the counts.
        last_up_attention: transformers in the last stage on the way up; DreamLite has none, "all_five" has them by
            definition.
        sampler_conv: samplers: "full3x3", which meets the counts, "separable", or "no_up_conv" (nearest alone on the
            way up).
        temb_dim: width of the time embedding; 1024 meets the counts.
        norm_num_groups: groups of every group norm.

    Raises:
        ValueError: for an unknown choice or for lists whose lengths differ.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["SnapGenLayer"]
    _repeated_blocks: ClassVar[list[str]] = ["TransformerBlock"]

    presets = {
        "paper": {},  # 379.0 M
        "imagenet": {"sample_size": 32, "in_channels": 4, "out_channels": 4, "cross_attention_dim": 768},  # 372.2 M
        "nano": {  # 1.9 M, for 64x64 pictures; with its autoencoder and text encoder 8 MB in half precision
            # One stage: an object is 2 of its 8x8 latents wide, which a stage of 4x4 cannot place or shape.
            "sample_size": 8,
            "block_out_channels": (128,),
            "layers_per_block": 2,
            "transformer_layers_per_block": (1,),
            "mid_transformer_depth": 0,
            "attention_head_dim": 32,
            "cross_attention_dim": 128,
            "ff_mult": 2,
            "expansion_mode": "block_out",
            "first_stage": "dreamlite",
            "last_up_attention": True,
            "sampler_conv": "separable",
            "temb_dim": 64,
        },
    }

    @register_to_config
    def __init__(
        self,
        sample_size: int = 128,
        in_channels: int = 16,
        out_channels: int = 16,
        block_out_channels: tuple[int, ...] = (256, 512, 896),
        layers_per_block: int = 2,
        transformer_layers_per_block: tuple[int, ...] = (1, 2, 4),
        mid_transformer_depth: int = 2,
        attention_head_dim: int = 64,
        num_kv_heads: int = 1,
        cross_attention_dim: int = 2304,
        ff_mult: int = 3,
        rope: RopeScope = "self_attention",
        cross_attn_qk_norm: bool = True,
        skip_unused_norm: bool = True,
        expansion_mode: ExpansionMode = "per_conv",
        conv_expansion: int = 2,
        pw_bias: bool = False,
        first_stage: FirstStage = "down_all",
        last_up_attention: bool = False,
        sampler_conv: SamplerConv = "full3x3",
        temb_dim: int = 1024,
        norm_num_groups: int = 32,
    ) -> None:
        super().__init__()
        self._check_config()
        widths = tuple(block_out_channels)
        self.gradient_checkpointing = False
        self.time_proj = Timesteps(widths[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(widths[0], temb_dim)
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.down_stages = nn.ModuleList(self._down_stage(i) for i in range(len(widths)))
        self.mid_layers = nn.ModuleList(self._mid_layers())
        self.up_stages = nn.ModuleList(self._up_stage(i) for i in reversed(range(len(widths))))
        self.norm_out = nn.GroupNorm(norm_num_groups, widths[0], eps=1e-5)
        self.conv_out = nn.Conv2d(widths[0], out_channels, 3, padding=1)

    def set_attention_form(self, form: AttentionForm) -> None:
        """Chooses how attention is computed: "fused" (`scaled_dot_product_attention`) or "explicit".

        Both give the same result. "explicit" (matrix products and softmax) trains about twice as fast in bf16 on a
        CPU, where the fused backward is slow. It is not part of the config: a loaded model is "fused".

        Raises:
            ValueError: for another form.
        """
        if form not in get_args(AttentionForm):
            raise ValueError(f"form must be one of {', '.join(get_args(AttentionForm))}, not {form!r}.")
        for module in self.modules():
            if isinstance(module, MultiQueryAttention):
                module.form = form

    def forward(
        self,
        sample: Float[Tensor, "batch channels height width"],
        timestep: Shaped[Tensor, " batch"] | Shaped[Tensor, ""] | float,
        encoder_hidden_states: Float[Tensor, "batch tokens text"],
        encoder_attention_mask: Shaped[Tensor, "batch tokens"] | None = None,
        return_dict: bool = True,
    ) -> SnapGenUNet2DConditionOutput | tuple[Tensor]:
        """Predicts the velocity at noisy latents.

        Args:
            sample: noisy latents.
            timestep: noise level times 1000, 0 (clean) to 1000 (noise), one for all or one each.
            encoder_hidden_states: text embeddings.
            encoder_attention_mask: True or 1 where a text token counts; None counts all.
            return_dict: return a `SnapGenUNet2DConditionOutput`, not a tuple.

        Raises:
            ValueError: for shapes that the model cannot take.
        """
        self._check_inputs(sample, timestep, encoder_hidden_states, encoder_attention_mask)
        bias = None if encoder_attention_mask is None else attention_bias(encoder_attention_mask, sample.dtype)
        temb = self._time_embedding(sample, timestep)
        condition = (temb, encoder_hidden_states, bias)
        x = self.conv_in(sample)
        skips = [x]
        for stage in self.down_stages:
            for layer in stage.layers:
                x = self._run(layer, x, *condition)
                skips.append(x)
            if stage.sampler is not None:
                x = stage.sampler(x)
                skips.append(x)
        for layer in self.mid_layers:
            x = self._run(layer, x, *condition)
        for stage in self.up_stages:
            for layer in stage.layers:
                x = self._run(layer, torch.cat([x, skips.pop()], dim=1), *condition)
            if stage.sampler is not None:
                x = stage.sampler(x)
        velocity = self.conv_out(F.silu(self.norm_out(x)))
        return SnapGenUNet2DConditionOutput(sample=velocity) if return_dict else (velocity,)

    def _run(self, layer: SnapGenLayer, x: Tensor, *condition: Tensor | None) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(layer, x, *condition)
        return layer(x, *condition)

    def _time_embedding(self, sample: Tensor, timestep: Tensor | float) -> Tensor:
        timestep = torch.as_tensor(timestep, device=sample.device).expand(sample.shape[0])
        return self.time_embedding(self.time_proj(timestep).to(sample.dtype))

    def _down_stage(self, index: int) -> SnapGenStage:
        config = self.config
        widths = config.block_out_channels
        inputs = [widths[max(index - 1, 0)]] + [widths[index]] * (config.layers_per_block - 1)
        layers = [
            self._layer(channels, index, *self._parts(index, down=True, last=number == len(inputs) - 1))
            for number, channels in enumerate(inputs)
        ]
        is_lowest = index == len(widths) - 1
        sampler = None if is_lowest else Downsample2D(widths[index], config.sampler_conv == "separable")
        return SnapGenStage(layers, sampler)

    def _mid_layers(self) -> Iterator[SnapGenLayer]:
        config = self.config
        lowest = len(config.block_out_channels) - 1
        width = config.block_out_channels[lowest]
        depth = config.mid_transformer_depth
        yield SnapGenLayer(width, width, self._resnet(), self._transformer(lowest, depth) if depth else None)
        yield SnapGenLayer(width, width, self._resnet())

    def _up_stage(self, index: int) -> SnapGenStage:
        config = self.config
        widths = config.block_out_channels
        count = config.layers_per_block + 1
        below = [widths[min(index + 1, len(widths) - 1)]] + [widths[index]] * (count - 1)
        skips = [widths[index]] * (count - 1) + [widths[max(index - 1, 0)]]
        layers = [self._layer(a + b, index, *self._parts(index, down=False)) for a, b in zip(below, skips, strict=True)]
        return SnapGenStage(layers, None if index == 0 else Upsample2D(widths[index], config.sampler_conv))

    def _parts(self, index: int, down: bool, last: bool = False) -> tuple[bool, bool]:
        """Whether a layer has a residual block, and whether it has a transformer."""
        mode = self.config.first_stage
        if index > 0:
            return True, True
        if not down:
            return mode != "all_five", self.config.last_up_attention
        replaced = mode in ("down_all", "all_five") or (mode == "down_last" and last)
        return not replaced, replaced or mode == "dreamlite"

    def _layer(self, in_channels: int, index: int, has_resnet: bool, has_transformer: bool) -> SnapGenLayer:
        depth = self.config.transformer_layers_per_block[index]
        return SnapGenLayer(
            in_channels,
            self.config.block_out_channels[index],
            self._resnet() if has_resnet else None,
            self._transformer(index, depth) if has_transformer and depth else None,
        )

    def _resnet(self) -> dict:
        config = self.config
        return {
            "temb_channels": config.temb_dim,
            "mode": config.expansion_mode,
            "expansion": config.conv_expansion,
            "pw_bias": config.pw_bias,
            "groups": config.norm_num_groups,
        }

    def _transformer(self, index: int, depth: int) -> dict:
        config = self.config
        return {
            "depth": depth,
            "groups": config.norm_num_groups,
            "rope": config.rope,
            "head_dim": config.attention_head_dim,
            "context_dim": config.cross_attention_dim,
            "num_kv_heads": config.num_kv_heads,
            "ff_mult": config.ff_mult,
            "self_attention": index == len(config.block_out_channels) - 1,
            "cross_attn_qk_norm": config.cross_attn_qk_norm,
            "skip_unused_norm": config.skip_unused_norm,
        }

    def _check_config(self) -> None:
        config = self.config
        for name, choices in (("first_stage", FirstStage), ("sampler_conv", SamplerConv)):
            if config[name] not in get_args(choices):
                raise ValueError(f"{name} must be one of {', '.join(get_args(choices))}, not {config[name]!r}.")
        if len(config.transformer_layers_per_block) != len(config.block_out_channels):
            raise ValueError(
                f"transformer_layers_per_block {tuple(config.transformer_layers_per_block)} must have one entry for "
                f"each stage of block_out_channels {tuple(config.block_out_channels)}."
            )
        if config.first_stage != "dreamlite" and config.transformer_layers_per_block[0] < 1:
            raise ValueError(
                f"first_stage={config.first_stage!r} replaces residual blocks by transformers: "
                "transformer_layers_per_block must begin with 1 or more."
            )
        if config.first_stage == "all_five" and not config.last_up_attention:
            raise ValueError("first_stage='all_five' puts attention in the last up block: set last_up_attention=True.")

    def _check_inputs(self, sample: Tensor, timestep: Tensor | float, text: Tensor, mask: Tensor | None) -> None:
        config, batch = self.config, sample.shape[0]
        self._check_sample(sample)
        if isinstance(timestep, Tensor) and timestep.ndim and tuple(timestep.shape) not in ((1,), (batch,)):
            raise ValueError(f"timestep must be one number or [{batch}], not {list(timestep.shape)}.")
        if text.ndim != 3 or text.shape[0] != batch or text.shape[2] != config.cross_attention_dim:
            raise ValueError(
                f"encoder_hidden_states must be [{batch}, tokens, {config.cross_attention_dim}], "
                f"not {list(text.shape)}."
            )
        if mask is not None and mask.shape != text.shape[:2]:
            raise ValueError(f"encoder_attention_mask must be {list(text.shape[:2])}, not {list(mask.shape)}.")

    def _check_sample(self, sample: Tensor) -> None:
        channels, factor = self.config.in_channels, 2 ** (len(self.config.block_out_channels) - 1)
        if sample.ndim != 4 or sample.shape[1] != channels:
            raise ValueError(f"sample must be [batch, {channels}, height, width], not {list(sample.shape)}.")
        if sample.shape[2] % factor or sample.shape[3] % factor:
            raise ValueError(
                f"sample is {sample.shape[2]} x {sample.shape[3]} latents (height x width): "
                f"both must be multiples of {factor}."
            )
