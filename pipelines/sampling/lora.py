"""LoRA adapters for pipelines whose denoiser is `unet`, in diffusers' file format."""

import os
from pathlib import Path
from typing import Any

from diffusers.loaders.lora_base import LoraBaseMixin
from diffusers.utils import is_peft_available
from safetensors import SafetensorError
from torch import Tensor, nn

from ... import missing_package
from ..repository import is_local_path

PEFT_PREFIX = "base_model.model."
"""What peft puts before the names of layers when it wraps a model instead of injecting into it."""


class UNetLoraMixin(LoraBaseMixin):
    """Loads, saves, fuses and removes LoRA adapters of `self.unet` (needs peft, in the extra `train`).

    Inherited from diffusers: `set_adapters`, `enable_lora`, `disable_lora`, `delete_adapters`, `get_active_adapters`,
    `unload_lora_weights`.
    """

    _lora_loadable_modules = ["unet"]
    unet_name = "unet"

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: str | os.PathLike | dict[str, Tensor],
        adapter_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Adds a LoRA to the UNet and activates it.

        Args:
            pretrained_model_name_or_path_or_dict: safetensors file, folder that holds one, repository on the Hub, or
                a state dict; keys start with "unet." as `save_lora_weights` writes them.
            adapter_name: name for `set_adapters`; None makes one up.
            kwargs: `weight_name`, `subfolder`, `revision`, `token`, `cache_dir`, ... as in diffusers.

        Raises:
            ImportError: without peft.
            FileNotFoundError: for a path where nothing is.
            ValueError: for a damaged file, or a LoRA made for another network, naming the first tensor that differs.
        """
        _require_peft()
        source = pretrained_model_name_or_path_or_dict
        state, metadata = self.lora_state_dict(source, return_lora_metadata=True, **kwargs)
        layers = {key.removeprefix("unet."): value for key, value in state.items() if key.startswith("unet.")}
        if not layers or not all(".lora" in key for key in layers):
            raise ValueError(
                f"{_name(source)} holds no LoRA of a UNet: its keys must look like unet.<layer>.lora_A.weight."
            )
        _check_layers(layers, self.unet)
        self.unet.load_lora_adapter(state, prefix="unet", adapter_name=adapter_name, metadata=metadata, _pipeline=self)

    @classmethod
    def lora_state_dict(
        cls, pretrained_model_name_or_path_or_dict: str | os.PathLike | dict[str, Tensor], **kwargs: Any
    ) -> dict[str, Tensor] | tuple[dict[str, Tensor], dict[str, Any] | None]:
        """Reads a LoRA's tensors (safetensors only); with `return_lora_metadata=True` also its peft settings.

        Raises:
            FileNotFoundError: for a path where nothing is.
            ValueError: for a damaged file.
        """
        from diffusers.loaders import SanaLoraLoaderMixin

        source = pretrained_model_name_or_path_or_dict
        if not isinstance(source, dict) and is_local_path(source) and not os.path.exists(source):
            raise FileNotFoundError(f"no LoRA at {source}.")
        try:
            return SanaLoraLoaderMixin.lora_state_dict(source, use_safetensors=True, **kwargs)
        except SafetensorError as error:
            raise ValueError(f"{_name(source)} is no complete safetensors file: {error}.") from error

    @classmethod
    def save_lora_weights(
        cls,
        save_directory: str | os.PathLike,
        unet_lora_layers: dict[str, Tensor],
        unet_lora_adapter_metadata: dict[str, Any] | None = None,
        weight_name: str | None = None,
    ) -> None:
        """Writes a LoRA that `load_lora_weights` reads.

        Args:
            save_directory: folder, made where needed.
            unet_lora_layers: what `peft.get_peft_model_state_dict(unet)` returns, wrapped in a `PeftModel` or not.
            unet_lora_adapter_metadata: the adapter's `LoraConfig.to_dict()`; keeps lora_alpha, which tensors lack.
            weight_name: file name; None is pytorch_lora_weights.safetensors.

        Raises:
            ValueError: for an empty state dict.
        """
        if not unet_lora_layers:
            raise ValueError("unet_lora_layers is empty: pass peft.get_peft_model_state_dict(unet).")
        layers = {key.removeprefix(PEFT_PREFIX): value for key, value in unet_lora_layers.items()}
        cls._save_lora_weights(
            save_directory=save_directory,
            lora_layers={"unet": layers},
            lora_metadata={"unet": unet_lora_adapter_metadata},
            weight_name=weight_name,
            safe_serialization=True,
        )

    def fuse_lora(
        self, components: list[str] | None = None, lora_scale: float = 1.0, safe_fusing: bool = False, **kwargs: Any
    ) -> None:
        """Adds the active LoRAs to the UNet's own weights (diffusers' `fuse_lora`)."""
        super().fuse_lora(components or ["unet"], lora_scale=lora_scale, safe_fusing=safe_fusing, **kwargs)

    def unfuse_lora(self, components: list[str] | None = None, **kwargs: Any) -> None:
        """Takes fused LoRAs out of the UNet's weights again, up to rounding."""
        super().unfuse_lora(components or ["unet"], **kwargs)


def _require_peft() -> None:
    if not is_peft_available():
        raise missing_package("LoRA", "peft", "train")


def _name(source: str | os.PathLike | dict[str, Tensor]) -> str:
    return "the state dict" if isinstance(source, dict) else str(Path(source))


def _check_layers(layers: dict[str, Tensor], unet: nn.Module) -> None:
    modules = dict(unet.named_modules())
    for key, value in layers.items():
        for part, axis in ((".lora_A.", 1), (".lora_B.", 0)):  # the axis that a layer's own weight shares
            if part not in key or not key.endswith(".weight"):
                continue
            path = key.split(part)[0]
            weight = getattr(modules.get(path), "weight", None)
            if weight is None:
                raise ValueError(f"the LoRA is for another network: this UNet has no layer {path!r}.")
            if value.shape[axis] != weight.shape[axis]:
                raise ValueError(
                    f"the LoRA is for another network: unet.{key} is {value.shape[axis]} wide, but the layer has "
                    f"{weight.shape[axis]} channels."
                )
