"""The wheel: from the checkout, and again from what it installed, with the same content."""

import base64
import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pocket_diffusers import __version__
from pocket_diffusers.model_cards import wheel as wheel_module
from pocket_diffusers.model_cards.wheel import WHEEL, build_wheel

ROOT = Path(wheel_module.__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("this is no checkout")
    return build_wheel(tmp_path_factory.mktemp("built"))


def content(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_built_from_the_checkout(built):
    assert built.name == WHEEL == f"pocket_diffusers-{__version__}-py3-none-any.whl"
    found = content(built)
    assert found["pocket_diffusers/cli.py"] == (ROOT / "cli.py").read_bytes()
    assert not [name for name in found if "/tests/" in name or "/outputs/" in name]


def test_made_again_from_what_it_installed(built, tmp_path):
    site, again = tmp_path / "site", tmp_path / "again"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, built]
    subprocess.run(pip, check=True, capture_output=True)
    code = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pocket_diffusers.model_cards import wheel
assert wheel.__file__.startswith(sys.argv[1]), wheel.__file__
print(wheel.build_wheel(Path(sys.argv[2])))
"""
    run = subprocess.run([sys.executable, "-c", code, site, again], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    path = Path(run.stdout.strip())
    assert path.name == built.name and [entry.name for entry in again.iterdir()] == [path.name]
    old, new = content(built), content(path)
    records = [{name: files.pop(name) for name in list(files) if name.endswith("/RECORD")} for files in (old, new)]
    assert old == new
    ((_, record),) = records[1].items()
    listed = {name: digest for name, digest, _ in csv.reader(io.StringIO(record.decode()))}
    assert listed.keys() == new.keys() | records[1].keys()
    for name, data in new.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        assert listed[name] == f"sha256={digest}"


def test_same_files_make_the_same_bytes(built, tmp_path):
    assert build_wheel(tmp_path).read_bytes() == built.read_bytes()


def test_neither_checkout_nor_wheel(monkeypatch, tmp_path):
    monkeypatch.setattr(wheel_module, "_installed", lambda: None)
    monkeypatch.setattr(wheel_module, "_ROOT", tmp_path)
    with pytest.raises(OSError, match="neither a checkout nor an installed wheel"):
        build_wheel(tmp_path)


def test_failed_build_says_why(monkeypatch, tmp_path):
    monkeypatch.setattr(wheel_module, "_ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project\n")
    with pytest.raises(OSError, match=r"the wheel cannot be built: .*setuptools>=77"):
        build_wheel(tmp_path / "out")
