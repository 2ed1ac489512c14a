"""Shards: read as `datasets` reads them, in its order; and where they are damaged, told and read on."""

import io
import tarfile
from pathlib import Path

import datasets
import pytest
from PIL import Image

from pocket_diffusers.training.datasets.bad_rows import FAULT
from pocket_diffusers.training.datasets.shards import shard_rows
from pocket_diffusers.training.datasets.streams import open_stream


def encoded(form="PNG"):
    file = io.BytesIO()
    Image.new("L", (9, 9), 5).save(file, format=form)
    return file.getvalue()


def write(path, *members):
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return str(path)


def samples(*keys):
    return [
        member
        for key in keys
        for member in ((f"{key}.png", encoded()), (f"{key}.txt", key.encode()), (f"{key}.cls", b"3"))
    ]


@pytest.fixture
def shard(tmp_path):
    return write(tmp_path / "0.tar", *samples("a", "b", "c", "d"))


def keys_and_faults(path):
    rows = list(shard_rows([path]))
    return [row.get("__key__") for row in rows if FAULT not in row], [row[FAULT] for row in rows if FAULT in row]


def test_rows_and_their_order_are_those_of_datasets(tmp_path):
    for number in range(5):
        extra = [("dir/.hidden.txt", b"x"), ("dir/x.seg.png", encoded()), ("dir/x.json", b'{"a": 1}')]
        write(tmp_path / f"{number}.tar", *samples(f"{number}a", f"dir/{number}b"), *(extra if number else []))
    pattern = str(tmp_path / "*.tar")
    theirs = datasets.load_dataset("webdataset", data_files={"train": pattern}, split="train", streaming=True)
    for seed in (0, 1):
        ours = list(open_stream(pattern).shuffle(seed=seed, buffer_size=3))
        for mine, other in zip(ours, theirs.decode(False).shuffle(seed=seed, buffer_size=3), strict=True):
            assert mine["__key__"] == other["__key__"]
            assert {name: mine.get(name) for name in ("png", "txt", "cls")} == {
                name: other[name] for name in ("png", "txt", "cls")
            }
    assert len(ours) == 14


def test_samples_may_have_other_members(tmp_path):
    path = write(tmp_path / "0.tar", ("a.jpg", encoded("JPEG")), ("a.txt", b"a"), ("b.png", encoded()), ("b.txt", b"b"))
    rows = list(open_stream(path))
    assert [sorted(row.keys() - {"__key__", "__url__"}) for row in rows] == [["jpg", "txt"], ["png", "txt"]]


@pytest.mark.parametrize("blocks", [13, 14, 15])
def test_a_shard_that_is_cut_short_is_told(blocks, shard):
    whole = Path(shard).read_bytes()
    Path(shard).write_bytes(whole[: 512 * blocks + 100])  # a sample has six: three headers, each with one of content
    keys, faults = keys_and_faults(shard)
    assert keys == ["a", "b"] and len(faults) == 1 and "what follows sample 'b' is lost" in faults[0]


def test_a_damaged_header_is_no_end(shard):
    whole = bytearray(Path(shard).read_bytes())
    whole[512 * 12 : 512 * 12 + 200] = b"?" * 200
    Path(shard).write_bytes(whole)
    keys, faults = keys_and_faults(shard)
    assert keys == ["a"] and "what follows sample 'a' is lost" in faults[0]


def test_what_is_no_shard_does_not_hide_the_next(shard, tmp_path):
    (tmp_path / "bad.tar").write_bytes(b"no archive")
    rows = list(shard_rows([str(tmp_path / "bad.tar"), shard]))
    assert FAULT in rows[0] and rows[0]["__url__"].endswith("bad.tar")
    assert [row["__key__"] for row in rows[1:]] == ["a", "b", "c", "d"]


def test_members_that_cannot_be_decoded_stay_bytes_and_twins_are_told(tmp_path):
    path = write(tmp_path / "0.tar", ("a.txt", b"\xff"), ("a.cls", b"x"), ("b.txt", b"1"), ("b.txt", b"2"))
    first, second = shard_rows([path])
    assert (first["txt"], first["cls"]) == (b"\xff", b"x") and second[FAULT] == "it holds two members 'txt'"
