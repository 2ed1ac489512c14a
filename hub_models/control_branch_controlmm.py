"""ControlMM's control branch (arXiv 2410.10780): what a frozen masked transformer is told of wanted joints."""

from typing import Any, ClassVar, Self

import torch.nn.functional as F
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .layers.attention import AttentionForm
from .layers.padding import check_padding, padding_bias
from .layers.post_norm_transformer import PostNormTransformer
from .layers.relative_attention import set_attention_form
from .layers.temporal_conv import TemporalEncoder
from .presets import PresetMixin
from .transformer_controlmm import ControlMMTransformer

SIX_JOINTS = (0, 10, 11, 15, 20, 21)
"""Pelvis, feet, head and wrists."""


class ControlMMControlBranch(ModelMixin, ConfigMixin, PresetMixin):
    """A trainable copy of a transformer's trunk, which reads control and adds to the frozen trunk after every layer.

    All that joins it to the frozen trunk starts at zero, so a new branch changes nothing.

    Args:
        control_joints: joints of the skeleton that the branch knows, by number: (0,) is the pelvis alone.
        width, num_layers, num_heads, ff_width: of the trunk that is copied.
        dropout: in training, of the copy and of the encoder of control. The authors' training had it off.
        conv_width, conv_stages, conv_depth: of the encoder of control, which is shaped as the tokenizer's.
        control_into_frozen_input: whether the frozen trunk, too, starts from tokens with control added. The paper's
            figure says no, and so do its authors; their code does it.

    Raises:
        ValueError: no joints, or widths that do not divide.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["PostNormLayer", "DilatedStack1D"]

    presets = {
        "paper": {"control_joints": SIX_JOINTS},
        "paper-pelvis": {"control_joints": (0,)},
        "nano": {
            "control_joints": SIX_JOINTS, "width": 128, "num_layers": 4, "num_heads": 4, "ff_width": 256,
            "conv_width": 64, "conv_depth": 2,
        },
    }  # fmt: skip

    @register_to_config
    def __init__(
        self,
        control_joints: tuple[int, ...] = SIX_JOINTS,
        width: int = 384,
        num_layers: int = 8,
        num_heads: int = 6,
        ff_width: int = 1024,
        dropout: float = 0.0,
        conv_width: int = 512,
        conv_stages: int = 2,
        conv_depth: int = 3,
        control_into_frozen_input: bool = False,
    ) -> None:
        super().__init__()
        if not control_joints or len(set(control_joints)) != len(control_joints):
            raise ValueError(f"control_joints must be one or more different joints, not {control_joints!r}.")
        self.control_encoder = TemporalEncoder(
            6 * len(control_joints), width, conv_width, conv_stages, conv_depth, dropout
        )
        self.control_in = _zero_linear(width)
        self.trunk = PostNormTransformer(num_layers, width, num_heads, ff_width, dropout)
        self.layers_out = nn.ModuleList(_zero_linear(width) for _ in range(num_layers))

    @classmethod
    def from_transformer(cls, transformer: ControlMMTransformer, **options: Any) -> Self:
        """A new branch for a transformer, with a copy of its trunk; `options` are the other arguments of `__init__`."""
        config = transformer.config
        sizes = {name: config[name] for name in ("width", "num_layers", "num_heads", "ff_width")}
        branch = cls(**{**options, **sizes})
        branch.trunk.load_state_dict(transformer.trunk.state_dict())
        return branch

    def set_attention_form(self, form: AttentionForm) -> None:
        """Chooses how attention is computed, "fused" or "explicit"; both give one result.

        "explicit" trains faster in bf16 on a CPU. It is not part of the config: a loaded model is "fused".
        """
        set_attention_form(self, form)

    def forward(
        self,
        x: Float[Tensor, "batch keys width"],
        control: Float[Tensor, "batch frames controls"],
        padding: Bool[Tensor, "batch tokens"] | None = None,
    ) -> tuple[Float[Tensor, "batch keys width"], list[Float[Tensor, "batch keys width"]]]:
        """What the frozen trunk starts from, and what is added to what each of its layers makes.

        Args:
            x: input of the trunk: the prompt's token, which gets no control, and the tokens of motion.
            control: for each of its joints the way from where it is to its target, then all targets, x y z in metres;
                0 where a joint is free.
            padding: True at tokens of motion behind the end of a clip.

        Raises:
            ValueError: shapes that do not fit.
        """
        self._check(x, control, padding)
        c = self.control_in(self.control_encoder(control.transpose(1, 2), padding).transpose(1, 2))
        controlled = x + F.pad(c, (0, 0, 1, 0))
        made = self.trunk(controlled, padding_bias(padding, 1, x.dtype))
        residuals = [out(h) for out, h in zip(self.layers_out, made, strict=True)]
        return controlled if self.config.control_into_frozen_input else x, residuals

    def _check(self, x: Tensor, control: Tensor, padding: Tensor | None) -> None:
        batch, tokens = x.shape[0], x.shape[1] - 1
        wanted = (batch, tokens * 2**self.config.conv_stages, 6 * len(self.config.control_joints))
        if control.shape != wanted:
            raise ValueError(f"control must be [batch, frames, controls] = {list(wanted)}, not {list(control.shape)}.")
        check_padding(padding, batch, tokens)


def _zero_linear(width: int) -> nn.Linear:
    layer = nn.Linear(width, width)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
