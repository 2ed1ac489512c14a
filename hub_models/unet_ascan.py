"""AsCAN's generator: a UNet of C and T blocks, its way up the reflection of its way down.

AsCAN (arXiv 2411.04967), reconstructed with the blocks of the backbone in `transformer_ascan`, which says how they
differ from the paper's. Further differences: skips are concatenated, where the paper adds them; a class is an
embedding beside the time's, where the paper attends to it; text is attended to after the picture, where the paper
attends to both at once; there are no middle blocks, no rotary embedding and no norm of queries and keys.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.utils import BaseOutput
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from .layers.attention import AttentionForm, attention_bias
from .layers.mbconv import ConvNorm, MBConv
from .layers.mbconv import conv_norm as new_norm
from .layers.relative_attention import RelativeTransformerBlock, set_attention_form
from .layers.stage_grammar import check_stages
from .presets import PresetMixin


@dataclass
class AsCANUNet2DOutput(BaseOutput):
    """Output of `AsCANUNet2DModel`.

    Attributes:
        sample: prediction of the shape of the input, [batch, channels, height, width].
    """

    sample: Tensor


class AsCANUNet2DModel(ModelMixin, ConfigMixin, PeftAdapterMixin, PresetMixin):
    """Denoiser for classes, for text, or for both.

    Every stage of the way down but the first halves the resolution in its first block; each block of the way up sees
    what its reflection made.

    Args:
        sample_size: side of the latents it is meant for.
        in_channels: latent channels; 4 as of Stable Diffusion XL's autoencoder.
        out_channels: channels of the prediction.
        down_stages: strings of C and T, from the highest resolution to the lowest; the way up reflects them.
        widths: channels of each stage.
        expansion, se_ratio, conv_norm: of C blocks; batch norm's statistics would harm denoising.
        head_dim, ffn_ratio: of T blocks; they have no position bias, C blocks carry the position.
        num_classes: class labels, to which a last one is added that means no class; None for a model without.
        cross_attention_dim: width of the text that T blocks attend to, queries from the picture; None for none.
        emb_dim: width of the embedding of time and class.

    Raises:
        ValueError: letters that are no block, or lists whose lengths differ.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["MBConv", "RelativeTransformerBlock"]

    presets = {
        "imagenet256": {},  # 53 GMACs a step, 0.45 of DiT-XL/2's
        "text": {
            "sample_size": 128,
            "widths": (320, 640, 1280),
            "down_stages": ("CCC", "CCT", "TTTTTT"),
            "num_classes": None,
            "cross_attention_dim": 2816,
        },
        "nano": {
            "sample_size": 8,
            "in_channels": 16,
            "out_channels": 16,
            "down_stages": ("CC", "CT", "TT"),
            "widths": (96, 128, 128),
            "expansion": 2,
            "head_dim": 32,
            "ffn_ratio": 2,
            "num_classes": 50,
            "emb_dim": 96,
        },
    }

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        in_channels: int = 4,
        out_channels: int = 4,
        down_stages: tuple[str, ...] = ("CCC", "CCT", "TTT"),
        widths: tuple[int, ...] = (384, 896, 1536),
        expansion: int = 4,
        se_ratio: float = 0.25,
        conv_norm: ConvNorm = "group",
        head_dim: int = 64,
        ffn_ratio: int = 4,
        num_classes: int | None = 1000,
        cross_attention_dim: int | None = None,
        emb_dim: int = 1024,
    ) -> None:
        super().__init__()
        check_stages(down_stages, widths, "down_stages")
        self.gradient_checkpointing = False
        self.time_proj = Timesteps(widths[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(widths[0], emb_dim)
        self.class_embedding = nn.Embedding(num_classes + 1, emb_dim) if num_classes else None
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        self.up_blocks = nn.ModuleList()
        width = widths[0]
        for index, (letters, stage_width) in enumerate(zip(down_stages, widths, strict=True)):
            blocks = nn.ModuleList()
            for number, letter in enumerate(letters):
                blocks.append(self._block(letter, width, stage_width, 2 if index and number == 0 else 1))
                width = stage_width
            self.down_blocks.append(blocks)
        for index in reversed(range(len(widths))):
            blocks = nn.ModuleList()
            for letter in reversed(down_stages[index]):
                blocks.append(self._block(letter, width + widths[index], widths[index]))
                width = widths[index]
            self.up_blocks.append(blocks)
        self.upsamplers = nn.ModuleList(nn.Conv2d(w, w, 3, padding=1) for w in reversed(widths[1:]))
        self.norm_out = new_norm("group", widths[0])
        self.conv_out = nn.Conv2d(widths[0], out_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def _block(self, letter: str, in_channels: int, out_channels: int, stride: int = 1) -> nn.Module:
        config = self.config
        if letter == "C":
            return MBConv(
                in_channels, out_channels, stride, config.expansion, config.se_ratio, config.conv_norm,
                emb_channels=config.emb_dim,
            )  # fmt: skip
        return RelativeTransformerBlock(
            in_channels, out_channels, None, stride, config.head_dim, config.ffn_ratio, config.cross_attention_dim,
            config.emb_dim,
        )  # fmt: skip

    @property
    def size_multiple(self) -> int:
        """Height and width of latents must be multiples of this."""
        return 2 ** (len(self.config.widths) - 1)

    def set_attention_form(self, form: AttentionForm) -> None:
        """Chooses how attention is computed, "fused" or "explicit"; see `AsCANModel.set_attention_form`."""
        set_attention_form(self, form)

    def forward(
        self,
        sample: Float[Tensor, "batch channels height width"],
        timestep: Shaped[Tensor, " batch"] | Shaped[Tensor, ""] | float,
        class_labels: Int[Tensor, " batch"] | None = None,
        encoder_hidden_states: Float[Tensor, "batch tokens text"] | None = None,
        encoder_attention_mask: Shaped[Tensor, "batch tokens"] | None = None,
        return_dict: bool = True,
    ) -> AsCANUNet2DOutput | tuple[Tensor]:
        """Predicts noise or velocity (as it was trained) at noisy latents.

        Args:
            sample: noisy latents.
            timestep: noise level times 1000, one for all or one each.
            class_labels: 0 to `num_classes`, where `num_classes` itself means no class.
            encoder_hidden_states: text embeddings, only with `cross_attention_dim`.
            encoder_attention_mask: True or 1 where a text token counts; None counts all.
            return_dict: return an `AsCANUNet2DOutput`, not a tuple.

        Raises:
            ValueError: for shapes or labels that the model cannot take.
        """
        self._check_inputs(sample, timestep, class_labels, encoder_hidden_states, encoder_attention_mask)
        emb = self._embedding(sample, timestep, class_labels)
        mask = encoder_attention_mask
        text = (encoder_hidden_states, None if mask is None else attention_bias(mask, sample.dtype))
        x, skips = self.conv_in(sample), []
        for blocks in self.down_blocks:
            for block in blocks:
                x = self._run(block, x, emb, *text)
                skips.append(x)
        for index, blocks in enumerate(self.up_blocks):
            if index:
                x = self.upsamplers[index - 1](F.interpolate(x, scale_factor=2.0, mode="nearest"))
            for block in blocks:
                x = self._run(block, torch.cat([x, skips.pop()], dim=1), emb, *text)
        prediction = self.conv_out(F.silu(self.norm_out(x)))
        return AsCANUNet2DOutput(sample=prediction) if return_dict else (prediction,)

    def _run(self, block: nn.Module, x: Tensor, emb: Tensor, *text: Tensor | None) -> Tensor:
        inputs = (x, emb) if isinstance(block, MBConv) else (x, emb, *text)
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(block, *inputs)
        return block(*inputs)

    def _embedding(self, sample: Tensor, timestep: Tensor | float, labels: Tensor | None) -> Tensor:
        timestep = torch.as_tensor(timestep, device=sample.device).expand(sample.shape[0])
        emb = self.time_embedding(self.time_proj(timestep).to(sample.dtype))
        return emb if labels is None else emb + self.class_embedding(labels)

    def _check_inputs(
        self, sample: Tensor, timestep: Tensor | float, labels: Tensor | None, text: Tensor | None, mask: Tensor | None
    ) -> None:
        config, multiple, batch = self.config, self.size_multiple, sample.shape[0]  # len() would fix it in exports
        if sample.ndim != 4 or sample.shape[1] != config.in_channels:
            raise ValueError(f"sample must be [batch, {config.in_channels}, height, width], not {list(sample.shape)}.")
        if sample.shape[2] % multiple or sample.shape[3] % multiple:
            raise ValueError(
                f"sample is {sample.shape[2]} x {sample.shape[3]} latents (height x width): both must be multiples of "
                f"{multiple}."
            )
        if isinstance(timestep, Tensor) and timestep.ndim and tuple(timestep.shape) not in ((1,), (batch,)):
            raise ValueError(f"timestep must be one number or [{batch}], not {list(timestep.shape)}.")
        for name, given, size in (
            ("class_labels", labels, config.num_classes),
            ("encoder_hidden_states", text, config.cross_attention_dim),
        ):
            if (given is None) != (not size):
                need = "are needed" if size else "cannot be used"
                raise ValueError(f"{name} {need}: this model was made for {size or 'no'} of them.")
        if labels is not None and (labels.shape != (batch,) or labels.is_floating_point()):
            raise ValueError(f"class_labels must be [{batch}] whole numbers, not {labels.dtype} {list(labels.shape)}.")
        if text is not None and (
            text.ndim != 3 or (text.shape[0], text.shape[2]) != (batch, config.cross_attention_dim)
        ):
            wanted = f"[{batch}, tokens, {config.cross_attention_dim}]"
            raise ValueError(f"encoder_hidden_states must be {wanted}, not {list(text.shape)}.")
        if mask is not None and (text is None or mask.shape != text.shape[:2]):
            raise ValueError(f"encoder_attention_mask must have one entry for each text token, not {list(mask.shape)}.")
