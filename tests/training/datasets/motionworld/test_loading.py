"""The motion world as a data set."""

import json
import sys

import datasets
import numpy as np
import pytest

from pocket_diffusers.training.datasets.motionworld import clips, load_motionworld


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


def test_rows_are_the_clips():
    rows = load_motionworld("validation", 70, seed=2, num_proc=1)
    assert isinstance(rows, datasets.Dataset) and len(rows) == 70
    assert set(rows.column_names) == {"index", "caption", "joints", "length", "contacts", "plan"}
    for index, clip in zip((0, 66), clips("validation", (0, 66), seed=2), strict=True):
        row = rows[index]
        assert (row["index"], row["caption"], row["length"]) == (index, clip.caption, len(clip.joints))
        assert row["joints"].dtype == np.float32
        np.testing.assert_array_equal(row["joints"], clip.joints.numpy())
        np.testing.assert_array_equal(row["contacts"], clip.contacts.numpy())
        assert json.loads(row["plan"]) == json.loads(clip.plan_json())


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"split": "train_all"}, "split"),
        ({"num_samples": 0}, "num_samples"),
        ({"seed": 1.5}, "seed"),
        ({"num_proc": 0}, "num_proc"),
    ],
)
def test_bad_requests_are_refused(request_, message):
    with pytest.raises(ValueError, match=message):
        load_motionworld(**request_)


def test_without_datasets_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match="train"):
        load_motionworld("test", 1)
