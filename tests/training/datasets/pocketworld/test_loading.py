"""The world as `datasets` serve it: declared features, one content by every route, and clear refusals."""

import json
import sys

import datasets
import numpy as np
import pytest
import torch
from datasets import Array3D, Image, List, Value

from pocket_diffusers.training.datasets.pocketworld import Scene, load_pocketworld, loading
from pocket_diffusers.training.datasets.pocketworld.descriptions import Description
from pocket_diffusers.training.datasets.pocketworld.records import PICTURE_BLOCK, clips, pictures

FRAMES = {"video": 16, "multiview": 16, "lightfield": 25, "rgbd_video": 16}
EXTRA = {
    "video": {"times"},
    "multiview": {"depths"},
    "lightfield": set(),
    "rgbd_video": {"times", "depths", "camera"},
}
TOLD = {"index", "caption", "tag", "metadata", "objects", "scene"}


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


def plain(row):
    """A row with pictures as arrays, to compare."""
    return {name: np.asarray(value).tolist() if name in ("image", "mask") else value for name, value in row.items()}


def test_pictures_come_with_all_that_proves_them():
    rows = load_pocketworld("image", "test", 32, 6)
    assert isinstance(rows, datasets.Dataset)
    assert len(rows) == 6 and set(rows.column_names) == TOLD | {"image", "mask"}
    for row, picture in zip(rows, pictures("test", 32, range(6)), strict=True):
        assert row["image"].mode == "RGB" and row["mask"].mode == "L"
        np.testing.assert_array_equal(np.asarray(row["image"]), picture.rgb)
        np.testing.assert_array_equal(np.asarray(row["mask"]), picture.instances)
        assert (row["index"], row["caption"], row["tag"]) == (picture.index, picture.caption, picture.description.tag)
        metadata = json.loads(row["metadata"])
        assert metadata["prompt"] == row["caption"]
        assert Description.from_metadata(metadata) == picture.description
        assert Scene.from_json(row["scene"]) == picture.scene
        for told, obj, box in zip(row["objects"], picture.scene.objects, picture.boxes.tolist(), strict=True):
            assert (told["shape"], told["color"], told["size"]) == (obj.shape, obj.color, obj.size)
            assert (tuple(told["position"]), told["yaw"]) == (obj.position, obj.yaw)
            assert told["box"] == box
            assert 0.5 <= told["visibility"] <= 1


@pytest.mark.parametrize("kind", FRAMES)
def test_clips_come_with_all_that_proves_them(kind):
    rows, frames = load_pocketworld(kind, "validation", 16, 2), FRAMES[kind]
    assert set(rows.column_names) == TOLD | {"images", "masks", "viewmats", "Ks"} | EXTRA[kind]
    for row, clip in zip(rows, clips(kind, "validation", 16, range(2)), strict=True):
        np.testing.assert_array_equal(np.stack([np.asarray(image) for image in row["images"]]), clip.rgb)
        np.testing.assert_array_equal(np.stack([np.asarray(mask) for mask in row["masks"]]), clip.instances)
        np.testing.assert_array_equal(np.float32(row["viewmats"]), clip.path.viewmats.numpy())
        np.testing.assert_array_equal(np.float32(row["Ks"]), clip.path.Ks.numpy())
        assert row["caption"] == clip.caption
        assert Scene.from_json(row["scene"]) == clip.scene
        metadata = json.loads(row["metadata"])
        assert Description.from_metadata(metadata) == clip.description
        assert tuple(metadata["motions"]) == clip.motions
        if "depths" in row:
            np.testing.assert_array_equal(np.float32(row["depths"]), clip.depths)
        assert row.get("times", clip.path.times.tolist()) == clip.path.times.tolist()
        assert row.get("camera", clip.camera) == clip.camera
        for k, (told, obj) in enumerate(zip(row["objects"], clip.scene.objects, strict=True)):
            assert told["motion"] == (obj.motion and obj.motion.program)
            assert np.shape(told["boxes"]) == (frames, 4)
            np.testing.assert_array_equal(told["boxes"], clip.boxes[:, k])
            np.testing.assert_allclose(told["visibility"], clip.visibility[:, k])


def test_features_are_declared():
    word, number, exact = Value("string"), Value("float32"), Value("float64")
    thing = {"shape": word, "color": word, "size": word, "position": List(exact, length=3), "yaw": exact}
    told = {"index": Value("int64"), "caption": word, "tag": word, "metadata": word, "scene": word}
    assert load_pocketworld("image", "test", 32, 6).features == {
        **told,
        "image": Image(),
        "mask": Image(),
        "objects": List({**thing, "box": List(number, length=4), "visibility": number}),
    }
    each = {
        "motion": word,
        "boxes": List(List(number, length=4), length=16),
        "visibility": List(number, length=16),
    }
    declared = {
        **told,
        "images": List(Image(), length=16),
        "masks": List(Image(), length=16),
        "viewmats": Array3D((16, 4, 4), "float32"),
        "Ks": Array3D((16, 3, 3), "float32"),
        "depths": Array3D((16, 16, 16), "float32"),
        "times": List(number, length=16),
        "camera": word,
        "objects": List(thing | each),
    }
    assert load_pocketworld("rgbd_video", "validation", 16, 2).features == declared
    assert load_pocketworld("rgbd_video", "test", 16, 5, streaming=True).features == declared


def test_every_route_gives_the_same_records():
    """Whether streamed, cached, made by two processes in blocks, or asked for with another number of samples."""
    count, threads = PICTURE_BLOCK + 5, torch.get_num_threads()
    request = ("image", "test", 16, count, 9)
    one = load_pocketworld(*request, num_proc=1)
    chosen = [0, 3, PICTURE_BLOCK - 1, PICTURE_BLOCK, count - 1]
    expected = [plain(one[index]) for index in chosen]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "_cache_key", lambda *request: "made-by-two-processes")
        two = load_pocketworld(*request, num_proc=2)
    assert torch.get_num_threads() == threads
    assert two["index"][:] == list(range(count))
    assert [plain(two[index]) for index in chosen] == expected
    streamed = list(load_pocketworld(*request, streaming=True))
    assert [plain(streamed[index]) for index in chosen] == expected
    few = load_pocketworld("image", "test", 16, 4, 9)
    assert [plain(row) for row in few][::3] == expected[:2]


def test_records_are_made_once_and_another_world_is_made_anew(monkeypatch):
    made = []
    make = loading.pictures
    monkeypatch.setattr(loading, "pictures", lambda *request: made.append(request) or make(*request))
    for _ in range(2):
        load_pocketworld("image", "validation", 16, 3)
    assert len(made) == 1
    load_pocketworld("image", "validation", 16, 3, seed=1)
    assert len(made) == 2
    monkeypatch.setattr(loading, "world_version", lambda: "another")
    load_pocketworld("image", "validation", 16, 3)
    assert len(made) == 3


def test_streams_make_only_what_is_read_and_split_over_workers():
    stream = load_pocketworld("image", "train", 16, 100_000, streaming=True)
    assert isinstance(stream, datasets.IterableDataset)
    assert [row["index"] for row in stream.take(3)] == [0, 1, 2]
    assert load_pocketworld("image", "train", 16, 1000, streaming=True).num_shards == 8


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kind": "movie"}, "kind must be one of image, video, multiview, lightfield, rgbd_video, not 'movie'"),
        ({"split": "dev"}, "split must be one of train, train_all, validation, test, not 'dev'"),
        ({"size": 8}, "size must be at least 16 pixels, not 8"),
        ({"size": 64.5}, "size must be a whole number of at least 1, not 64.5"),
        ({"num_samples": 0}, "num_samples must be a whole number of at least 1, not 0"),
        ({"seed": -3}, "seed must be a whole number of at least 0, not -3"),
        ({"seed": "one"}, "seed must be a whole number of at least 0, not 'one'"),
        ({"num_proc": 0}, "num_proc must be a whole number of at least 1, not 0"),
    ],
)
def test_bad_requests_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        load_pocketworld(**{"kind": "image", "split": "test", "size": 16, "num_samples": 2} | change)


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match="needs datasets, which comes with the extra 'train'"):
        load_pocketworld("image", "test", 16, 2)
