"""ControlMM's transformers: MoMask's (arXiv 2312.00063), over the motion tokens of a clip with its prompt in front.

`ControlMMTransformer` fills in masked codes of the first layer at once; `ControlMMResidualTransformer` adds the codes
of one further layer after another.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .layers.attention import AttentionForm
from .layers.padding import check_padding, padding_bias
from .layers.positional_encoding import sinusoidal_table
from .layers.post_norm_transformer import PostNormTransformer
from .layers.relative_attention import set_attention_form
from .presets import PresetMixin

INIT_STD = 0.02


class ControlMMTransformer(ModelMixin, ConfigMixin, PresetMixin):
    """Masked transformer over the codes of a clip's first layer (MoMask's base; frozen in ControlMM).

    Args:
        num_codes: codes of the layer; the ids behind them are `mask_id` and `pad_id`.
        code_width: channels of a token's embedding.
        text_width: channels of the prompt's embedding, CLIP ViT-B/32's 512.
        width: channels of the trunk.
        num_layers: of the trunk.
        num_heads: of its attention.
        ff_width: hidden width of its feed-forward layers.
        dropout: in training, of the tokens and inside the trunk.

    Raises:
        ValueError: widths that do not divide.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["PostNormLayer"]

    presets = {
        "paper": {},
        "nano": {
            "code_width": 64, "text_width": 128, "width": 128, "num_layers": 4, "num_heads": 4, "ff_width": 256,
            "dropout": 0.1,
        },
    }  # fmt: skip

    @register_to_config
    def __init__(
        self,
        num_codes: int = 512,
        code_width: int = 512,
        text_width: int = 512,
        width: int = 384,
        num_layers: int = 8,
        num_heads: int = 6,
        ff_width: int = 1024,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.text_in = nn.Linear(text_width, width)
        self.token_embedding = nn.Embedding(num_codes + 2, code_width)
        self.tokens_in = nn.Linear(code_width, width)
        self.token_dropout = nn.Dropout(dropout)
        self.trunk = PostNormTransformer(num_layers, width, num_heads, ff_width, dropout)
        self.head = _head(width, num_codes)
        self.apply(_start_small)

    @property
    def mask_id(self) -> int:
        """Id of a token that is to be filled in."""
        return self.config.num_codes

    @property
    def pad_id(self) -> int:
        """Id of a token behind the end of a clip."""
        return self.config.num_codes + 1

    def set_attention_form(self, form: AttentionForm) -> None:
        """Chooses how attention is computed, "fused" or "explicit"; both give one result.

        "explicit" trains faster in bf16 on a CPU. It is not part of the config: a loaded model is "fused".
        """
        set_attention_form(self, form)

    def expect(self, probabilities: Float[Tensor, "batch tokens ids"]) -> Float[Tensor, "batch tokens code_width"]:
        """Soft tokens: expected embeddings under probabilities of codes, or of codes, mask and pad."""
        return probabilities @ self.token_embedding.weight[: probabilities.shape[-1]]

    def forward(
        self,
        tokens: Int[Tensor, "batch tokens"] | Float[Tensor, "batch tokens code_width"],
        text: Float[Tensor, "batch text_width"],
        padding: Bool[Tensor, "batch tokens"] | None = None,
        branch: nn.Module | None = None,
        control: Float[Tensor, "batch frames controls"] | None = None,
    ) -> Float[Tensor, "batch tokens codes"]:
        """Logits of the codes at every token.

        Args:
            tokens: ids, or embeddings in their place (`expect`), through which gradients flow.
            text: embedding of the prompt; zeros for none.
            padding: True behind the end of a clip, whatever the ids say there; it has no influence on other tokens.
            branch: a `ControlMMControlBranch`, which adds what `control` asks for after each layer of the trunk.
            control: what its `features` makes; 0 where nothing is controlled.

        Raises:
            ValueError: shapes that do not fit, or a branch without control.
        """
        self._check(tokens, text, padding)
        if (branch is None) != (control is None):
            raise ValueError("branch and control must be given together: one of them is None.")
        if not tokens.is_floating_point():
            ids = tokens if padding is None else tokens.masked_fill(padding, self.pad_id)
            tokens = self.token_embedding(ids)
        x = torch.cat([self.text_in(text)[:, None], self.token_dropout(_placed(self.tokens_in(tokens)))], 1)
        residuals = None
        if branch is not None:
            x, residuals = branch(x, control, padding)
        x = self.trunk(x, padding_bias(padding, 1, x.dtype), residuals)[-1]  # [batch, 1 + tokens, width]
        return self.head(x[:, 1:])

    def _check(self, tokens: Tensor, text: Tensor, padding: Tensor | None) -> None:
        width = self.config.code_width
        if tokens.ndim != (3 if tokens.is_floating_point() else 2) or tokens.ndim == 3 and tokens.shape[2] != width:
            raise ValueError(
                f"tokens must be ids [batch, tokens] or embeddings [batch, tokens, {width}], "
                f"not {tokens.dtype} {list(tokens.shape)}."
            )
        _check_text(text, tokens.shape[0], self.config.text_width)
        check_padding(padding, *tokens.shape[:2])


class ControlMMResidualTransformer(ModelMixin, ConfigMixin, PresetMixin):
    """Transformer that finds the codes of layer j from those of layers 0 to j - 1 (MoMask's residual transformer).

    What reads the codes of a layer and what scores them share their weights: embeddings are [E0, S1 ... S4] of layers
    0 to 4, output projections [S1 ... S4, O5] of layers 1 to 5.

    Args:
        num_quantizers: layers of codes.
        num_codes, code_width, text_width, width, num_layers, num_heads, ff_width, dropout: as of
            `ControlMMTransformer`; the only further id is `pad_id`.

    Raises:
        ValueError: fewer than two layers of codes, or widths that do not divide.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["PostNormLayer"]

    presets = {
        "paper": {},
        "nano": {
            "code_width": 64, "text_width": 128, "width": 96, "num_layers": 3, "num_heads": 4, "ff_width": 192,
            "dropout": 0.1,
        },
    }  # fmt: skip

    @register_to_config
    def __init__(
        self,
        num_quantizers: int = 6,
        num_codes: int = 512,
        code_width: int = 512,
        text_width: int = 512,
        width: int = 384,
        num_layers: int = 8,
        num_heads: int = 6,
        ff_width: int = 1024,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if num_quantizers < 2:
            raise ValueError(f"num_quantizers must be at least 2, or nothing is left to predict, not {num_quantizers}.")
        self.text_in = nn.Linear(text_width, width)
        self.layer_in = nn.Linear(num_quantizers, width)  # of the layer's number as one-hot
        ids = num_codes + 1
        self.first_codes = nn.Parameter(torch.empty(1, ids, code_width))
        self.shared_codes = nn.Parameter(torch.empty(num_quantizers - 2, ids, code_width))
        self.last_codes = nn.Parameter(torch.empty(1, ids, code_width))
        self.tokens_in = nn.Linear(code_width, width)
        self.token_dropout = nn.Dropout(dropout)
        self.trunk = PostNormTransformer(num_layers, width, num_heads, ff_width, dropout)
        self.head = _head(width, code_width)
        self.apply(_start_small)
        for codes in (self.first_codes, self.shared_codes, self.last_codes):
            nn.init.normal_(codes, std=INIT_STD)

    @property
    def pad_id(self) -> int:
        """Id of a token behind the end of a clip."""
        return self.config.num_codes

    def set_attention_form(self, form: AttentionForm) -> None:
        """Chooses how attention is computed, "fused" or "explicit"; both give one result.

        "explicit" trains faster in bf16 on a CPU. It is not part of the config: a loaded model is "fused".
        """
        set_attention_form(self, form)

    def forward(
        self,
        ids: Int[Tensor, "batch tokens layers"],
        layer: int | Int[Tensor, " batch"],
        text: Float[Tensor, "batch text_width"],
        padding: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens codes"]:
        """Logits of the codes of `layer` at every token.

        Args:
            ids: codes of layers 0 to `layer` - 1; further ones are not looked at.
            layer: j, 1 to `num_quantizers` - 1, for all clips or for each.
            text: embedding of the prompt; zeros for none.
            padding: True behind the end of a clip, whatever the ids say there; it has no influence on other tokens.

        Raises:
            ValueError: shapes that do not fit, or a layer that is none of these.
        """
        layer = self._checked_layer(ids, layer, text, padding)
        tokens = self.token_dropout(_placed(self.tokens_in(self._embed(ids, layer, padding))))
        number = self.layer_in(F.one_hot(layer, self.config.num_quantizers).to(tokens.dtype))
        x = torch.cat([self.text_in(text)[:, None], number[:, None], tokens], 1)  # [batch, 2 + tokens, width]
        x = self.trunk(x, padding_bias(padding, 2, x.dtype))[-1]
        projections = torch.cat([self.shared_codes, self.last_codes])[:, :-1]  # padding is never predicted
        return self.head(x[:, 2:]) @ projections[layer - 1].transpose(1, 2)

    def _embed(self, ids: Tensor, layer: Tensor, padding: Tensor | None) -> Tensor:
        """Sum of the embeddings of the codes below `layer`, [batch, tokens, code_width]."""
        total = 0
        for j, table in enumerate(torch.cat([self.first_codes, self.shared_codes])):
            known = (layer > j)[:, None]
            hidden = ~known if padding is None else ~known | padding
            total = total + F.embedding(ids[..., j].masked_fill(hidden, self.pad_id), table) * known[..., None]
        return total

    def _checked_layer(self, ids: Tensor, layer: int | Tensor, text: Tensor, padding: Tensor | None) -> Tensor:
        layers = self.config.num_quantizers
        if ids.ndim != 3 or ids.shape[2] < layers - 1:
            raise ValueError(f"ids must be [batch, tokens, {layers - 1} layers or more], not {list(ids.shape)}.")
        _check_text(text, ids.shape[0], self.config.text_width)
        check_padding(padding, *ids.shape[:2])
        layer = torch.as_tensor(layer, device=ids.device).expand(ids.shape[0])
        if not torch.compiler.is_compiling() and not bool(((layer >= 1) & (layer < layers)).all()):
            raise ValueError(f"layer must be from 1 to {layers - 1}, not {layer.unique().tolist()}.")
        return layer


def _head(width: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width, eps=1e-12), nn.Linear(width, out_channels)
    )


def _placed(tokens: Tensor) -> Tensor:
    return tokens + sinusoidal_table(*tokens.shape[1:], tokens.device).to(tokens.dtype)


def _start_small(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INIT_STD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def _check_text(text: Tensor, batch: int, width: int) -> None:
    if text.shape != (batch, width):
        raise ValueError(f"text must be [batch, text_width] = [{batch}, {width}], not {list(text.shape)}.")
