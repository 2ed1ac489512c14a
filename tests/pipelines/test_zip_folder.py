"""Archives of strangers: what is in them comes out, and nothing outside of the folder is touched."""

import errno
import os
import random
import shutil
import struct
import zipfile

import pytest

from pocket_diffusers.pipelines import zip_folder
from pocket_diffusers.pipelines.zip_folder import unzipped


def archive(path, files, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as packed:
        for name, content in files:
            packed.writestr(name, content)
    return path


def test_the_folder_is_there_while_it_is_read(tmp_path):
    files = {"a.txt": b"first", "deep/er/b.bin": bytes(100_000), "\u00e4.txt": b""}
    path = archive(tmp_path / "a.zip", [*files.items(), ("empty/", b"")])
    with unzipped(path) as folder:
        found = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        assert found == files
    assert not folder.parent.exists() and path.is_file()


def test_it_vanishes_when_the_reader_fails(tmp_path):
    path = archive(tmp_path / "a.zip", [("a.txt", b"first")])
    with pytest.raises(RuntimeError, match="mine"), unzipped(path) as folder:
        raise RuntimeError("mine")
    assert not folder.exists()


OUTSIDE = ("../a", "b/../../a", "/tmp/a", "..\\a", "C:\\a", "C:a", "\\\\host\\share\\a", "..", ".")


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_file_leaves_the_folder(tmp_path, name, monkeypatch):
    monkeypatch.setattr(zip_folder.tempfile, "tempdir", str(tmp_path / "deep"))
    (tmp_path / "deep").mkdir()
    path = archive(tmp_path / "a.zip", [("fine.txt", b"1"), (name, b"2")])
    with pytest.raises(ValueError, match=r"a\.zip must hold files that lie inside of it, not '"), unzipped(path):
        pass
    assert {file.name for file in tmp_path.rglob("*")} == {"deep", "a.zip"}


def test_a_link_is_unpacked_as_the_text_it_holds(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with unzipped(archive(tmp_path / "a.zip", [(link, "/etc/passwd")])) as folder:
        assert not (folder / "link").is_symlink() and (folder / "link").read_text() == "/etc/passwd"


def test_a_bomb_is_refused_before_a_byte_is_unpacked(tmp_path, monkeypatch):
    path = archive(tmp_path / "a.zip", [("a", bytes(3_000_000)), ("b", bytes(3_000_000))])
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(shutil, "copyfileobj", lambda *_: pytest.fail("something was unpacked"))
    with pytest.raises(ValueError, match="must unpack to at most 5 MB, not 6 MB"), unzipped(path, 5_000_000):
        pass


def test_a_bomb_that_lies_about_its_size_unpacks_to_no_more(tmp_path):
    content = archive(tmp_path / "a.zip", [("a", bytes(3_000_000))]).read_bytes()
    path = tmp_path / "lie.zip"
    path.write_bytes(content.replace(struct.pack("<I", 3_000_000), struct.pack("<I", 100)))
    with pytest.raises(ValueError, match=r"lie\.zip is no zip archive, or a damaged one"), unzipped(path, 5_000_000):
        pass


def test_too_many_files(tmp_path, monkeypatch):
    path = archive(tmp_path / "a.zip", [(f"{index}", b"") for index in range(6)])
    monkeypatch.setattr(zip_folder, "MOST_FILES", 5)
    with pytest.raises(ValueError, match="must hold at most 5 files, not 6"), unzipped(path):
        pass
    monkeypatch.setattr(zip_folder, "MOST_FILES", 6)
    monkeypatch.setattr(zip_folder, "LONGEST_LIST", 100)
    with pytest.raises(ValueError, match="is no zip archive, or a damaged one"), unzipped(path):
        pass


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "files, sentence",
    [
        ([("a", b"1"), ("a", b"2")], "must hold 'a' once, not twice"),
        ([("a", b"1"), ("./a", b"2")], r"must hold '\./a' once, not twice"),
        ([("a", b"1"), ("a/b", b"2")], "must hold 'a/b' in a folder, not in a file"),
        ([("a" * 256, b"1")], "must hold files of names of at most 255 bytes"),
    ],
)
def test_what_no_folder_holds(tmp_path, files, sentence):
    with pytest.raises(ValueError, match=rf"a\.zip {sentence}"), unzipped(archive(tmp_path / "a.zip", files)):
        pass


def test_other_ways_of_packing(tmp_path):
    path = archive(tmp_path / "a.zip", [("a", bytes(1000))], zipfile.ZIP_LZMA)
    with pytest.raises(ValueError, match="must be packed by deflate or not at all, but 'a'"), unzipped(path):
        pass
    content = bytearray(archive(tmp_path / "a.zip", [("a", b"1")]).read_bytes())
    for mark, place in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        content[content.index(mark) + place] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="must not be encrypted, as 'a' in it is"), unzipped(path):
        pass


def test_what_is_no_archive(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.zip is missing"), unzipped(tmp_path / "a.zip"):
        pass
    (tmp_path / "a.zip").write_bytes(b"PK or not")
    with pytest.raises(ValueError, match="is no zip archive, or a damaged one"), unzipped(tmp_path / "a.zip"):
        pass


def test_a_full_disk_is_no_damage(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = archive(tmp_path / "a.zip", [("a", b"1")])
    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left on device"), unzipped(path):
        pass


def test_damaged_archives_are_read_or_refused(tmp_path):
    files = [(f"views/{index}.txt", bytes(range(50)) * index) for index in range(4)]
    content, refused = archive(tmp_path / "a.zip", files).read_bytes(), 0
    for seed in range(1000):
        chance = random.Random(seed)
        data = bytearray(content)
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(data))
            if chance.random() < 0.2:
                del data[place : place + chance.randint(1, 40)]
            else:
                data[place : place + 4] = chance.choice([b"\xff" * 4, bytes(4), chance.randbytes(4)])
        path = tmp_path / "damaged.zip"
        path.write_bytes(data)
        try:
            with unzipped(path, 10_000_000) as folder:
                assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 10_000_000
        except ValueError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error), error
            refused += 1
    assert 300 < refused <= 1000
