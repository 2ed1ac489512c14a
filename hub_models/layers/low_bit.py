"""Linear and convolutional layers of a few bits a weight (BitsFusion, arXiv 2406.04333), in training and packed."""

import threading
from collections.abc import Callable
from typing import Any, Self

import torch
from jaxtyping import Float, Float16, Float32, Int64
from torch import Tensor, nn

from .low_bit_levels import Levels, fake_quantize, stored_scales
from .low_bit_packing import decode_weight, pack_weight
from .low_bit_scales import alternating_scales
from .radix_packing import check_words, words_for


class LowBitLayer(nn.Module):
    """What both layers share.

    In training a layer has parameters `weight`, float32 [out, ...], and `scales`, float32 [out], and computes with the
    weight rounded to levels. `freeze` turns both into buffers: `words`, int64, in which levels are digits of base
    `levels.count`, and `scales`, float16 [out]; it then decodes the same numbers at each call. The bias stays as it is.
    """

    # A layer that `of` did not make has no levels and is a plain one: peft makes adapters of their layer's class.
    levels: Levels | None = None
    weight_shape: torch.Size

    @classmethod
    def of(cls, layer: nn.Module, bits: int) -> Self:
        """The training form of a plain layer, with its own weight and bias and scales by alternating optimisation.

        Raises:
            ValueError: bits outside 1 to 8; NaN or infinite weights.
        """
        levels = Levels(bits)
        with torch.device("meta"):
            made = cls(**cls._arguments(layer))
        made.levels, made.weight_shape, made.weight_dtype = levels, layer.weight.shape, layer.weight.dtype
        made.weight, made.bias = layer.weight, layer.bias
        if layer.weight.is_meta:  # its values are still to come
            scales = layer.weight.new_empty(len(layer.weight), dtype=torch.float32)
        else:
            scales = alternating_scales(layer.weight, levels)
        made.scales = nn.Parameter(scales)
        return made.train(layer.training)

    @staticmethod
    def _arguments(layer: nn.Module) -> dict[str, Any]:
        """With which a layer of the same size is made."""
        raise NotImplementedError

    @property
    def is_frozen(self) -> bool:
        """Whether weights are packed."""
        return "words" in self._buffers

    @torch.no_grad()
    def freeze(self) -> Self:
        """Packs the weights of a trained layer in place.

        Raises:
            ValueError: a weight or scale is NaN or infinite.
        """
        if not bool(self.scales.isfinite().all()):
            raise ValueError(f"scales must be finite, not {float(self.scales[~self.scales.isfinite()][0])}.")
        return self._pack(self.weight, self.scales)

    @torch.no_grad()
    def load_weight(self, weight: Float[Tensor, "out ..."], weight_dtype: torch.dtype) -> Self:
        """Packs a weight that training did not touch, with scales by alternating optimisation.

        Args:
            weight: of the layer's shape.
            weight_dtype: of which `weight` is when it is read.

        Raises:
            ValueError: NaN or infinite weights.
        """
        weight = weight.float()
        self._pack(weight, alternating_scales(weight, self.levels))
        self.weight_dtype = weight_dtype
        return self

    def load_words(self, words: Int64[Tensor, " words"]) -> None:
        """Takes packed weights as they came from a file.

        Raises:
            ValueError: another type or size, or digits beyond the levels.
        """
        check_words(words, self.weight_shape.numel(), self.levels.count)
        self.words = words

    def load_scales(self, scales: Float16[Tensor, " out"]) -> None:
        """Takes the scales of packed weights as they came from a file.

        Raises:
            ValueError: another type or size, or scales that are not positive and finite.
        """
        if scales.dtype != torch.float16 or scales.shape != self.weight_shape[:1]:
            found = f"{scales.dtype} of shape {tuple(scales.shape)}"
            raise ValueError(f"scales must be torch.float16 of shape {tuple(self.weight_shape[:1])}, not {found}.")
        odd = scales[~(scales.isfinite() & (scales > 0))]
        if len(odd):
            raise ValueError(f"scales must be positive and finite, not {float(odd[0])}.")
        self.scales = scales

    def freeze_empty(self, weight_dtype: torch.dtype) -> Self:
        """Makes room on the meta device for packed weights that are still to come; what trained is dropped."""
        self.weight_dtype = weight_dtype
        words = torch.empty(words_for(self.weight_shape.numel(), self.levels.count), dtype=torch.int64, device="meta")
        return self._hold(words, torch.empty(self.weight_shape[:1], dtype=torch.float16, device="meta"))

    def _pack(self, weight: Tensor, scales: Tensor) -> Self:
        rounded = stored_scales(scales)
        return self._hold(pack_weight(weight.float(), rounded, self.levels), rounded.half())

    def _hold(self, words: Tensor, scales: Tensor) -> Self:
        for name in ("weight", "scales"):
            self._parameters.pop(name, None)
        self.register_buffer("words", words)
        self.register_buffer("scales", scales)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Packed scales keep their type when a model is cast; what `weight` is read as changes instead."""
        before = self._buffers.get("scales")
        super()._apply(fn, recurse)
        if before is not None and self.scales.dtype != before.dtype:
            self.weight_dtype, self.scales = self.scales.dtype, before.to(self.scales.device)
        return self

    def _decoded(self, out: Tensor | None = None) -> Float32[Tensor, "out ..."]:
        return decode_weight(self.words, self.scales.float(), self.weight_shape, self.levels, out)

    @torch.no_grad()
    def rounded_weight(self) -> Float32[Tensor, "out ..."]:
        """What the layer computes with, in memory of its own."""
        return self._decoded() if self.is_frozen else fake_quantize(self.weight.float(), self.scales, self.levels)

    def __getattr__(self, name: str) -> Any:
        """`weight` of a packed layer is decoded when read, for code that asks for its type, device or values."""
        if name == "weight" and "words" in self._buffers:
            return self._decoded().to(self.weight_dtype).as_subclass(_ReadOnlyWeight)
        return super().__getattr__(name)

    def _apply_rounded(
        self, x: Float[Tensor, "batch ..."], operation: Callable[[Tensor, Tensor], Tensor]
    ) -> Float[Tensor, "batch ..."]:
        """`operation(x, weight)` with the rounded weight in the type of x."""
        if self.levels is None:
            return operation(x, self.weight)
        if not self.is_frozen:
            return operation(x, fake_quantize(self.weight.float(), self.scales, self.levels).to(x.dtype))
        weight = self._decoded(_scratch(self.weight_shape.numel()) if x.device.type == "cpu" else None).to(x.dtype)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return operation(x, weight)
        memory = weight.untyped_storage().data_ptr()

        def keep(tensor: Tensor) -> Any:
            is_weight = tensor.untyped_storage().data_ptr() == memory
            return (tensor.dtype, tensor.shape, tensor.stride()) if is_weight else tensor

        def bring(kept: Any) -> Tensor:
            if isinstance(kept, Tensor):
                return kept
            dtype, shape, stride = kept
            return self._decoded().to(dtype).as_strided(shape, stride)

        with torch.autograd.graph.saved_tensors_hooks(keep, bring):  # the weight is decoded anew in the backward pass
            return operation(x, weight)

    def extra_repr(self) -> str:
        state = f", bits={self.levels.bits}, {'packed' if self.is_frozen else 'in training'}" if self.levels else ""
        return super().extra_repr() + state


class LowBitLinear(LowBitLayer, nn.Linear):
    """A linear layer of low-bit weights; `LowBitLinear.of(layer, bits)` makes it of an `nn.Linear`."""

    @staticmethod
    def _arguments(layer: nn.Linear) -> dict[str, Any]:
        return {
            "in_features": layer.in_features, "out_features": layer.out_features, "bias": layer.bias is not None,
        }  # fmt: skip

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        return self._apply_rounded(x, lambda x, weight: nn.functional.linear(x, weight, self.bias))

    def dequantized(self) -> nn.Linear:
        """A plain layer that computes the same."""
        return _plain(nn.Linear, self)


class LowBitConv2d(LowBitLayer, nn.Conv2d):
    """A convolution of low-bit weights; `LowBitConv2d.of(layer, bits)` makes it of an `nn.Conv2d`."""

    @staticmethod
    def _arguments(layer: nn.Conv2d) -> dict[str, Any]:
        names = "in_channels out_channels kernel_size stride padding dilation groups padding_mode"
        return {**{name: getattr(layer, name) for name in names.split()}, "bias": layer.bias is not None}

    def forward(self, x: Float[Tensor, "batch in_channels h w"]) -> Float[Tensor, "batch out_channels new_h new_w"]:
        return self._apply_rounded(x, lambda x, weight: self._conv_forward(x, weight, self.bias))

    def dequantized(self) -> nn.Conv2d:
        """A plain layer that computes the same."""
        return _plain(nn.Conv2d, self)


LOW_BIT: dict[type[nn.Module], type[LowBitLayer]] = {nn.Linear: LowBitLinear, nn.Conv2d: LowBitConv2d}


def _plain(kind: type[nn.Module], layer: Any) -> Any:
    with torch.device("meta"):
        made = kind(**layer._arguments(layer))
    made.weight = nn.Parameter(layer.rounded_weight().to(layer.weight_dtype))
    made.bias = layer.bias
    return made.train(layer.training)


class _ReadOnlyWeight(Tensor):
    """A decoded weight. Writing to it would change nothing, which fusing an adapter would not notice."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # results are plain tensors

    @property
    def data(self) -> Tensor:
        return self.as_subclass(Tensor)

    @data.setter
    def data(self, value: Tensor) -> None:
        raise ValueError("packed weights cannot be written to: keep adapters beside them, or call dequantize().")


_kept = threading.local()


def _scratch(count: int) -> Float32[Tensor, " weights"]:
    """Memory of this thread for decoded weights, as large as the largest that it held so far."""
    held: Tensor | None = getattr(_kept, "memory", None)
    if held is None or len(held) < count:
        with torch.inference_mode(False):  # or calls outside of that mode could not use it
            _kept.memory = held = torch.empty(count)
    return held
