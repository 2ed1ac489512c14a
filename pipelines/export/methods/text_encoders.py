"""Text encoders as networks of plain tensors, their contracts, and what stands in their place."""

from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig

from ..contract import ComponentContract, TensorSpec
from ..stand_ins import Runner, StandIn


class TextEncoder(nn.Module):
    """CLIP: token ids to the hidden states that condition the UNet; layers behind them are left out.

    Args:
        encoder: the network.
        layer: whose hidden states; None takes the last one's after the final norm.
    """

    def __init__(self, encoder: nn.Module, layer: int | None) -> None:
        super().__init__()
        self.encoder, self.layer = encoder, layer

    def forward(self, input_ids: Tensor) -> Tensor:
        if self.layer is None:
            return self.encoder(input_ids).last_hidden_state
        return self.encoder(input_ids, output_hidden_states=True).hidden_states[self.layer]


class MaskedTextEncoder(nn.Module):
    """Gemma: token ids and their mask to the last hidden states."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.encoder(input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state


class TextEncoderStandIn(StandIn):
    """In place of either: the layer that the pipeline asks for is the one that the network returns."""

    def __init__(self, run: Runner, config: dict[str, Any], layer: int | None) -> None:
        super().__init__(run, config)
        self.layer = layer

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> SimpleNamespace:
        mask = () if attention_mask is None else (attention_mask.int(),)
        hidden = self.run(input_ids.int(), *mask)[0]
        return SimpleNamespace(last_hidden_state=hidden, hidden_states={self.layer: hidden})


def encoder_contract(
    name: str, tokenizer: str, config: PreTrainedConfig, tokens: int, masked: bool = False
) -> ComponentContract:
    """The contract of a text encoder.

    Args:
        name: of the component.
        tokenizer: the part that makes its tokens.
        config: of the encoder.
        tokens: length of a prompt.
        masked: whether it takes a mask beside the tokens.
    """
    shape = ("batch", tokens)
    words = f"tokens of {tokenizer}/, cut or padded on the right to {tokens}"
    inputs = [TensorSpec("input_ids", shape, "int32", 0, config.vocab_size - 1, words)]
    if masked:
        inputs.append(TensorSpec("attention_mask", shape, "int32", 0, 1, "1 for a token of the prompt, 0 for padding"))
    meaning = "features of the tokens"
    hidden = TensorSpec("hidden_states", (*shape, config.hidden_size), "float32", None, None, meaning)
    return ComponentContract(name, tuple(inputs), (hidden,), "turns a prompt's tokens into features, once a picture")
