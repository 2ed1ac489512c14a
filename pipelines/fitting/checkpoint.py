"""A folder of safetensors and JSON that says by itself whether it is whole: SHA256SUMS is written last."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..files import sha256

SUMS = "SHA256SUMS"


def save_tensors(file: Path, tensors: dict[str, Tensor]) -> None:
    """Writes a safetensors file; the tensors may be on any device, share memory or have any layout."""
    save_file({name: separate(tensor) for name, tensor in tensors.items()}, file)


def save_tree(stem: Path, tree: Any) -> None:
    """Writes nested dicts and lists of tensors, numbers, strings and None as `<stem>.json` and `<stem>.safetensors`."""
    tensors: dict[str, Tensor] = {}
    Path(f"{stem}.json").write_text(json.dumps(detach_tensors(tree, tensors)))
    save_tensors(Path(f"{stem}.safetensors"), tensors)


def load_tree(stem: Path) -> Any:
    """What `save_tree` wrote; tuples come back as lists."""
    return attach_tensors(json.loads(Path(f"{stem}.json").read_text()), load_file(f"{stem}.safetensors"))


def seal(folder: Path) -> None:
    """Writes SHA256SUMS (as `sha256sum -c` reads it) over all files of `folder`, and forces everything to disk."""
    lines = [f"{sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in files_of(folder)]
    (folder / SUMS).write_text("".join(lines))
    for file in files_of(folder):
        synchronise(file)
    synchronise(folder)


def damaged_file(folder: Path) -> Path | None:
    """The first file of a sealed folder that is missing or differs from what was sealed; None if all is well."""
    try:
        lines = (folder / SUMS).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return folder / SUMS
    for digest, _, name in (line.partition("  ") for line in lines):
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            return folder / name
    return None if lines else folder / SUMS


def digest_of_tensors(tensors: Iterable[Tensor]) -> str:
    """One sha256 over the values of tensors, to tell the data of one run from those of another."""
    content = hashlib.sha256()
    for tensor in tensors:
        content.update(tensor.detach().cpu().contiguous().numpy())
    return content.hexdigest()


def detach_tensors(tree: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    if isinstance(tree, Tensor):
        tensors[path] = tree
        return {"tensor": path}
    if isinstance(tree, dict):
        return {"items": [[key, detach_tensors(value, tensors, f"{path}/{key}")] for key, value in tree.items()]}
    if isinstance(tree, (list, tuple)):
        return [detach_tensors(value, tensors, f"{path}/{index}") for index, value in enumerate(tree)]
    return tree


def attach_tensors(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(tree, dict) and "tensor" in tree:
        return tensors[tree["tensor"]]
    if isinstance(tree, dict):
        return {key: attach_tensors(value, tensors) for key, value in tree["items"]}
    if isinstance(tree, list):
        return [attach_tensors(value, tensors) for value in tree]
    return tree


def separate(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous(memory_format=torch.contiguous_format)


def files_of(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def synchronise(path: Path) -> None:
    """Forces a file or a folder's list of names to disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
