"""A result folder is whole or absent, and never destroys what is not an earlier result."""

import json
import platform
import subprocess
import sys

import pytest

from pocket_diffusers import __version__
from pocket_diffusers.pipelines.result_folder import hardware, result_folder, write_record


def write_result(output, text="new", overwrite=False):
    with result_folder(output, overwrite) as folder:
        assert not output.exists() or text == "new"
        (folder / "result.txt").write_text(text)
        write_record(folder, "pocket test", {"path": output, "text": text}, seed=3, seconds=1.23456)


def test_folder_appears_complete_with_its_record(tmp_path):
    output = tmp_path / "a" / "b"
    write_result(output)
    assert {path.name for path in output.iterdir()} == {"result.txt", "run.json"}
    assert {path.name for path in output.parent.iterdir()} == {"b"}
    record = json.loads((output / "run.json").read_text())
    assert record["command"] == "pocket test" and record["seed"] == 3 and record["seconds"] == 1.235
    assert record["inputs"] == {"path": str(output), "text": "new"} and record["files"] == ["result.txt"]
    assert record["versions"]["pocket-diffusers"] == __version__
    assert (output.stat().st_mode & 0o777) == (tmp_path / "a").stat().st_mode & 0o777


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), result_folder(tmp_path / "out") as folder:
        (folder / "half.txt").write_text("half")
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    write_result(tmp_path / "out")
    assert (tmp_path / "out" / "result.txt").read_text() == "new"


def test_an_earlier_result_is_replaced_whole_when_allowed(tmp_path):
    output = tmp_path / "out"
    write_result(output, "old")
    (output / "stale.txt").write_text("from before")
    with pytest.raises(FileExistsError, match="earlier result"):
        write_result(output)
    assert (output / "result.txt").read_text() == "old"
    write_result(output, overwrite=True)
    assert {path.name for path in output.iterdir()} == {"result.txt", "run.json"}
    assert (output / "result.txt").read_text() == "new"
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_an_error_keeps_the_earlier_result(tmp_path):
    output = tmp_path / "out"
    write_result(output, "old")
    with pytest.raises(ZeroDivisionError), result_folder(output, overwrite=True):
        _ = 1 / 0
    assert (output / "result.txt").read_text() == "old"


@pytest.mark.parametrize("overwrite", [False, True])
def test_foreign_files_are_never_touched(tmp_path, overwrite):
    output = tmp_path / "thesis"
    output.mkdir()
    (output / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match="thesis.*no earlier result"):
        write_result(output, overwrite=overwrite)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="file"):
        write_result(tmp_path / "file", overwrite=overwrite)
    assert (output / "thesis.tex").read_text() == (tmp_path / "file").read_text() == "mine"


def test_a_parent_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="output .*file/out' cannot be written: not a directory"):
        write_result(tmp_path / "file" / "out")


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    """A limit on the size of files fails a write in the same place as a full disk."""
    code = """
import resource, sys
from pathlib import Path
from pocket_diffusers.pipelines.result_folder import result_folder

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with result_folder(sys.argv[1]) as folder:
        (folder / "big.txt").write_text("x" * 100_000)
except OSError as error:
    print(error)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == f"output {str(tmp_path / 'out')!r} cannot be written: file too large.\n"
    assert list(tmp_path.iterdir()) == []


def test_hardware_names_the_kind_of_machine_only():
    text = hardware()
    assert "cores" in text and "threads" in text
    assert platform.node() not in text
