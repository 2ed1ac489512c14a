"""Weights as `torch.save` pickles them, read without trusting them.

Weights of this package are safetensors. Those of text-to-motion research, of Guo et al.'s evaluator and of MoMask, are
published as pickles only.
"""

import pickletools
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

GLOBALS = {
    "collections OrderedDict",
    "collections Counter",  # in the state of a scheduler, beside MoMask's weights
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(f"torch {kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Bool")),
}
"""All that a pickle of state dicts names. Some of what else torch accepts can ask for memory without end."""
OTHER_CALLS = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}

Shapes = Mapping[str, Sequence[int]]


def read_pickled_weights(path: str | Path, wanted: Mapping[str, Shapes]) -> dict[str, dict[str, Tensor]]:
    """State dicts out of a file of `torch.save`, as float32 tensors of their own.

    Nothing in the file is run, and nothing is allocated beyond what is wanted: the archive must be stored plainly and
    whole, its pickle may only name tensors, and tensors are mapped from the disk until their shapes are known to be
    right.

    Args:
        path: of a file that torch 1.6 or later has written.
        wanted: by the name of each state dict in the file, the shapes of all its tensors. What else the file holds,
            such as the state of an optimizer, is left alone.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, or a tensor is missing, unknown, of another shape, or not finite.
    """
    path, found = Path(path), {}
    saved = load_pickle(path)
    for part, shapes in wanted.items():
        if not isinstance(saved, dict) or not isinstance(saved.get(part), dict):
            raise _refusal(path, f"it holds no state dict {part!r}")
        _check_names(path, part, saved[part], shapes)
        found[part] = {name: _own_tensor(path, f"{part}.{name}", saved[part][name], shapes[name]) for name in shapes}
    return found


def load_pickle(path: Path) -> Any:
    """What a file of `torch.save` holds, its tensors mapped from the disk, after archive and pickle were looked at.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds more than state dicts and plain values.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file at {str(path)!r}.")
    _check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever a damaged pickle makes of torch's reader
        raise _refusal(path, f"torch cannot read it ({_first_line(error)})") from error


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
                raise _refusal(path, "its entries are compressed or encrypted, as torch never writes them")
            if sum(entry.file_size for entry in entries) > path.stat().st_size:
                raise _refusal(path, "its entries claim to be larger than the file")
            if len({entry.filename for entry in entries}) < len(entries):
                raise _refusal(path, "two of its entries have one name")
            if damaged := archive.testzip():
                raise _refusal(path, f"its entry {damaged!r} is damaged")
            pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise _refusal(path, f"it holds {len(pickles)} entries data.pkl and not 1")
            pickled = archive.read(pickles[0])
    except _Refusal:
        raise
    except Exception as error:  # zipfile has an error of its own for each way to be damaged
        raise _refusal(path, f"it is no whole zip archive ({_first_line(error)})") from error
    _check_pickle(path, pickled)


def _check_pickle(path: Path, pickled: bytes) -> None:
    try:
        calls = [(code.name, argument) for code, argument, _ in pickletools.genops(pickled)]
    except Exception as error:
        raise _refusal(path, f"its pickle is damaged ({_first_line(error)})") from error
    for code, argument in calls:
        if code in OTHER_CALLS or (code == "GLOBAL" and argument not in GLOBALS):
            asked = code if argument is None else str(argument).replace(" ", ".")
            raise _refusal(path, f"its pickle asks for {asked}, which is no tensor")


def _check_names(path: Path, part: str, saved: Mapping[Any, Any], shapes: Shapes) -> None:
    missing, unknown = shapes.keys() - saved.keys(), saved.keys() - shapes.keys()
    for names, complaint in ((missing, "is missing"), (unknown, "is unknown")):
        if names:
            raise _refusal(path, f"{part}.{min(map(str, names))} {complaint}")


def _own_tensor(path: Path, name: str, tensor: Any, shape: Sequence[int]) -> Tensor:
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        raise _refusal(path, f"{name} is no tensor of floating point numbers")
    if list(tensor.shape) != list(shape):
        raise _refusal(path, f"{name} is {list(tensor.shape)} and not {list(shape)}")
    own = tensor.detach().to(torch.float32, copy=True).contiguous()
    if not own.isfinite().all():
        raise _refusal(path, f"{name} holds NaN or infinity")
    return own


class _Refusal(ValueError):
    pass


def _refusal(path: Path, reason: str) -> _Refusal:
    return _Refusal(f"{str(path)!r} must be a file of state dicts that torch.save has written, but {reason}.")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(". ")[:120]
