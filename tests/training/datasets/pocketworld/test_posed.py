"""Rows as the posed pictures that a `fit` takes."""

import datasets
import numpy as np
import pytest
import torch

from pocket_diffusers.pipelines.inputs import PosedImages
from pocket_diffusers.training.datasets.pocketworld import load_pocketworld, posed_images


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.mark.parametrize("kind", ["multiview", "rgbd_video", "lightfield", "video"])
def test_a_row_becomes_posed_images(kind):
    (row,) = load_pocketworld(kind, "test", 24, 1, streaming=True)
    posed = posed_images(row)
    assert isinstance(posed, PosedImages)
    assert posed.images.shape == (len(row["images"]), 3, 24, 24)
    np.testing.assert_array_equal((posed.images[3] * 255).round().byte().permute(1, 2, 0), np.asarray(row["images"][3]))
    np.testing.assert_array_equal(posed.masks[3], np.asarray(row["masks"][3]) > 0)
    np.testing.assert_array_equal(posed.viewmats, np.float32(row["viewmats"]))
    np.testing.assert_array_equal(posed.Ks, np.float32(row["Ks"]))
    assert (posed.depths is not None) == ("depths" in row)
    assert (posed.times is not None) == ("times" in row)
    if posed.depths is not None:
        assert posed.depths.dtype == torch.float32
        assert (posed.depths[posed.masks] > 0).all()


def test_a_single_picture_has_no_pose():
    (row,) = load_pocketworld("image", "test", 16, 1, streaming=True)
    with pytest.raises(ValueError, match=r"row has no images, masks, viewmats, Ks; .* several views"):
        posed_images(row)
