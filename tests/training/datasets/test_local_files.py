"""A split of one's own files is found whatever they are called, and in the order that `datasets` gives them."""

import io
import tarfile

import datasets
import pytest
from PIL import Image

from pocket_diffusers.training.datasets.labelled_images import class_names
from pocket_diffusers.training.datasets.streams import open_stream


def paint(*paths):
    for shade, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), shade).save(path)


def write_shard(path, *keys):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key in keys:
            file = io.BytesIO()
            Image.new("L", (4, 4)).save(file, format="PNG")
            for name, content in ((f"{key}.png", file.getvalue()), (f"{key}.txt", key.encode())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def shades(source, split="train"):
    rows = open_stream(str(source), split).decode(True)
    return [row["image"].convert("L").getpixel((0, 0)) for row in rows]


@pytest.mark.parametrize(
    "name", ["plain", "a [b]", "[0-9]", "what*", "really?", "x.tar", "train", "my test", "[", "100%"]
)
def test_a_folder_may_be_called_anything(name, tmp_path):
    paint(*(tmp_path / name / f"{shade}.png" for shade in range(3)))
    assert shades(tmp_path / name) == [0, 1, 2]


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("file", ["steam-train.png", "test.png", "val_1.png", "train-00000-of-00001.png", "[1].png"])
def test_files_may_be_called_anything(file, split, tmp_path):
    paint(tmp_path / "a.png", tmp_path / file, tmp_path / "z.png")
    assert sorted(shades(tmp_path, split)) == [0, 1, 2]


def test_a_class_may_be_called_train(tmp_path):
    paint(*(tmp_path / kind / f"{number}.png" for kind in ("car", "train", "bus") for number in range(2)))
    assert class_names(str(tmp_path)) == ("bus", "car", "train")
    assert sorted(shades(tmp_path)) == list(range(6))


@pytest.mark.parametrize("above", ["", "data"])
def test_folders_of_splits_are_splits_with_the_classes_of_all(above, tmp_path):
    places = ("training/cat", "training/dog", "test/dog")
    paint(*(tmp_path / above / place / "a.png" for place in places))
    for name in ("README.md", "LICENSE"):
        (tmp_path / name).write_text("mine")
    assert shades(tmp_path) == [0, 1] and shades(tmp_path, "test") == [2]
    assert [row["label"] for row in open_stream(str(tmp_path), "test")] == [1]
    with pytest.raises(ValueError, match="split is 'validation', but folder .* has the splits test, train"):
        open_stream(str(tmp_path), "validation")


@pytest.mark.parametrize("places", [("a.png", "b.png", "c.png"), ("train/b/1.png", "train/a/1.png", "test/b/1.png")])
def test_rows_keep_the_order_that_datasets_gives(places, tmp_path):
    paint(*(tmp_path / place for place in places))
    theirs = datasets.load_dataset("imagefolder", data_dir=str(tmp_path), split="train", streaming=True)
    paths = [[row["image"]["path"] for row in rows.decode(False)] for rows in (theirs, open_stream(str(tmp_path)))]
    assert paths[0] == paths[1] and paths[0]
    shuffled = [rows.decode(False).shuffle(seed=3, buffer_size=9) for rows in (theirs, open_stream(str(tmp_path)))]
    assert list(shuffled[0]) == list(shuffled[1])


@pytest.mark.parametrize(
    "names", [("train_images", "test_images"), ("train-1", "train-2", "val2017"), ("val", "train", "dev")]
)
def test_pictures_of_another_split_are_never_learned_from(names, tmp_path):
    paint(*(tmp_path / name / "a.png" for name in names))
    assert shades(tmp_path) == [shade for shade, name in enumerate(names) if name.startswith("train")]


def test_an_empty_folder_is_missed_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no files"):
        open_stream(str(tmp_path))


@pytest.mark.parametrize("folder", ["plain", "a [b]", "what*", "train"])
@pytest.mark.parametrize("name", ["*.tar", "[01].tar", "0.tar", "steam[2]-train.tar"])
def test_shards_may_lie_anywhere(folder, name, tmp_path):
    for key in ("0", "1", "steam[2]-train"):
        write_shard(tmp_path / folder / f"{key}.tar", key)
    expected = {"*.tar": ["0", "1", "steam[2]-train"], "[01].tar": ["0", "1"]}.get(name, [name.removesuffix(".tar")])
    for split in ("train", "test"):
        rows = open_stream(str(tmp_path / folder / name), split)
        assert sorted(row["txt"] for row in rows) == expected


def test_a_glob_may_lie_in_folders(tmp_path):
    write_shard(tmp_path / "a" / "0.tar", "left")
    write_shard(tmp_path / "b" / "0.tar", "right")
    assert sorted(row["txt"] for row in open_stream(str(tmp_path / "*" / "0.tar"))) == ["left", "right"]
