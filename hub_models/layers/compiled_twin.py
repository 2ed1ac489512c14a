"""Builds the C++ twin of a torch function at first use.

A twin is one C++ file with a C interface, called through ctypes, so that neither Python's headers nor a build system is
needed. The torch form beside it is its oracle, and serves where no compiler is.
"""

import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC", "-pthread")
SWITCH = "POCKET_COMPILED"  # "0" keeps to the torch form


@functools.cache
def compiled_twin(source: Path) -> ctypes.CDLL | None:
    """The functions of a C++ file, built by g++ at first use and kept by the hash of source, compiler and processor.

    Args:
        source: a C++ file whose exported functions are `extern "C"`.

    Returns:
        The loaded library; None where there is no g++ or the environment variable POCKET_COMPILED is "0". A build that
        fails warns once and gives None as well.
    """
    compiler = shutil.which("g++")
    if compiler is None or os.environ.get(SWITCH) == "0":
        return None
    library = _folder() / f"{source.stem}-{_digest(source, compiler)}.so"
    try:
        if not library.is_file():
            _build(source, compiler, library)
        return ctypes.CDLL(str(library))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        warnings.warn(f"{source.name} could not be built, so its slower torch form serves: {reason}", stacklevel=2)
        return None


def _folder() -> Path:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "pocket_diffusers" / "compiled"


def _digest(source: Path, compiler: str) -> str:
    """Of all that decides what the library holds; a home that several machines share keeps one for each processor."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    parts = (*_texts(source), " ".join(FLAGS), version, platform.machine(), _processor())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _texts(source: Path) -> list[str]:
    """Of the file and of those of ours that it includes."""
    text = source.read_text(encoding="utf-8")
    included = re.findall(r'^#include "(.+)"$', text, re.MULTILINE)
    return [text, *(part for name in included for part in _texts(source.parent / name))]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def _build(source: Path, compiler: str, library: Path) -> None:
    library.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        draft = Path(scratch) / library.name
        subprocess.run([compiler, *FLAGS, str(source), "-o", str(draft)], check=True, capture_output=True, text=True)
        draft.replace(library)
