"""Files appear whole or not at all; digests are those of the tools that everyone has."""

import hashlib
import os
import subprocess

import pytest

from pocket_diffusers.pipelines.files import (
    digest_of,
    draft_file,
    read_json,
    sha256,
    whole_file,
    whole_folder,
    write_json,
    write_text,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("earlier", [None, "old"])
def test_a_file_is_whole_or_as_it_was(tmp_path, earlier):
    path = tmp_path / "deep" / "notes.txt"
    if earlier is not None:
        write_text(path, earlier)
    with pytest.raises(ZeroDivisionError), whole_file(path) as draft:
        draft.write_text("half")
        assert not path.exists() or path.read_text() == earlier
        _ = 1 / 0
    assert names(path.parent) == ([] if earlier is None else ["notes.txt"])
    assert earlier is None or path.read_text() == earlier
    assert write_text(path, "new\n") == path
    assert path.read_bytes() == b"new\n"
    assert names(path.parent) == ["notes.txt"]


@pytest.mark.parametrize("earlier", [False, True])
def test_a_folder_is_whole_or_as_it_was(tmp_path, earlier):
    folder = tmp_path / "deep" / "kept"
    if earlier:
        folder.mkdir(parents=True)
        (folder / "old.txt").write_text("old")
    with pytest.raises(ZeroDivisionError), whole_folder(folder) as draft:
        (draft / "half.txt").write_text("half")
        _ = 1 / 0
    assert names(folder.parent) == (["kept"] if earlier else [])
    assert not earlier or names(folder) == ["old.txt"]
    with whole_folder(folder) as draft:
        (draft / "new.txt").write_text("new")
    assert names(folder) == ["new.txt"] and names(folder.parent) == ["kept"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_who_may_read_is_as_for_any_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "notes.txt", "text")
        with whole_folder(tmp_path / "kept") as draft:
            (draft / "new.txt").write_text("new")
    finally:
        os.umask(before)
    assert (tmp_path / "notes.txt").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o777 & ~umask


def test_an_earlier_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    rename = os.rename

    def fails_for_drafts(source, target, **options):
        if (source / "new.txt").exists() and str(target) == str(folder):
            raise OSError(28, "No space left on device")
        rename(source, target, **options)

    monkeypatch.setattr(os, "rename", fails_for_drafts)
    with pytest.raises(OSError, match="cannot write .*kept: No space left on device"), whole_folder(folder) as draft:
        (draft / "new.txt").write_text("new")
    monkeypatch.undo()
    assert names(tmp_path) == ["kept"] and names(folder) == ["old.txt"]


def test_a_place_that_cannot_be_written_is_named_with_the_reason(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="cannot write .*file/out: Not a directory"):
        write_text(tmp_path / "file" / "out", "text")
    with pytest.raises(NotADirectoryError), draft_file(tmp_path / "file" / "out"):
        pass
    with pytest.raises(OSError, match="cannot write .*file/out: Not a directory"), whole_folder(tmp_path / "file/out"):
        pass


def test_json_comes_back_and_faults_are_named(tmp_path):
    path = tmp_path / "record.json"
    content = {"words": "größer", "numbers": [1, 2.5, None]}
    assert read_json(write_json(path, content), dict) == content
    assert "größer" in path.read_text(encoding="utf-8") and path.read_text().endswith("}\n")
    with pytest.raises(ValueError, match="must hold a JSON list"):
        read_json(path, list)
    with pytest.raises(ValueError, match="Out of range float values"):
        write_json(path, {"loss": float("nan")})
    assert read_json(path) == content, "what was there stays"
    for broken in ('{"words": ', "[" * 100_000):
        path.write_text(broken)
        with pytest.raises(ValueError, match=r"record\.json is truncated or no JSON file"):
            read_json(path)
    with pytest.raises(FileNotFoundError, match=r"gone\.json is missing"):
        read_json(tmp_path / "gone.json")


def test_sha256_is_that_of_sha256sum(tmp_path):
    for name, content in (("b.bin", b"\x00" * 100_000), ("a.txt", b"text"), ("deep/c.txt", b"")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
        said = subprocess.run(["sha256sum", tmp_path / name], capture_output=True, text=True, check=True).stdout
        assert sha256(tmp_path / name) == said.split()[0]
    command = ["sha256sum", "a.txt", "b.bin", "deep/c.txt"]
    lines = subprocess.run(command, capture_output=True, check=True, cwd=tmp_path).stdout
    assert sha256(tmp_path) == hashlib.sha256(lines).hexdigest()
    only = subprocess.run(["sha256sum", "a.txt"], capture_output=True, check=True, cwd=tmp_path).stdout
    assert digest_of(tmp_path, [tmp_path / "a.txt"]) == hashlib.sha256(only).hexdigest()
