"""Weights of a model in safetensors files: read tensor by tensor, and written shard by shard as tensors come."""

import ctypes
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .files import write_json
from .repository import PICKLES, component_weights, read_shapes

STEM = "diffusion_pytorch_model"
SHARD_BYTES = 1_000_000_000
_VARIANT = re.compile(rf"{STEM}\.(?!safetensors)([^.]+?)(?:-\d+-of-\d+)?\.safetensors")


def find_weights(folder: Path, model_class: type) -> tuple[list[Path], str | None]:
    """The files of a model's weights, and the variant in their names, such as "fp16", where only one has them.

    Raises:
        FileNotFoundError: there are none, or one of several is missing.
        ValueError: they are pickles, or the index of several is damaged.
    """
    names = sorted(path.name for path in folder.iterdir())
    plain = any(re.fullmatch(rf"{STEM}(-\d+-of-\d+)?\.safetensors(\.index\.json)?", name) for name in names)
    variants = [] if plain else [match[1] for name in names if (match := _VARIANT.fullmatch(name))]
    variant = variants[0] if variants else None
    try:
        return component_weights(folder, model_class, variant), variant
    except FileNotFoundError:
        pickles = [name for name in names if Path(name).suffix.lower() in PICKLES]
        if plain or variants or not pickles:
            raise
        what = "is a pickle, which can run code when it is loaded: only safetensors is accepted"
        raise ValueError(f"{folder / pickles[0]} {what}.") from None


def weight_shapes(files: list[Path]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of several safetensors files, which are checked as `read_shapes` does."""
    return {key: shape for file in files for key, shape in read_shapes(file).items()}


def read_tensors(files: list[Path], wanted: Collection[str] | None = None) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors, one after the other, of which none stays in memory that its user does not keep.

    Args:
        files: that hold them.
        wanted: names of those to read; all where it is not given.

    Raises:
        ValueError: a file is damaged, or a tensor is NaN or infinite, naming it.
    """
    for file in files:
        for key in read_shapes(file):
            if wanted is not None and key not in wanted:
                continue
            tensor = _read(file, key)
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                odd = float(tensor.float()[~tensor.float().isfinite()][0])
                raise ValueError(f"{file}: tensor {key} must be finite, not {odd}.")
            yield key, tensor
            del tensor
            _return_freed_memory()


def _read(file: Path, key: str) -> Tensor:
    """A tensor of a file that is opened for it alone: an open one keeps what it has mapped."""
    try:
        with safe_open(file, framework="pt") as opened:
            return opened.get_tensor(key)
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged: {error}.") from None


def _return_freed_memory() -> None:
    """Gives the system what glibc would keep of freed layers, between whose gaps the next ones do not fit.

    Without it, a model of 256 MB that was packed into 35 took up to 230.
    """
    if os.name == "posix":
        getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)(0)


class ShardWriter:
    """Writes tensors to files that diffusers reads, of which it never holds more than one in memory.

    Args:
        folder: for the files.
        variant: in their names, such as "fp16".
        shard_bytes: at most this many bytes of tensors in a file, unless one tensor has more.
    """

    def __init__(self, folder: Path, variant: str | None = None, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder, self._shard_bytes = folder, shard_bytes
        self._stem, self._tag = (f"{STEM}.{variant}", f".{variant}") if variant else (STEM, "")
        self._held: dict[str, Tensor] = {}
        self._shards: list[list[str]] = []
        self._held_bytes = self._bytes = 0

    def add(self, key: str, tensor: Tensor) -> None:
        """Takes a tensor, after writing those before it where a file is full."""
        if self._held and self._held_bytes + tensor.nbytes > self._shard_bytes:
            self._write()
        self._held[key] = tensor
        self._held_bytes += tensor.nbytes

    def finish(self) -> int:
        """Writes what is left and, where there are several files, their index; returns the bytes of these files."""
        self._write()
        count = len(self._shards)
        names = [f"{self._stem}-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
        names = names if count > 1 else [f"{self._stem}.safetensors"]
        for number, name in enumerate(names):
            self._draft(number).rename(self._folder / name)
        if count > 1:
            files = {key: name for name, keys in zip(names, self._shards, strict=True) for key in keys}
            index = {"metadata": {"total_size": self._bytes}, "weight_map": files}
            write_json(self._folder / f"{STEM}.safetensors.index{self._tag}.json", index, sort_keys=True)
        return sum((self._folder / name).stat().st_size for name in names)

    def _write(self) -> None:
        save_file(self._held, self._draft(len(self._shards)), metadata={"format": "pt"})
        self._shards.append(list(self._held))
        self._bytes += self._held_bytes
        self._held, self._held_bytes = {}, 0

    def _draft(self, number: int) -> Path:
        return self._folder / f"shard-{number}.safetensors"
