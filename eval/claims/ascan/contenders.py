"""What AsCAN's cost is measured against: classifiers of transformers of its size, and DiT, all with random weights.

No published size of the rivals has exactly as many parameters as AsCAN's `tiny`; depths and widths below are chosen so
that each is within 10 % of it.
"""

from typing import Any

import torch
from diffusers import DiTTransformer2DModel
from jaxtyping import Float
from torch import Tensor, nn

from ....hub_models.transformer_ascan import AsCANModel
from ...timing.contender_process import Work
from ...timing.network_work import Mode, network_work

CLASSES, PIXELS = 1000, 224
OURS = "AsCAN tiny"
CLASSIFIERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ConvNeXt": ("ConvNext", {"depths": [3, 3, 27, 3], "hidden_sizes": [96, 192, 384, 768]}),  # ConvNeXt-S
    "Swin": (
        "Swin",
        {"embed_dim": 96, "depths": [2, 2, 20, 2], "num_heads": [3, 6, 12, 24]},
    ),  # Swin-S, two blocks more
    "ViT": (  # between ViT-S and ViT-B
        "ViT",
        {"hidden_size": 576, "num_hidden_layers": 13, "num_attention_heads": 9, "intermediate_size": 2304},
    ),
    "PVT": (  # between PVT-Medium and PVT-Large
        "Pvt",
        {"depths": [3, 6, 24, 3], "hidden_sizes": [64, 128, 320, 512]},
    ),
}
"""Rival -> prefix of its classes in transformers, and its config."""

COATNET: dict[str, dict[str, Any]] = {
    "CoAtNet-1": {"widths": (96, 192, 384, 768), "stem_width": 64},
    "CoAtNet-2": {"widths": (128, 256, 512, 1024), "stem_width": 128},
}
"""CoAtNet (arXiv 2106.04803, table 3) as strings of AsCAN's grammar; both have 2, 6, 14 and 2 blocks."""

DIT_XL_2 = {  # transformer/config.json of facebook/DiT-XL-2-256
    "num_attention_heads": 16, "attention_head_dim": 72, "in_channels": 4, "out_channels": 8, "num_layers": 28,
    "sample_size": 32, "patch_size": 2, "attention_bias": True, "activation_fn": "gelu-approximate",
    "num_embeds_ada_norm": 1000, "norm_type": "ada_norm_zero", "norm_elementwise_affine": False,
}  # fmt: skip


class Logits(nn.Module):
    """A classifier as a function from pictures to logits alone."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch classes"]:
        return self.classifier(pixels).logits


def new_classifier(name: str, pixels: int = PIXELS) -> nn.Module:
    """`OURS` or a rival of `CLASSIFIERS`, new, in evaluation mode, on torch's current device.

    Args:
        pixels: side of the pictures that position tables are made for.
    """
    if name == OURS:
        return AsCANModel.from_preset("tiny", image_size=pixels).eval()
    import transformers

    prefix, config = CLASSIFIERS[name]
    if name == "Swin":
        config = {**config, "window_size": min(7, pixels // 32)}  # no window is larger than the last stage
    config = getattr(transformers, f"{prefix}Config")(image_size=pixels, num_labels=CLASSES, **config)
    return getattr(transformers, f"{prefix}ForImageClassification")(config).eval()


def new_coatnet(name: str) -> AsCANModel:
    """A CoAtNet of `COATNET`, on torch's current device."""
    return AsCANModel(stages=("C" * 2, "C" * 6, "T" * 14, "T" * 2), **COATNET[name]).eval()


def new_dit() -> DiTTransformer2DModel:
    """DiT-XL/2 for pictures of 256 pixels a side, on torch's current device."""
    return DiTTransformer2DModel(**DIT_XL_2).eval()


def build_classification(name: str, mode: Mode, batch: int, pixels: int = PIXELS) -> Work:
    """Classification of a batch by a network with random weights, in float32; see `network_work`."""
    torch.manual_seed(0)
    network = Logits(new_classifier(name, pixels)).eval().requires_grad_(False)
    return network_work(network, torch.randn(batch, 3, pixels, pixels), mode)
