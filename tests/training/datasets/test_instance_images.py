import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket_diffusers.training.datasets.instance_images import (
    CENTER_SIGMA,
    NO_OBJECT,
    dense_targets,
    pocketworld_instances,
)
from pocket_diffusers.training.datasets.pocketworld.records import pictures
from pocket_diffusers.training.datasets.pocketworld.scene import COLORS, SHAPES


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 3))
def test_targets_against_a_loop_over_pixels(seed, objects):
    rng = np.random.default_rng(seed)
    instances = rng.integers(0, objects + 1, (1, 9, 11)).astype(np.uint8)
    shapes, colors = (rng.integers(0, high, (1, 4)).astype(np.uint8) for high in (5, 10))
    targets = dense_targets(*map(torch.from_numpy, (instances, shapes, colors)))
    centers = {k: np.argwhere(instances[0] == k + 1).mean(0) for k in range(objects) if (instances == k + 1).any()}
    for y in range(9):
        for x in range(11):
            k = int(instances[0, y, x]) - 1
            bumps = [np.exp(-((c - (y, x)) ** 2).sum() / (2 * CENTER_SIGMA**2)) for c in centers.values()]
            assert float(targets.center[0, y, x]) == pytest.approx(max(bumps, default=0), abs=1e-5)
            assert bool(targets.foreground[0, y, x]) == (k >= 0)
            assert int(targets.shape[0, y, x]) == (1 + shapes[0, k] if k >= 0 else 0)
            if k >= 0:
                assert int(targets.color[0, y, x]) == colors[0, k]
            wanted = centers[k] - (y, x) if k >= 0 else (0, 0)
            assert targets.offset[0, :, y, x].tolist() == pytest.approx(list(wanted), abs=1e-4)


def test_pocketworld_s_objects_are_read_as_they_are(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    data = pocketworld_instances("validation", 32, 6)
    for i, record in enumerate(pictures("validation", 32, range(6))):
        assert np.array_equal(data.pixels[i].permute(1, 2, 0).numpy(), record.rgb)
        assert np.array_equal(data.instances[i].numpy(), record.instances)
        count = len(record.scene.objects)
        assert [SHAPES[k] for k in data.shapes[i, :count]] == [thing.shape for thing in record.scene.objects]
        assert [list(COLORS)[k] for k in data.colors[i, :count]] == [thing.color for thing in record.scene.objects]
        assert (data.shapes[i, count:] == NO_OBJECT).all()
    assert data.images(torch.tensor([0])).max() <= 1
