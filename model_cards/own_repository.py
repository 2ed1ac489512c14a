"""The files of a user's own weights in a folder for the Hub: what the index names, without places of his machine."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..pipelines.files import read_json, write_json
from ..pipelines.repository import INDEX, without_machine_keys, write_shim
from .machine_places import places_in
from .own_weights import OwnWeights
from .plain_files import copy_plain, refuse_links

_WORD_LISTS = {"vocab.json", "added_tokens.json"}
"""Files of a tokenizer in which a text with slashes is a word that it knows."""


def copy_own(own: OwnWeights, target: Path) -> None:
    """Copies what is published of a folder; the code that loads it is written anew, whatever lies there.

    Args:
        own: the weights.
        target: the new folder.

    Raises:
        FileNotFoundError: when something is missing.
        ValueError: for a link, a pickle, a damaged file, or one that names a place of this machine.
        OSError: when something cannot be read or written.
    """
    for path in own.files():
        refuse_links(path)
        copy = target / path.relative_to(own.folder)
        if path.suffix == ".json":
            _copy_json(path, copy)
            continue
        if path.suffix == ".safetensors":
            _refuse_places(path, _metadata(path))
        copy_plain(path, copy)
    write_shim(own.pipeline, target)


def _copy_json(path: Path, copy: Path) -> None:
    content = read_json(path)
    kept = without_machine_keys(content) if path.name.endswith("config.json") or path.name == INDEX else content
    _refuse_places(path, _without_words(path.name, kept))
    if kept == content:
        copy_plain(path, copy)
    else:
        write_json(copy, kept)


def _without_words(name: str, content: Any) -> Any:
    """The file of a tokenizer without the words that it knows."""
    if name in _WORD_LISTS:
        return None
    if name == "tokenizer.json" and isinstance(content, dict):
        return {key: value for key, value in content.items() if key != "model"}
    return content


def _metadata(path: Path) -> dict[str, str] | None:
    try:
        with safe_open(path, framework="numpy") as tensors:
            return tensors.metadata()
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or no safetensors file: {error}.") from None


def _refuse_places(path: Path, content: Any) -> None:
    for place in places_in(content):
        raise ValueError(f"{path} names {place!r}, a place on one machine: take it out before you publish.")
