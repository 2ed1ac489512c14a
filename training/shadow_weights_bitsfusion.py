"""A model in low-bit training, between two stages: the weights behind the rounded ones, and the scales."""

from pathlib import Path

import torch
from diffusers import ModelMixin
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..hub_models.quantizer_bitsfusion import BitsFusionConfig, low_bit_layers, prepare_training
from ..pipelines.files import read_json, whole_folder, write_json

SCALES, QUANTIZATION = "low_bit_scales.safetensors", "quantization.json"


def save_shadow(model: ModelMixin, folder: Path) -> Path:
    """Writes a model that `prepare_training` changed; diffusers alone reads its folder as one of full precision."""
    scales = {name: layer.scales.detach().contiguous() for name, layer in low_bit_layers(model).items()}
    kept = {key: value for key, value in model.state_dict().items() if key.removesuffix(".scales") not in scales}
    with torch.device("meta"):
        plain = type(model).from_config({k: v for k, v in model.config.items() if k != "quantization_config"})
    plain.load_state_dict(kept, assign=True)
    with whole_folder(folder) as draft:
        plain.save_pretrained(draft)
        save_file(scales, draft / SCALES)
        write_json(draft / QUANTIZATION, model.config["quantization_config"].to_dict())
    return folder


def load_shadow(kind: type[ModelMixin], folder: Path) -> ModelMixin:
    """Reads what `save_shadow` wrote, ready to be trained on.

    Raises:
        FileNotFoundError: bits or scales are missing.
        OSError: weights are missing or damaged, as diffusers says it.
        ValueError: bits or scales are damaged, or not those of the model's layers.
    """
    config = read_json(folder / QUANTIZATION, dict)
    try:
        scales = load_file(folder / SCALES)
    except SafetensorError as error:
        raise ValueError(f"{folder / SCALES} is no complete safetensors file: {error}.") from error
    model = prepare_training(kind.from_pretrained(folder), BitsFusionConfig.from_dict(config))
    layers = low_bit_layers(model)
    if scales.keys() != layers.keys():
        odd = sorted(scales.keys() ^ layers.keys())[0]
        raise ValueError(f"{folder / SCALES} must hold scales of each low-bit layer and no others, unlike {odd!r}.")
    for name, layer in layers.items():
        if scales[name].shape != layer.scales.shape:
            wanted = list(layer.scales.shape)
            raise ValueError(f"{folder / SCALES}: {name} must be {wanted}, not {list(scales[name].shape)}.")
        with torch.no_grad():
            layer.scales.copy_(scales[name])
    return model
