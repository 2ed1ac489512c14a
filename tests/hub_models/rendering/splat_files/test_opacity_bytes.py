"""Opacities as bytes."""

import numpy as np

from pocket_diffusers.hub_models.rendering.splat_files.opacity_bytes import LOGITS, to_bytes


def test_bytes_come_back():
    assert to_bytes(LOGITS).tolist() == list(range(256)) and np.isfinite(LOGITS).all()


def test_opacities_are_rounded_to_the_nearest():
    logits = np.random.default_rng(0).normal(size=10_000).astype(np.float32) * 8
    opacity = 1 / (1 + np.exp(-logits.astype(np.float64)))
    assert np.abs(to_bytes(logits) / 255 - opacity).max() <= 0.5 / 255 + 1e-9
    assert to_bytes(np.array([-1e30, 1e30], np.float32)).tolist() == [0, 255]
