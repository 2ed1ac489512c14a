"""AsCAN's backbone: convolutions early, vanilla attention late, for classification and dense prediction.

AsCAN (arXiv 2411.04967), reconstructed. Its table of sizes is not at hand: strings and widths were chosen so that
`large` meets the 173 M parameters and 30.7 GMACs of its text, and `tiny` and `base` meet remembered numbers. Blocks
are those of CoAtNet (arXiv 2106.04803): pre-norm MBConv, and attention followed by a feed-forward layer. The paper
has FusedMBConv, and attention and feed-forward layer side by side behind one norm; the committed weights were trained
without the latter.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import ClassVar

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.utils import BaseOutput
from jaxtyping import Float
from torch import Tensor, nn

from .layers.attention import AttentionForm
from .layers.mbconv import ConvBlock, ConvNorm, MBConv
from .layers.mbconv import conv_norm as new_norm
from .layers.relative_attention import RelativeTransformerBlock, set_attention_form
from .layers.stage_grammar import check_stages
from .layers.upernet import UPerNetHead
from .presets import PresetMixin


@dataclass
class AsCANOutput(BaseOutput):
    """Output of `AsCANModel`.

    Attributes:
        logits: of the classes, [batch, num_classes]; None without a classifier.
        feature_maps: of each stage, [batch, width, height / stride, width / stride], from high to low resolution.
        dense: name -> prediction at each pixel of the first feature map, [batch, channels, h, w]; None without heads.
    """

    logits: Tensor | None
    feature_maps: tuple[Tensor, ...]
    dense: dict[str, Tensor] | None = None


class AsCANModel(ModelMixin, ConfigMixin, PresetMixin):
    """Hybrid backbone whose stages are strings of C (MBConv) and T (attention) blocks, with heads.

    Every stage but those of stride 1 halves the resolution in its first block. CoAtNet, and symmetric or
    inverted designs, are other strings of the same grammar.

    Args:
        stages: a string for each stage, from the highest resolution to the lowest; C before T, and more T the lower.
        widths: channels of each stage.
        stem_width: channels of the two convolutions in front.
        strides: of the stem and of each stage.
        in_channels: of the pictures.
        image_size: side in pixels that the position tables are made for; others are interpolated.
        conv_block: C blocks, "mbconv", as in CoAtNet, or "fused_mbconv", as in the paper.
        fused_stages: stages whose C blocks are fused all the same.
        expansion: widening inside C blocks, of their output.
        se_ratio: width of squeeze-excitation over the block's output.
        conv_norm: "batch" or "group", of stem, C blocks and dense head.
        rel_pos_bias: relative position bias in T blocks, as in the paper.
        head_dim: channels of an attention head; 32 is MaxViT's (arXiv 2204.01697).
        ffn_ratio: hidden width of the feed-forward layers over their input.
        drop_path: stochastic depth of the last block; earlier blocks have proportionally less.
        num_classes: of the classifier; None for a backbone without one.
        dense_outputs: name -> channels that a UPerNet-style head predicts at the first map's resolution;
            None for no such head.
        dense_width: channels inside that head.
        dense_separable: its 3x3 convolutions are separable.
        dense_pool_scales: of its pyramid pooling.

    Raises:
        ValueError: letters that are no block, or lists whose lengths differ.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["MBConv", "RelativeTransformerBlock"]

    presets = {
        "tiny": {},
        "base": {
            "stages": ("CC", "CCCCC", "CCCCTTTTTTTTTT", "TTTT"),
            "widths": (128, 256, 512, 1024),
            "stem_width": 128,
            "drop_path": 0.4,
        },
        "large": {
            "stages": ("CC", "CCCCCCC", "CCCTTTTTTTT", "TTT"),
            "widths": (192, 384, 768, 1536),
            "stem_width": 128,
            "drop_path": 0.5,
        },
        "nano": {
            "stages": ("C", "CC", "CCT", "TT"),
            "widths": (24, 64, 128, 192),
            "stem_width": 16,
            "strides": (2, 1, 2, 2, 2),
            "image_size": 64,
            "fused_stages": (0, 1, 2),  # dense convolutions train faster on a CPU than depthwise ones of stride 2
            "expansion": 2,
            "drop_path": 0.0,
            "num_classes": 10,
            "dense_width": 32,
            "dense_pool_scales": (1, 2),
        },
    }

    @register_to_config
    def __init__(
        self,
        stages: tuple[str, ...] = ("CC", "CCCCC", "CCCTTTTTTT", "TTTTT"),
        widths: tuple[int, ...] = (96, 192, 384, 768),
        stem_width: int = 64,
        strides: tuple[int, ...] = (2, 2, 2, 2, 2),
        in_channels: int = 3,
        image_size: int = 224,
        conv_block: ConvBlock = "mbconv",
        fused_stages: tuple[int, ...] = (),
        expansion: int = 4,
        se_ratio: float = 0.25,
        conv_norm: ConvNorm = "batch",
        rel_pos_bias: bool = True,
        head_dim: int = 32,
        ffn_ratio: int = 4,
        drop_path: float = 0.2,
        num_classes: int | None = 1000,
        dense_outputs: dict[str, int] | None = None,
        dense_width: int = 512,
        dense_separable: bool = False,
        dense_pool_scales: tuple[int, ...] = (1, 2, 3, 6),
    ) -> None:
        super().__init__()
        check_stages(stages, widths)
        if len(strides) != len(widths) + 1 or set(strides) - {1, 2}:
            raise ValueError(f"strides must be {len(widths) + 1} numbers 1 or 2, the stem's first, not {strides!r}.")
        self.gradient_checkpointing = False
        self.stem = _stem(in_channels, stem_width, strides[0], conv_norm)
        depth, done = sum(map(len, stages)), 0
        rates = torch.linspace(0, drop_path, depth, device="cpu").tolist()
        self.blocks = nn.ModuleList()
        for index, (a, b) in enumerate(pairwise((stem_width, *widths))):
            side = image_size // prod(strides[: index + 2])
            blocks = nn.ModuleList()
            for number, letter in enumerate(stages[index]):
                place = {"stride": strides[index + 1] if number == 0 else 1, "drop_path": rates[done]}
                blocks.append(self._block(letter, index, a if number == 0 else b, b, side, place))
                done += 1
            self.blocks.append(blocks)
        self.norm = nn.LayerNorm(widths[-1]) if num_classes else None
        self.classifier = nn.Linear(widths[-1], num_classes) if num_classes else None
        self.dense_head = None
        if dense_outputs:
            self.dense_head = UPerNetHead(
                widths, dense_width, dict(dense_outputs), dense_pool_scales, conv_norm, dense_separable
            )
        for block in self.modules():
            if isinstance(block, MBConv):  # residual branches start as nothing
                nn.init.zeros_(block.project.weight)
                nn.init.zeros_(block.project.bias)

    def _block(self, letter: str, stage: int, in_channels: int, out_channels: int, side: int, place: dict) -> nn.Module:
        config = self.config
        if letter == "C":
            form = "fused_mbconv" if stage in config.fused_stages else config.conv_block
            return MBConv(
                in_channels, out_channels, expansion=config.expansion, se_ratio=config.se_ratio,
                norm=config.conv_norm, form=form, **place,
            )  # fmt: skip
        grid = (side, side) if config.rel_pos_bias else None
        return RelativeTransformerBlock(
            in_channels, out_channels, grid, head_dim=config.head_dim, ffn_ratio=config.ffn_ratio, **place
        )

    @property
    def size_multiple(self) -> int:
        """Height and width of pictures must be multiples of this many pixels."""
        return prod(self.config.strides)

    @property
    def dense_stride(self) -> int:
        """Pixels between two places of the dense predictions."""
        return prod(self.config.strides[:2])

    def set_attention_form(self, form: AttentionForm) -> None:
        """Chooses how attention is computed, "fused" or "explicit"; both give one result.

        "explicit" trains faster in bf16 on a CPU. It is not part of the config: a loaded model is "fused".
        """
        set_attention_form(self, form)

    def forward(
        self, pixel_values: Float[Tensor, "batch channels height width"], return_dict: bool = True
    ) -> AsCANOutput | tuple:
        """Classes, feature maps and dense predictions of pictures in [-1, 1].

        Raises:
            ValueError: for another number of channels, or sides that are no multiple of `size_multiple`.
        """
        self._check_pictures(pixel_values)
        x, maps = self.stem(pixel_values), []
        for blocks in self.blocks:
            for block in blocks:
                checkpointed = self.gradient_checkpointing and torch.is_grad_enabled()
                x = self._gradient_checkpointing_func(block, x) if checkpointed else block(x)
            maps.append(x)
        logits = None if self.classifier is None else self.classifier(self.norm(x.mean((2, 3))))
        dense = None if self.dense_head is None else self.dense_head(maps)
        output = AsCANOutput(logits=logits, feature_maps=tuple(maps), dense=dense)
        return output if return_dict else output.to_tuple()

    def _check_pictures(self, pictures: Tensor) -> None:
        channels, multiple = self.config.in_channels, self.size_multiple
        if pictures.ndim != 4 or pictures.shape[1] != channels:
            raise ValueError(f"pixel_values must be [batch, {channels}, height, width], not {list(pictures.shape)}.")
        if pictures.shape[2] % multiple or pictures.shape[3] % multiple:
            raise ValueError(
                f"pixel_values is {pictures.shape[2]} x {pictures.shape[3]} pixels (height x width): both must be "
                f"multiples of {multiple}."
            )


def _stem(in_channels: int, width: int, stride: int, norm: ConvNorm) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False),
        new_norm(norm, width),
        nn.GELU(),
        nn.Conv2d(width, width, 3, padding=1),
    )
