"""BitsFusion (arXiv 2406.04333) as a quantiser of diffusers; importing this module registers it there.

From then on `from_pretrained` of any diffusers model or pipeline reads folders whose weights are packed, and packs
others' when given a `BitsFusionConfig`, alone or in a `PipelineQuantizationConfig(quant_mapping={"unet": config})`.
`PipelineQuantizationConfig(quant_backend="bitsfusion", quant_kwargs={...}, components_to_quantize="unet")` does the
same; models of transformers, such as text encoders, are none of those that can be packed.
"""

import difflib
import inspect
import json
import math
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import FrozenDict
from diffusers.quantizers import auto
from diffusers.quantizers.base import DiffusersQuantizer
from diffusers.quantizers.quantization_config import QuantizationConfigMixin
from torch import Tensor, nn
from transformers.quantizers import auto as transformers_auto
from transformers.utils.quantization_config import QuantizationConfigMixin as TransformersQuantizationConfigMixin

from .layers.low_bit import LOW_BIT, LowBitLayer
from .layers.low_bit_levels import Levels
from .layers.time_embedding_cache import TimeEmbeddingCache, compute_projections, put_cache, replaced_layers

PUBLISHED_RECIPE = Path(__file__).with_name("recipe_bitsfusion.json")
FULL_PRECISION_BITS, CACHED_VALUE_BITS = 32, 16
FIRST_AND_LAST = ("conv_in", "conv_out", "x_embedder", "pos_embed.proj", "patch_embed.proj", "proj_out")
FIXED_BITS = 8  # of those where no recipe names them: they are small, and an error in them is one in all pixels


class BitsFusionMethod(StrEnum):
    """The name by which configs of saved models ask for this quantiser."""

    BITSFUSION = "bitsfusion"


class BitsFusionConfig(QuantizationConfigMixin):
    """Which layers of a model take how many bits a weight.

    Args:
        bits: nominal bits by the name of a Linear or Conv2d layer, 1 to 8; b bits are 2^b + 1 levels, 8 are 256.
        default_bits: of the layers that `bits` does not name, but for a UNet's or transformer's first and last, which
            take 8 as in the paper; None leaves them all in full precision.
        modules_to_not_convert: modules that `default_bits` does not reach, by name or by a part of it between dots.
        cached_timesteps: of a UNet that is to know no others, since a table of them stands in place of its layers of
            time; none leave it those.
        quant_method: as saved configs have it.

    Raises:
        ValueError: bits outside 1 to 8, names or timesteps that are none, another method, or nothing to quantise.
    """

    def __init__(
        self, bits: Mapping[str, int] | None = None, default_bits: int | None = 4,
        modules_to_not_convert: Collection[str] = (), cached_timesteps: Sequence[float] = (),
        quant_method: str = BitsFusionMethod.BITSFUSION.value,
    ) -> None:  # fmt: skip
        self.quant_method = BitsFusionMethod(quant_method)
        if not isinstance(bits, Mapping | None):
            raise ValueError(f"bits must be bits by the names of layers, not {bits!r}.")
        if isinstance(modules_to_not_convert, str) or not isinstance(modules_to_not_convert, Collection):
            raise ValueError(f"modules_to_not_convert must be a list of names, not {modules_to_not_convert!r}.")
        self.bits = dict(bits or {})
        self.default_bits = default_bits
        self.modules_to_not_convert = list(modules_to_not_convert)
        self.cached_timesteps = _checked_timesteps(cached_timesteps)
        for name, own in self.bits.items():
            try:
                Levels(own)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        if default_bits is not None:
            Levels(default_bits)
        elif not self.bits:
            raise ValueError("default_bits must be given where bits names no layer, not None.")

    @classmethod
    def published(cls, cached_timesteps: Sequence[float] = ()) -> Self:
        """The recipe of 1.99 bits for the UNet of Stable Diffusion 1.5 (arXiv 2406.04333, appendix H).

        Those bits are with a cache of 50 timesteps.
        """
        bits = json.loads(PUBLISHED_RECIPE.read_text(encoding="utf-8"))["bits"]
        return cls(bits, default_bits=None, cached_timesteps=cached_timesteps)

    def layer_bits(self, model: nn.Module) -> dict[str, int]:
        """Bits of each layer of a model that is to be quantised, in the model's order.

        What the model's class wants in float32 is as out of `default_bits`' reach as `modules_to_not_convert`; layers
        that a cache replaces count as none.

        Raises:
            ValueError: `bits` names a layer that the model lacks, the model has nothing to quantise, or its time
                embedding cannot be cached.
        """
        replaced = replaced_layers(model) if self.cached_timesteps else []
        layers = [name for name, module in model.named_modules() if type(module) in LOW_BIT and name not in replaced]
        for name in sorted(self.bits.keys() - set(layers)):
            nearest = difflib.get_close_matches(name, layers, n=1, cutoff=0)
            near = f" (nearest: {nearest[0]!r})" if nearest else ""
            raise ValueError(f"bits must name Linear or Conv2d layers of {type(model).__name__}, not {name!r}{near}.")
        own = getattr(model, "_keep_in_fp32_modules", None) or ()
        kept = (*self.modules_to_not_convert, *((own,) if isinstance(own, str) else own))
        result = dict(self.bits)
        if self.default_bits is not None:
            for name in layers:
                if not any(f".{part}." in f".{name}." for part in kept):
                    result.setdefault(name, FIXED_BITS if name in FIRST_AND_LAST else self.default_bits)
        if not result:
            raise ValueError(f"{type(model).__name__} has no Linear or Conv2d layer to quantise.")
        return {name: result[name] for name in layers if name in result}

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """As diffusers reads it from the config of a packed model.

        Raises:
            ValueError: what the constructor raises, or a name that it does not know.
        """
        for name in config_dict:
            if name not in inspect.signature(cls).parameters:
                raise ValueError(f"quantization_config must not hold {name!r}, which is no argument of {cls.__name__}.")
        return super().from_dict(config_dict, return_unused_kwargs, **kwargs)

    def to_diff_dict(self) -> dict[str, Any]:
        """What differs from the defaults, as diffusers prints it."""
        plain = BitsFusionConfig().to_dict()
        return {key: value for key, value in self.to_dict().items() if key == "quant_method" or value != plain[key]}


class RefusedTransformersConfig(TransformersQuantizationConfigMixin):
    """What diffusers looks up beside `BitsFusionConfig` when a pipeline's `quant_backend` is ours.

    It must take the same arguments. Nothing of transformers is packed, so making one says what to do instead.

    Raises:
        ValueError: always.
    """

    def __init__(
        self, bits: Mapping[str, int] | None = None, default_bits: int | None = 4,
        modules_to_not_convert: Collection[str] = (), cached_timesteps: Sequence[float] = (),
        quant_method: str = BitsFusionMethod.BITSFUSION.value,
    ) -> None:  # fmt: skip
        raise ValueError(
            "components_to_quantize must name models of diffusers alone, such as 'unet' or 'transformer': BitsFusion "
            "does not pack those of transformers."
        )


class BitsFusionQuantizer(DiffusersQuantizer):
    """Loads packed weights into low-bit layers, or packs weights of full precision as they are read, layer by layer."""

    use_keep_in_fp32_modules = True
    quantization_config: BitsFusionConfig

    @property
    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        """Adapters are, on packed weights; the weights themselves by `prepare_training`."""
        return True

    def validate_environment(self, *args: Any, device_map: Any = None, **kwargs: Any) -> None:
        """Refuses a device map with "disk", which diffusers would fill with weights that are not packed."""
        if isinstance(device_map, dict) and "disk" in device_map.values():
            raise ValueError("device_map must keep a BitsFusion model in memory, not on the disk.")

    def update_torch_dtype(self, torch_dtype: torch.dtype | None) -> torch.dtype:
        """Without a type of the caller's, what is not packed is float32."""
        return torch.float32 if torch_dtype is None else torch_dtype

    def _process_model_before_weight_loading(self, model: ModelMixin, **kwargs: Any) -> None:
        layers = _to_low_bit(model, self.quantization_config)
        if self.pre_quantized:
            for layer in layers.values():
                layer.freeze_empty(torch.get_default_dtype())
            if self.quantization_config.cached_timesteps:
                put_cache(model, self.quantization_config.cached_timesteps)
        model.register_to_config(quantization_config=self.quantization_config)

    def update_missing_keys(self, model: ModelMixin, missing_keys: list[str], prefix: str) -> list[str]:
        """Scales of weights that are packed while they are read are in no file."""
        return missing_keys if self.pre_quantized else [key for key in missing_keys if not _is_of(model, key, "scales")]

    def check_if_quantized_param(
        self, model: ModelMixin, param_value: Tensor, param_name: str, state_dict: dict[str, Any], **kwargs: Any
    ) -> bool:
        """Whether the tensor is one that `create_quantized_param` takes."""
        if isinstance(model.get_submodule(param_name.rpartition(".")[0]), TimeEmbeddingCache):
            return True
        return _is_of(model, param_name, *(("words", "scales") if self.pre_quantized else ("weight",)))

    def create_quantized_param(
        self, model: ModelMixin, param_value: Tensor, param_name: str, target_device: torch.device,
        state_dict: dict[str, Any], unexpected_keys: list[str] | None = None, dtype: torch.dtype = torch.float32,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        """Checks and takes one tensor, as the file has it and not as diffusers has cast it.

        Raises:
            ValueError: packed weights or a cache that cannot be the model's, or weights that are NaN or infinite.
        """
        path, _, name = param_name.rpartition(".")
        layer, value = model.get_submodule(path), state_dict[param_name].to(target_device)
        try:
            if name == "projections":
                layer.load_projections(value)
            elif name == "weight":
                layer.load_weight(value, dtype)
            else:
                layer.weight_dtype = dtype
                layer.load_words(value) if name == "words" else layer.load_scales(value)
        except ValueError as error:
            raise ValueError(f"{param_name}: {error}") from None

    def _process_model_after_weight_loading(self, model: ModelMixin, **kwargs: Any) -> ModelMixin:
        for name, layer in low_bit_layers(model).items():
            if not layer.is_frozen or layer.words.is_meta or layer.scales.is_meta:
                raise ValueError(f"the weights must hold those of {name}, which are missing.")
        if self.quantization_config.cached_timesteps and not self.pre_quantized:
            _cache_time(model, self.quantization_config)
        for name, module in model.named_modules():
            if isinstance(module, TimeEmbeddingCache) and module.projections.is_meta:
                raise ValueError(f"the weights must hold {name}.projections, which are missing.")
        model.to = partial(_to, model)
        return model

    def _dequantize(self, model: ModelMixin) -> ModelMixin:
        if self.quantization_config.cached_timesteps:
            raise ValueError("the model must have its layers of time to be dequantised, not a cache in their place.")
        for name, layer in low_bit_layers(model).items():
            model.set_submodule(name, layer.dequantized())
        del model.to
        model._internal_dict = FrozenDict({k: v for k, v in model.config.items() if k != "quantization_config"})
        return model


def prepare_training(model: ModelMixin, config: BitsFusionConfig) -> ModelMixin:
    """Puts low-bit layers in training in place of a model's plain ones; `pack_model` follows when they have learnt.

    Raises:
        ValueError: a recipe of other layers, a model that has low-bit layers, or weights that are NaN or infinite.
    """
    if low_bit_layers(model):
        raise ValueError("the model must have plain layers, which dequantize() gives a packed one back.")
    _to_low_bit(model, config)
    model.register_to_config(quantization_config=config)
    return model


def pack_model(model: ModelMixin) -> ModelMixin:
    """Packs the layers that `prepare_training` put in place, after which `save_pretrained` writes packed weights.

    Raises:
        ValueError: a model without such layers, or weights or scales that are NaN or infinite.
    """
    layers = low_bit_layers(model)
    if not layers:
        raise ValueError("the model must have low-bit layers, which prepare_training makes.")
    for name, layer in layers.items():
        try:
            layer.freeze()
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    config = model.config["quantization_config"]
    if config.cached_timesteps:
        _cache_time(model, config)
    model.is_quantized, model.quantization_method = True, config.quant_method
    model.hf_quantizer = BitsFusionQuantizer(config, pre_quantized=True)
    model.to = partial(_to, model)
    return model


def average_bits(
    weights: Mapping[str, int], bits: Mapping[str, int], cached: Collection[str] = (), cached_values: int = 0
) -> float:
    """Bits a weight of a model's layers as the paper counts them (arXiv 2406.04333, appendix H).

    Args:
        weights: how many each Linear and Conv2d layer has, those that a cache of their outputs replaces included.
        bits: nominal bits of the quantised layers; what neither is quantised nor cached counts 32.
        cached: names of layers that a cache replaces, which count nothing themselves.
        cached_values: numbers in the cache, which count 16 bits each.
    """
    kept = {name: count for name, count in weights.items() if name not in cached}
    total = sum(
        count * (Levels(bits[name]).bits_per_weight if name in bits else FULL_PRECISION_BITS)
        for name, count in kept.items()
    )
    return (total + CACHED_VALUE_BITS * cached_values) / math.fsum(weights.values())


def _to_low_bit(model: ModelMixin, config: BitsFusionConfig) -> dict[str, LowBitLayer]:
    made = {}
    for name, bits in config.layer_bits(model).items():
        layer = model.get_submodule(name)
        try:
            made[name] = LOW_BIT[type(layer)].of(layer, bits)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    for name, layer in made.items():
        model.set_submodule(name, layer)
    return made


def _to(model: ModelMixin, *args: Any, dtype: torch.dtype | None = None, **kwargs: Any) -> ModelMixin:
    """`to` of a packed model, for which no type is no cast: `save_lora_adapter` of diffusers calls `to(dtype=None)`,
    which diffusers itself refuses of any quantised model.
    """
    return type(model).to(model, *args, **kwargs, **({} if dtype is None else {"dtype": dtype}))


def _cache_time(model: ModelMixin, config: BitsFusionConfig) -> None:
    put_cache(model, config.cached_timesteps, compute_projections(model, config.cached_timesteps))


def _checked_timesteps(timesteps: Sequence[float]) -> list[float]:
    if not isinstance(timesteps, Sequence) or isinstance(timesteps, str):
        raise ValueError(f"cached_timesteps must be a list of numbers, not {timesteps!r}.")
    for value in timesteps:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and value >= 0):
            raise ValueError(f"cached_timesteps must be numbers from 0 on, not {value!r}.")
    if len(set(timesteps)) != len(timesteps):
        raise ValueError("cached_timesteps must be distinct, which they are not.")
    return list(timesteps)


def low_bit_layers(model: nn.Module) -> dict[str, LowBitLayer]:
    """The layers of a few bits of a model by name, in training or packed."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LowBitLayer) and layer.levels}


def _is_of(model: nn.Module, key: str, *names: str) -> bool:
    path, _, name = key.rpartition(".")
    return name in names and isinstance(model.get_submodule(path), LowBitLayer)


auto.AUTO_QUANTIZATION_CONFIG_MAPPING[BitsFusionMethod.BITSFUSION.value] = BitsFusionConfig
auto.AUTO_QUANTIZER_MAPPING[BitsFusionMethod.BITSFUSION.value] = BitsFusionQuantizer
transformers_auto.AUTO_QUANTIZATION_CONFIG_MAPPING[BitsFusionMethod.BITSFUSION.value] = RefusedTransformersConfig
