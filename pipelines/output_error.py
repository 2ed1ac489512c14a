"""How far a model that was packed answers from the one that it was made of, which is never whole in memory."""

from collections.abc import Callable
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import ModelMixin
from torch import Tensor, nn

SIZE, TOKENS, TIMESTEP = 32, 16, 500
WIDTHS = ("caption_channels", "joint_attention_dim", "cross_attention_dim")  # the first that a config has


@torch.no_grad()
def output_error(
    config: dict[str, Any], model_class: type[ModelMixin], read: Callable[[list[str]], dict[str, Tensor]], packed: Path,
    variant: str | None, timestep: float = TIMESTEP,
) -> float | None:  # fmt: skip
    """Root of the squared difference of both outputs over the squared output in full precision, on seeded noise.

    Args:
        config: of the model in full precision.
        model_class: of both.
        read: gives tensors of its files by name, in float32.
        packed: folder of the other.
        variant: in the names of that one's files, if one is.
        timestep: at which the noise is denoised.

    Returns:
        None for a model that takes more than noise, a timestep and embeddings of a text, or answers zeros to them.
    """
    with init_empty_weights():
        model = model_class.from_config(config).eval()
    inputs = noise_inputs(model, timestep)
    if inputs is None:
        return None
    _stream_weights(model, read)
    try:
        expected = _answer(model, inputs)
    except (AttributeError, RuntimeError, TypeError, ValueError):  # other shapes, or an argument that has a default
        return None
    if not expected.any():
        return None
    found = _answer(model_class.from_pretrained(packed, variant=variant).eval(), inputs)
    return float((found - expected).norm() / expected.norm())


def noise_inputs(model: ModelMixin, timestep: float = TIMESTEP) -> dict[str, Any] | None:
    """Seeded arguments of `forward`, of at most 32 x 32 values and 16 tokens, made of the model's config.

    Returns:
        None for a model that takes others.
    """
    config, draw = model.config, torch.Generator().manual_seed(0)
    size, channels = config.get("sample_size"), config.get("in_channels")
    named = {key: value for key, value in signature(model.forward).parameters.items() if key != "self"}
    if not (isinstance(size, int) and isinstance(channels, int)):
        return None
    if config.get("class_embed_type") or config.get("num_class_embeds") or config.get("addition_embed_type"):
        return None
    side = min(size, SIZE)
    noise = torch.randn(1, channels, side, side, generator=draw)
    known = {"sample": noise, "hidden_states": noise, "timestep": torch.tensor([timestep])}
    width = next((config[name] for name in WIDTHS if config.get(name)), None)
    if isinstance(width, int):
        known["encoder_hidden_states"] = torch.randn(1, TOKENS, width, generator=draw)
    if "pooled_projection_dim" in config:
        known["pooled_projections"] = torch.randn(1, config["pooled_projection_dim"], generator=draw)
    if any(value.default is Parameter.empty and key not in known for key, value in named.items()):
        return None
    return {key: value for key, value in known.items() if key in named}


def _answer(model: nn.Module, inputs: dict[str, Any]) -> Tensor:
    return model(**inputs, return_dict=False)[0].float()


def _stream_weights(model: nn.Module, read: Callable[[list[str]], dict[str, Tensor]]) -> None:
    """Lets each layer have its weights while it computes; what is no layer's own stays."""
    for name, module in model.named_modules():
        own = {key: f"{name}.{key}" if name else key for key in module.state_dict() if "." not in key}
        if not own:
            continue
        if any(True for _ in module.children()):
            _give(module, own, read)
        else:
            module.register_forward_pre_hook(lambda module, _, own=own: _give(module, own, read))
            module.register_forward_hook(lambda module, *_: module.to("meta") and None)


def _give(module: nn.Module, own: dict[str, str], read: Callable[[list[str]], dict[str, Tensor]]) -> None:
    tensors = read(list(own.values()))
    module.load_state_dict({key: tensors[name] for key, name in own.items()}, strict=False, assign=True)
