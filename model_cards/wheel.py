"""The wheel of this package: built from the checkout, or put together again from the files that a wheel installed."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from .. import WHEEL
from ..pipelines.files import whole_file
from .plain_files import copy_plain

NAME = "pocket-diffusers"
HUB = "https://huggingface.co"
"""Address of the Hub in published files, whatever mirror HF_ENDPOINT names for this machine alone."""
PACKAGE = __package__.split(".")[0]
_ROOT = Path(__file__).parents[1]
_LEFT_BY_PIP = {"INSTALLER", "REQUESTED", "direct_url.json", "RECORD"}
_NOT_IN_WHEELS = shutil.ignore_patterns(
    ".*", "build", "dist", "outputs", "shared", "tests", "__pycache__", "*.egg-info", "*.partial", "node_modules"
)
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)
_EPOCH = "315532800"  # the same time in seconds, for the build: a wheel of the same files has the same bytes


def wheel_address(repository: str) -> str:
    """What `pip install` is told in published files: the wheel that lies in the same repository of the Hub.

    No index of packages is asked: whoever takes the package's name there could put anything under it.

    Args:
        repository: "owner/name", with "spaces/" before it for a Space; or a name without owner, of weights on a disk.

    Returns:
        The address there; without an owner the bare name of the file, which pip looks for on the disk only.
    """
    return f"{HUB}/{repository}/resolve/main/{WHEEL}" if "/" in repository else WHEEL


def install_words(repository: str, private: bool = False) -> str:
    """How a reader of a card installs this package, as comments of code: from the wheel in the same repository.

    Args:
        repository: as `wheel_address` takes it.
        private: whether the Hub wants a login, which pip does not send, before it hands out the wheel.
    """
    if not private:
        return f"# pip install {wheel_address(repository)}"
    return (
        "# this repository is private and pip does not log in: fetch the wheel after `hf auth login`, then install it\n"
        f"# hf download {repository} {WHEEL} --local-dir .\n"
        f"# pip install ./{WHEEL}"
    )


def build_wheel(folder: Path) -> Path:
    """Puts the wheel of this package into a folder.

    Where a wheel was installed, its files make it again, and nothing else is needed. In a checkout setuptools
    builds it from a copy; it leaves nothing behind there.

    Returns:
        Path of the wheel.

    Raises:
        OSError: when neither way is open, or the wheel cannot be written; with what to do.
        ValueError: for a link in the checkout.
    """
    folder.mkdir(parents=True, exist_ok=True)
    installed = _installed()
    if installed is not None:
        return _repack(installed, folder)
    if (_ROOT / "pyproject.toml").is_file():
        return _build(folder)
    raise OSError(f"{_ROOT} is neither a checkout nor an installed wheel, so there is nothing to make a wheel of.")


def _installed() -> Distribution | None:
    """The distribution whose files are the ones that run here; None for an editable one."""
    try:
        found = distribution(NAME)
    except PackageNotFoundError:
        return None
    init = next((file for file in found.files or [] if str(file) == f"{PACKAGE}/__init__.py"), None)
    same = init is not None and Path(found.locate_file(init)).resolve() == (_ROOT / "__init__.py").resolve()
    return found if same else None


def _repack(installed: Distribution, folder: Path) -> Path:
    kept = sorted(
        (file for file in installed.files or [] if _belongs(PurePosixPath(str(file)))),
        key=lambda file: (".dist-info/" in str(file), str(file)),
    )
    info = f"{NAME.replace('-', '_')}-{installed.version}"
    path = folder / f"{info}-{_tag(installed)}.whl"
    record = []
    with whole_file(path) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in kept:
            content = Path(installed.locate_file(file)).read_bytes()
            _write(archive, str(file), content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{file},sha256={digest},{len(content)}")
        name = f"{info}.dist-info/RECORD"
        _write(archive, name, "\n".join([*record, f"{name},,", ""]).encode())
    return path


def _belongs(file: PurePosixPath) -> bool:
    """Whether a file came with the wheel; scripts and caches were made when it was installed."""
    made_here = ".." in file.parts or file.suffix == ".pyc"
    return not made_here and not (file.parent.suffix == ".dist-info" and file.name in _LEFT_BY_PIP)


def _tag(installed: Distribution) -> str:
    lines = (installed.read_text("WHEEL") or "").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("Tag:")), "py3-none-any")


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _FIXED_TIME)
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o100644 << 16
    archive.writestr(entry, content)


def _build(folder: Path) -> Path:
    code = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "checkout"
        copy_plain(_ROOT, copy, _NOT_IN_WHEELS)
        result = subprocess.run(
            [sys.executable, "-c", code, str(folder.resolve())],
            capture_output=True,
            text=True,
            cwd=copy,
            env=os.environ | {"SOURCE_DATE_EPOCH": _EPOCH, "PYTHONPATH": ""},
        )
    if result.returncode:
        reason = (result.stderr.strip() or "it said nothing").splitlines()[-1]
        raise OSError(f"the wheel cannot be built: {reason}. It needs `pip install 'setuptools>=77'` in a checkout.")
    return folder / result.stdout.strip().splitlines()[-1]
