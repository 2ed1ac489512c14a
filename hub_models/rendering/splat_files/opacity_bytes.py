"""Opacities as bytes, sigmoid times 255, in which all compact formats store them."""

import numpy as np

EDGE = 1e-6  # a byte of 0 or 255 stands for an opacity this far from the limit, whose logit is infinite

_opacities = (np.arange(256) / 255).clip(EDGE, 1 - EDGE)
LOGITS = np.log(_opacities / (1 - _opacities)).astype(np.float32)
"""Logit of each byte [256]."""


def to_bytes(logits: np.ndarray) -> np.ndarray:
    """The nearest byte of each logit."""
    with np.errstate(over="ignore"):  # exp of a large number: the opacity is 0
        return np.rint(255 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.uint8)
